package chaos

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scripts/chaos/ledger"
)

// clusterShards is how many shards a fleet on a Cluster has: some on each master.
const clusterShards = 8

// clusterFleet is a fleet on a Redis Cluster of three masters with a replica each.
type clusterFleet struct {
	*fleet
	cluster *redistest.Cluster
	flushed int
}

// slot is the slot of a shard.
func slot(shard int) int { return redistest.Slot(fmt.Sprintf("forsun:{%d}:leader", shard)) }

// TestC09Cluster: while plans fire, are stored, replaced and removed, the slot of a
// shard is moved to another node and back, a master hands over to its replica, a
// master is killed and comes back, and every node forgets its scripts each second.
// Nothing is lost, and nothing runs twice but what the killed master had not told its
// replica.
func TestC09Cluster(t *testing.T) {
	t.Parallel()
	s := scenario(t, "C9")
	cluster := redistest.StartCluster(t, 3, 1, "appendonly yes")
	f := &clusterFleet{cluster: cluster, fleet: newFleetOn(s, nil, "--driver=redis", "--durability=replica",
		fmt.Sprintf("--driver-redis-server-id=0-%d", clusterShards-1), "--driver-redis-cluster="+strings.Join(cluster.Addrs(), ","))}
	f.shards = clusterShards
	f.startAll("a", "b", "c")
	f.led(1)
	defer f.forgetScripts()()
	l := newLoad(f.fleet, pick3(600, 2_000, 6_000), pick3(25*time.Second, 28*time.Second, 60*time.Second))
	c := newCreates(f.fleet, "stream", l.end.Add(-5*time.Second))

	time.Sleep(time.Duration(f.rand.IntN(1000)) * time.Millisecond)
	shard := f.rand.IntN(clusterShards)
	home := cluster.ShardOf(slot(shard))
	away := (home + 1 + f.rand.IntN(2)) % 3
	f.move(shard, away)
	f.move(shard, home)

	node := f.rand.IntN(3)
	f.event("the master of node %d hands over", node)
	cluster.Failover(node)
	f.event("it has")

	time.Sleep(time.Second + time.Duration(f.rand.IntN(1000))*time.Millisecond)
	node = f.rand.IntN(3)
	master, replicas := cluster.Shard(node)
	master.Kill()
	killed := time.Now()
	f.event("the master of node %d is killed", node)
	// Redis replicates after it has answered: what of claims was under way is not there.
	lost := ledger.Rollback{To: killed.Add(-time.Second), At: killed, Acknowledged: true}
	cluster.WaitOK()
	f.event("its replica has taken its place, %s after its death", time.Since(killed).Round(time.Millisecond))
	if next, _ := cluster.Shard(node); next != replicas[0] {
		t.Errorf("%s is the master, want %s", next.Addr, replicas[0].Addr)
	}
	master.Restart()
	cluster.WaitOK()
	f.event("it follows")

	stored := c.wait()
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: anyLate, Rollbacks: []ledger.Rollback{lost}}, 30*time.Second)
	f.notLogged(rescued)
	f.terms(lost)
	f.doctor()
	t.Logf("%d stored meanwhile: %s", stored, v)
}

// move moves the slot of a shard to another node, over about two seconds in which some of
// its keys are here and some are there.
func (f *clusterFleet) move(shard, to int) {
	f.t.Helper()
	m := f.cluster.StartMove(slot(shard), to)
	f.event("shard %d begins to move to node %d", shard, to)
	moved := 0
	for began := time.Now(); ; {
		n := 20
		if time.Since(began) > 2*time.Second {
			n = 500
		}
		n = m.Keys(n)
		if moved += n; n == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	m.Finish()
	f.event("shard %d is on node %d, with %d keys", shard, to, moved)
}

// forgetScripts flushes the scripts of every node each second, until what it returns is
// called.
func (f *clusterFleet) forgetScripts() (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	addrs := f.cluster.Addrs()
	running.Go(func() {
		ticks := time.NewTicker(time.Second)
		defer ticks.Stop()
		for {
			for _, addr := range addrs {
				if _, err := redistest.Try(addr, "SCRIPT", "FLUSH"); err == nil { // one is dead for a while
					f.flushed++
				}
			}
			select {
			case <-done:
				return
			case <-ticks.C:
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
		f.t.Logf("scripts were flushed %d times", f.flushed)
		if f.flushed < 6*10 {
			f.t.Error("that is not each second on every node")
		}
	}
}
