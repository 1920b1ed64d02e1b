package redistest

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Slots is how many hash slots a Redis Cluster has.
const Slots = 16384

// Cluster is a Redis Cluster. Its shard i is what master i and its replicas serve
// at the start; failovers change who is the master, and moved slots what they
// serve.
type Cluster struct {
	// Nodes: the first masters, one of each shard, then their first replicas in
	// the same order, then the second.
	Nodes []*Server

	t       testing.TB
	masters int
	ids     []string // of the nodes, as the cluster knows them
}

// StartCluster runs a Redis Cluster of masters and, for each, replicasPerMaster,
// with the given lines added to the configuration of every node, and waits until
// it serves all slots. Nodes are taken for dead after 1 s and replicas never move
// to another master. No password can be set. It takes 2.1 s, of which 2 s are a
// constant of redis-server; share one between subtests.
//
// A node is killed and started again with the methods of its Server, and the
// cluster is waited for with WaitOK. Without "appendonly yes" a master that is
// started again is empty.
func StartCluster(t testing.TB, masters, replicasPerMaster int, conf ...string) *Cluster {
	t.Helper()
	if masters < 1 || masters > Slots || replicasPerMaster < 0 {
		t.Fatalf("a cluster of %d masters with %d replicas each; want at least 1 and 0", masters, replicasPerMaster)
	}
	c := &Cluster{t: t, masters: masters}
	for range masters * (1 + replicasPerMaster) {
		c.Nodes = append(c.Nodes, newServer(t))
		c.ids = append(c.ids, nodeID())
	}
	onFreePorts(t, func() error { return c.start(conf) })
	c.WaitOK()
	return c
}

// nodeID returns a name for a node: 40 hexadecimal digits.
func nodeID() string {
	id := make([]byte, 20)
	rand.Read(id) // never fails
	return hex.EncodeToString(id)
}

// start gives every node the state of a cluster that has been formed already, as
// CLUSTER MEET, ADDSLOTSRANGE and REPLICATE would leave it behind, so that
// nothing has to spread by gossip first.
func (c *Cluster) start(conf []string) error {
	nodes := make([]string, len(c.Nodes))
	for i, s := range c.Nodes {
		s.choosePort()
		// By default the bus has the port + 10000, which another server may have.
		bus := FreePort(c.t)
		s.configure(append([]string{
			"cluster-enabled yes",
			fmt.Sprintf("cluster-port %d", bus),
			"cluster-config-file nodes.conf",
			"cluster-node-timeout 1000",
			// Replicas stay where the test put them, and stand for election
			// however long a slow machine has kept them from their master.
			"cluster-allow-replica-migration no",
			"cluster-replica-validity-factor 0",
		}, conf...)...)
		shard, role := i%c.masters, "master -"
		slots := fmt.Sprintf(" %d-%d", Slots*shard/c.masters, Slots*(shard+1)/c.masters-1)
		if i >= c.masters {
			role, slots = "slave "+c.ids[shard], ""
		}
		nodes[i] = fmt.Sprintf("%s %s@%d %s 0 0 %d connected%s", c.ids[i], s.Addr, bus, role, shard+1, slots)
	}
	for i, s := range c.Nodes {
		lines := slices.Clone(nodes)
		for _, role := range []string{" master ", " slave "} {
			lines[i] = strings.Replace(lines[i], role, " myself,"+role[1:], 1)
		}
		s.write("nodes.conf", append(lines, fmt.Sprintf("vars currentEpoch %d lastVoteEpoch 0", c.masters)))
	}
	errs := make([]error, len(c.Nodes))
	var wg sync.WaitGroup
	for i, s := range c.Nodes {
		wg.Go(func() { errs[i] = s.start() })
	}
	wg.Wait()
	err := errors.Join(errs...)
	if err != nil {
		for _, s := range c.Nodes {
			s.Kill()
		}
	}
	return err
}

// Addrs returns the addresses of all nodes, in their order.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.Nodes))
	for i, s := range c.Nodes {
		addrs[i] = s.Addr
	}
	return addrs
}

// WaitOK waits until every running node, not counting paused ones, says that the
// cluster is served; all of them agree on who serves which slot, and it is one of
// them; and the replicas among them are in step with their masters.
func (c *Cluster) WaitOK() {
	c.t.Helper()
	eventually(c.t, "a cluster that is served and of one mind", c.check)
}

