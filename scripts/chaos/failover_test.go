package chaos

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scripts/chaos/ledger"
)

// TestC08Confirmed: the link from master to replica swallows what it is given, and then
// the master dies and Sentinel makes the replica the master: with --durability=replica
// nothing that was acknowledged is lost, and while no replica confirms, nothing is
// acknowledged.
func TestC08Confirmed(t *testing.T) {
	t.Parallel()
	f, lost := failover(scenario(t, "C8"), "--durability=replica")
	lost.Acknowledged = true
	unsure, done := 0, 0
	for _, e := range f.journal.Events() {
		switch {
		// What had come to the replica may be answered a moment later.
		case e.Sent.Before(lost.To.Add(100*time.Millisecond)) || e.Sent.After(lost.At):
		case e.Result == ledger.Unknown:
			unsure++
		case e.Result == ledger.Done:
			done++
			t.Errorf("%s was acknowledged, which no replica had: sent at %s, answered at %s", e.Key, e.Sent, e.Answered)
		}
	}
	t.Logf("while no replica confirmed, %d were not acknowledged, %d were", unsure, done)
	if unsure == 0 {
		t.Error("nothing was asked for while no replica confirmed: this has shown nothing")
	}
	f.failedOver(lost)
}

// TestC08Unconfirmed: the same without. What was acknowledged meanwhile is lost, as
// FAULTS and the README say, and nothing else is; and each replica says how much.
func TestC08Unconfirmed(t *testing.T) {
	t.Parallel()
	f, lost := failover(scenario(t, "C8"))
	if v := f.failedOver(lost); v.Undone == 0 {
		t.Error("no plan is gone: this has shown nothing")
	}
}

// sentinelFleet is a fleet on a master that sentinels watch.
type sentinelFleet struct {
	*fleet
	redis   *redistest.Sentinel
	load    *load
	creates *creates
}

// failover starts a fleet on a master and a replica, cuts the link between them, and kills
// the master some seconds later. It returns what was lost, at most, when there is another
// master, and the old one is its replica.
func failover(s *trial, args ...string) (*sentinelFleet, ledger.Rollback) {
	t := s.t
	t.Helper()
	// Sentinels point a replica at its master again that follows another address, after
	// their time for a failover. Where much else runs a server may not answer for a second
	// and be no less alive.
	r := redistest.StartSentinel(t, 1, "appendonly yes", "sentinel failover-timeout mymaster 10000", "sentinel down-after-milliseconds mymaster 2500")
	args = append(args, "--driver=redis", fmt.Sprintf("--driver-redis-server-id=0-%d", shards-1),
		"--driver-redis-sentinel-master="+r.MasterName, "--driver-redis-sentinel-addrs="+strings.Join(r.SentinelAddrs(), ","))
	f := &sentinelFleet{fleet: newFleetOn(s, nil, args...), redis: r}
	f.shards = shards
	f.startAll("a", "b", "c")
	f.led(1)
	f.load = newLoad(f.fleet, pick3(600, 1_500, 6_000), pick3(20*time.Second, 22*time.Second, 60*time.Second))
	f.creates = newCreates(f.fleet, "stream", f.load.end.Add(-5*time.Second))

	master, replica := r.Servers[0], r.Servers[1]
	link := redistest.NewProxy(t, master.Addr)
	redistest.Do(t, replica.Addr, "REPLICAOF", "127.0.0.1", link.Port())
	eventually(t, "the replica to follow through the proxy", 20*time.Second, func() bool {
		text, _ := redistest.Do(t, replica.Addr, "INFO", "replication").(string)
		return strings.Contains(text, "master_port:"+link.Port()+"\r\n") && strings.Contains(text, "master_link_status:up")
	})
	f.event("the replica follows")
	time.Sleep(time.Second + time.Duration(f.rand.IntN(1000))*time.Millisecond)
	lost := ledger.Rollback{To: time.Now()}
	link.Hold()
	f.event("the link between master and replica swallows what it is given")
	time.Sleep(2*time.Second + time.Duration(f.rand.IntN(2000))*time.Millisecond)
	master.Kill()
	lost.At = time.Now()
	f.event("the master is killed")
	if next := r.WaitFailover(master); next != replica {
		t.Fatalf("%s is the master, want the replica", next.Addr)
	}
	f.event("the replica is the master, %s after the death", time.Since(lost.At).Round(time.Millisecond))
	link.Close()
	master.Restart()
	r.WaitOK()
	if next := r.Master(); next != replica {
		t.Fatalf("%s is the master, want the replica still: the sentinels have failed over again", next.Addr)
	}
	f.event("the old master follows")
	return f, lost
}

// failedOver judges what came of it.
func (f *sentinelFleet) failedOver(lost ledger.Rollback) *ledger.Verdict {
	t := f.t
	t.Helper()
	stored := f.creates.wait()
	v := f.judge(ledger.Rules{Until: f.load.wait(), MaxLate: anyLate, Rollbacks: []ledger.Rollback{lost}}, 30*time.Second)
	f.notLogged(rescued)
	f.terms(lost)
	f.doctor()
	t.Logf("%d stored meanwhile: %s", stored, v)
	f.saidLost(lost, 3)
	if v.RolledBack == 0 {
		t.Error("nothing fired again: this has shown nothing")
	}
	return v
}
