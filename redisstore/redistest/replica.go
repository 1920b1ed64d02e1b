package redistest

import (
	"fmt"
	"testing"
)

// replicationUser is who replicas are to their masters, in all servers of this
// package: so that a master can turn them away, and nobody else.
const replicationUser = "replication"

// replicationConf are the lines for replication; a replica may become a master,
// so that all have all of them.
func replicationConf() []string {
	return []string{
		"user " + replicationUser + " on >" + replicationUser + " +psync +replconf +ping",
		"masteruser " + replicationUser,
		"masterauth " + replicationUser,
		"repl-diskless-sync-delay 0",
		// Without a file a replica whose link is up may hear nothing for 1 s more:
		// until it tells its master the second time that it is ready.
		"repl-diskless-sync no",
	}
}

// StartReplica runs a replica of a server, with the given lines added to its
// configuration, and waits until it is in step. It takes about 0.1 s; more
// replicas of one server are more calls.
//
// Killed or paused, it is missed by a WAIT; a server that was paused has lost
// nothing, for what was sent to it waits in the sockets. To separate both while
// both live, see CutReplication, or let the replica come through a Proxy in front
// of its master: "replicaof 127.0.0.1 <port of the proxy>" in conf.
func StartReplica(t testing.TB, of *Server, conf ...string) *Server {
	t.Helper()
	s := Start(t, append([]string{fmt.Sprintf("replicaof 127.0.0.1 %d", of.Port)}, conf...)...)
	s.WaitReplication()
	return s
}

// WaitReplication waits until this replica's link to its master is up.
func (s *Server) WaitReplication() {
	s.t.Helper()
	eventually(s.t, s.Addr+" in step with its master", func() error {
		link, err := info(s.Addr, "replication", "master_link_status")
		if err == nil && link != "up" {
			err = fmt.Errorf("the link is %s", link)
		}
		return err
	})
}

// CutReplication separates this server from its replicas, while clients,
// sentinels and the cluster's bus reach all of them: what is written to it from
// now on is lost if a replica takes its place. It has no password for that.
func (s *Server) CutReplication() {
	s.t.Helper()
	Do(s.t, s.Addr, "ACL", "SETUSER", replicationUser, "off")
	Do(s.t, s.Addr, "CLIENT", "KILL", "TYPE", "replica")
}

// HealReplication lets replicas come back; they take up to 1 s, see
// WaitReplication.
func (s *Server) HealReplication() {
	s.t.Helper()
	Do(s.t, s.Addr, "ACL", "SETUSER", replicationUser, "on")
}