// check returns nil if the cluster is as WaitOK wants it.
func (c *Cluster) check() error {
	var first string
	for i, s := range c.Nodes {
		if !s.runs() {
			continue
		}
		reply, err := Try(s.Addr, "CLUSTER", "INFO")
		if err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
		if text := reply.(string); !strings.Contains(text, "cluster_state:ok") || !strings.Contains(text, "cluster_slots_ok:16384") {
			return fmt.Errorf("node %d: %s", i, text)
		}
		view, err := c.view(i)
		if err != nil {
			return err
		}
		owners := fmt.Sprint(view.slots)
		if first == "" {
			first = owners
		}
		if owners != first {
			return fmt.Errorf("node %d sees another owner of a slot than those before it", i)
		}
		for j, ranges := range view.slots {
			if len(ranges) > 0 && !c.Nodes[j].runs() {
				return fmt.Errorf("node %d believes that node %d serves %v, which does not run", i, j, ranges)
			}
		}
		if view.master[i] == "-" {
			continue
		}
		if link, err := info(s.Addr, "replication", "master_link_status"); err != nil || link != "up" {
			return fmt.Errorf("node %d: the link to its master is %q, %v", i, link, err)
		}
	}
	if first == "" {
		return errors.New("no node runs")
	}
	return nil
}

// view is what one node believes.
type view struct {
	master []string   // by node: the id of its master, "-" if it is one
	slots  [][]string // by node: the ranges of slots it serves
}

// view asks node i what it believes. What it has not met, and who is dead in its
// eyes while running, is an error.
func (c *Cluster) view(i int) (view, error) {
	v := view{make([]string, len(c.Nodes)), make([][]string, len(c.Nodes))}
	reply, err := Try(c.Nodes[i].Addr, "CLUSTER", "NODES")
	if err != nil {
		return v, fmt.Errorf("node %d: %w", i, err)
	}
	for line := range strings.Lines(reply.(string)) {
		// id addr flags master ping pong epoch link slot…
		f := strings.Fields(line)
		j := slices.Index(c.ids, f[0])
		if len(f) < 8 || j < 0 {
			return v, fmt.Errorf("node %d knows %q, which is no node of this cluster", i, line)
		}
		if c.Nodes[j].runs() && (strings.Contains(f[2], "fail") || f[7] != "connected") {
			return v, fmt.Errorf("node %d sees node %d as %s, %s", i, j, f[2], f[7])
		}
		v.master[j] = f[3]
		for _, slots := range f[8:] {
			if !strings.HasPrefix(slots, "[") { // [slot->-id]: being moved
				v.slots[j] = append(v.slots[j], slots)
			}
		}
	}
	if j := slices.Index(v.master, ""); j >= 0 {
		return v, fmt.Errorf("node %d does not know node %d", i, j)
	}
	return v, nil
}

// Shard returns the running nodes of shard i: who is a master by its own account
// first. If there is no master, or more than one, it is waited for.
func (c *Cluster) Shard(i int) (master *Server, replicas []*Server) {
	c.t.Helper()
	if i < 0 || i >= c.masters {
		c.t.Fatalf("shard %d of a cluster of %d", i, c.masters)
	}
	eventually(c.t, fmt.Sprintf("one master of shard %d", i), func() error {
		master, replicas = nil, nil
		for j := i; j < len(c.Nodes); j += c.masters {
			s := c.Nodes[j]
			if !s.runs() {
				continue
			}
			switch role, err := info(s.Addr, "replication", "role"); {
			case err != nil:
				return err
			case role != "master":
				replicas = append(replicas, s)
			case master != nil:
				return fmt.Errorf("%s and %s both say that they are", master.Addr, s.Addr)
			default:
				master = s
			}
		}
		if master == nil {
			return errors.New("none says that it is")
		}
		return nil
	})
	return master, replicas
}

// Failover makes the first running replica of shard i its master, losing nothing
// (CLUSTER FAILOVER), waits until all agree, and returns the new master. For the
// other kind of failover kill the master, and wait with WaitOK.
func (c *Cluster) Failover(i int) *Server {
	c.t.Helper()
	_, replicas := c.Shard(i)
	if len(replicas) == 0 {
		c.t.Fatalf("failover: shard %d has no running replica", i)
	}
	next := replicas[0]
	var asked time.Time
	eventually(c.t, fmt.Sprintf("%s as the master of shard %d", next.Addr, i), func() error {
		role, err := info(next.Addr, "replication", "role")
		if err != nil || role == "master" {
			return err
		}
		// The server gives up after 5 s; asked again before, it would start over.
		if time.Since(asked) > 6*time.Second {
			if _, err := Try(next.Addr, "CLUSTER", "FAILOVER"); err != nil {
				return err
			}
			asked = time.Now()
		}
		return errors.New("it is a replica still")
	})
	c.WaitOK()
	return next
}

// id returns what the cluster calls a node.
func (c *Cluster) id(s *Server) string { return c.ids[slices.Index(c.Nodes, s)] }
