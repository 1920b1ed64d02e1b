package redistest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// sentinels is how many watch a master, and sentinelQuorum how many of them have
// to miss it.
const (
	sentinels      = 3
	sentinelQuorum = 2
)

// Sentinel is a master with replicas and three sentinels that watch them.
type Sentinel struct {
	MasterName string    // what clients ask the sentinels for
	Servers    []*Server // the first master, then its replicas
	Sentinels  []*Server

	t testing.TB
}

// StartSentinel runs a master, replicas and three sentinels, and waits until the
// sentinels know all of them and each other. Lines of conf that begin with
// "sentinel " go to the sentinels ("sentinel down-after-milliseconds mymaster
// 3000"), the others to master and replicas.
//
// A master is missed after 1 s, and another takes its place within 1 or 2 more;
// if the sentinels cannot agree, 4 s later.
func StartSentinel(t testing.TB, replicas int, conf ...string) *Sentinel {
	t.Helper()
	if replicas < 0 {
		t.Fatalf("a master with %d replicas; want at least 0", replicas)
	}
	s := &Sentinel{t: t, MasterName: "mymaster"}
	var watch, serve []string
	for _, line := range conf {
		if strings.HasPrefix(line, "sentinel ") {
			watch = append(watch, line)
		} else {
			serve = append(serve, line)
		}
	}
	s.Servers = append(s.Servers, Start(t, serve...))
	for range replicas {
		s.Servers = append(s.Servers, StartReplica(t, s.Servers[0], serve...))
	}
	for range sentinels {
		w := newServer(t)
		w.args, w.listening = []string{"--sentinel"}, "Sentinel ID is"
		s.Sentinels = append(s.Sentinels, w)
	}
	onFreePorts(t, func() error { return s.watch(watch) })
	s.WaitOK()
	return s
}

// watch starts the sentinels as ones that have been running for a while: they
// would find each other and the replicas by themselves, in seconds.
func (s *Sentinel) watch(conf []string) error {
	ids := make([]string, sentinels)
	for i, w := range s.Sentinels {
		w.choosePort()
		ids[i] = nodeID()
	}
	name := s.MasterName
	errs := make([]error, sentinels)
	var wg sync.WaitGroup
	for i, w := range s.Sentinels {
		lines := []string{
			"bind 127.0.0.1",
			fmt.Sprintf("port %d", w.Port),
			"dir " + w.Dir,
			"sentinel myid " + ids[i],
			fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d %d", name, s.Servers[0].Port, sentinelQuorum),
			"sentinel down-after-milliseconds " + name + " 1000",
			"sentinel failover-timeout " + name + " 2000",
		}
		for _, replica := range s.Servers[1:] {
			lines = append(lines, fmt.Sprintf("sentinel known-replica %s 127.0.0.1 %d", name, replica.Port))
		}
		for j, other := range s.Sentinels {
			if j != i {
				lines = append(lines, fmt.Sprintf("sentinel known-sentinel %s 127.0.0.1 %d %s", name, other.Port, ids[j]))
			}
		}
		w.write("redis.conf", append(lines, conf...))
		wg.Go(func() {
			if errs[i] = w.start(); errs[i] == nil {
				errs[i] = hurry(w.Addr)
			}
		})
	}
	wg.Wait()
	err := errors.Join(errs...)
	if err != nil {
		for _, w := range s.Sentinels {
			w.Kill()
		}
	}
	return err
}

// hurry lets a sentinel look at its servers more often than every 10 s, tell the
// others more often than every 2 s, and not rest for 30 s if the machine was
// busy for 2. A sentinel that is started again is as slow as others.
func hurry(addr string) error {
	_, err := Try(addr, "SENTINEL", "DEBUG", "INFO-PERIOD", "500", "PUBLISH-PERIOD", "250",
		"TILT-TRIGGER", "20000", "TILT-PERIOD", "1000")
	return err
}

// SentinelAddrs returns the addresses of the sentinels.
func (s *Sentinel) SentinelAddrs() []string {
	addrs := make([]string, len(s.Sentinels))
	for i, w := range s.Sentinels {
		addrs[i] = w.Addr
	}
	return addrs
}

// Master returns the server that the running sentinels agree is the master, and
// that says so itself if it runs.
func (s *Sentinel) Master() *Server {
	s.t.Helper()
	var master *Server
	eventually(s.t, "one master in the eyes of all sentinels", func() (err error) {
		master, err = s.master()
		return err
	})
	return master
}

func (s *Sentinel) master() (*Server, error) {
	var master *Server
	for _, w := range s.Sentinels {
		if !w.runs() {
			continue
		}
		reply, err := Try(w.Addr, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.MasterName)
		if err != nil {
			return nil, err
		}
		at, _ := reply.([]any)
		i := slices.IndexFunc(s.Servers, func(s *Server) bool { return len(at) == 2 && at[1] == strconv.Itoa(s.Port) })
		if i < 0 {
			return nil, fmt.Errorf("%s says that the master is %v, which is no server of this test", w.Addr, reply)
		}
		if master != nil && master != s.Servers[i] {
			return nil, fmt.Errorf("one says that the master is %s, one %s", master.Addr, s.Servers[i].Addr)
		}
		master = s.Servers[i]
	}
	if master == nil {
		return nil, errors.New("no sentinel runs")
	}
	if !master.runs() {
		return master, nil
	}
	if role, err := info(master.Addr, "replication", "role"); err != nil || role != "master" {
		return nil, fmt.Errorf("%s, which is to be the master, is a %q, %v", master.Addr, role, err)
	}
	return master, nil
}

// WaitFailover waits until another server than old is the master, and returns
// that one.
func (s *Sentinel) WaitFailover(old *Server) *Server {
	s.t.Helper()
	var master *Server
	eventually(s.t, "another master than "+old.Addr, func() (err error) {
		if master, err = s.master(); err == nil && master == old {
			err = errors.New("it is that one still")
		}
		return err
	})
	return master
}

// Failover has the sentinels make a replica the master though nothing is wrong
// with the old one (SENTINEL FAILOVER), and returns it. For the other kind kill
// or pause the master.
func (s *Sentinel) Failover() *Server {
	s.t.Helper()
	old := s.Master()
	i := slices.IndexFunc(s.Sentinels, (*Server).runs)
	if i < 0 {
		s.t.Fatal("failover: no sentinel runs")
	}
	eventually(s.t, "a failover that begins", func() error {
		_, err := Try(s.Sentinels[i].Addr, "SENTINEL", "FAILOVER", s.MasterName)
		return err
	})
	return s.WaitFailover(old)
}

// WaitOK waits until the running sentinels agree on a master that runs, are
// enough to replace it, and see no running server as down, and the running
// replicas are in step with it.
func (s *Sentinel) WaitOK() {
	s.t.Helper()
	eventually(s.t, "a master that is watched", func() error {
		master, err := s.master()
		if err != nil {
			return err
		}
		if !master.runs() {
			return fmt.Errorf("the master is %s, which does not run", master.Addr)
		}
		replicas := 0
		for _, server := range s.Servers {
			if server == master || !server.runs() {
				continue
			}
			replicas++
			port, err := info(server.Addr, "replication", "master_port")
			if err != nil || port != strconv.Itoa(master.Port) {
				return fmt.Errorf("%s follows %s, not %s, %v", server.Addr, port, master.Addr, err)
			}
			if link, err := info(server.Addr, "replication", "master_link_status"); err != nil || link != "up" {
				return fmt.Errorf("%s: the link to its master is %q, %v", server.Addr, link, err)
			}
		}
		for _, w := range s.Sentinels {
			if !w.runs() {
				continue
			}
			if err := s.watched(w, replicas); err != nil {
				return err
			}
		}
		return nil
	})
}

// watched returns nil if a sentinel has enough others and a live view of at least
// as many replicas.
func (s *Sentinel) watched(w *Server, replicas int) error {
	if _, err := Try(w.Addr, "SENTINEL", "CKQUORUM", s.MasterName); err != nil {
		return err
	}
	reply, err := Try(w.Addr, "SENTINEL", "REPLICAS", s.MasterName)
	if err != nil {
		return err
	}
	up := 0
	for _, one := range reply.([]any) {
		fields := one.([]any)
		get := func(name string) string {
			i := slices.Index(fields, any(name))
			value, _ := fields[i+1].(string)
			return value
		}
		if get("flags") == "slave" && get("master-link-status") == "ok" {
			up++
		}
	}
	if up < replicas {
		return fmt.Errorf("sentinel %s sees %d replicas in step, want %d", w.Addr, up, replicas)
	}
	return nil
}
