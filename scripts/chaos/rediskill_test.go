package chaos

import (
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scripts/chaos/ledger"
)

// outage is how long a Redis that was killed stays down.
func (s *trial) outage() time.Duration {
	return 200*time.Millisecond + time.Duration(s.rand.Int64N(int64(pick(500, 2_000))))*time.Millisecond
}

// kill9 kills the Redis, and starts it again after a while. It returns when it died.
func (f *fleet) kill9() time.Time {
	f.t.Helper()
	down := f.outage()
	f.redis.Kill()
	at := time.Now()
	f.event("Redis is killed, for %s", down)
	time.Sleep(time.Until(at.Add(down)))
	f.redis.Restart()
	f.event("Redis answers again")
	return at
}

// unsynced is what Redis may hold back with appendfsync everysec: while a sync is under
// way it answers writes that are not in its file yet, for two seconds at most.
const unsynced = 2 * time.Second

// TestC06RedisKilled: Redis is killed and started again, with an append-only file:
// first one that is synced always, when nothing that was acknowledged is lost, nothing
// runs twice, and nobody is taken for dead; then one that is synced every second.
func TestC06RedisKilled(t *testing.T) {
	t.Parallel()
	f := newFleetOn(scenario(t, "C6"), redistest.Start(t, "appendonly yes", "appendfsync always"))
	f.startAll("a", "b", "c")
	f.spread(1)
	l := newLoad(f, pick3(600, 2_000, 6_000), pick3(10*time.Second, 13*time.Second, 30*time.Second))
	c := newCreates(f, "stream", l.end.Add(-3*time.Second))
	time.Sleep(2*time.Second + time.Duration(f.rand.IntN(1000))*time.Millisecond)
	f.kill9()
	redistest.Do(t, f.redis.Addr, "CONFIG", "SET", "appendfsync", "everysec")
	time.Sleep(2500*time.Millisecond + time.Duration(f.rand.IntN(1000))*time.Millisecond)
	killed := f.kill9()
	everysec := ledger.Rollback{To: killed.Add(-unsynced), At: killed}
	stored := c.wait()
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: anyLate, Rollbacks: []ledger.Rollback{everysec}}, 30*time.Second)
	f.notLogged(rescued)
	f.terms()
	f.doctor()
	t.Logf("%d stored meanwhile: %s", stored, v)
}

// TestC07RedisEmptied: Redis keeps nothing, is killed, and comes back empty. That is said
// at the start, and when it happens, with its size; nothing fires that was lost but by
// who held it already; and the fleet goes on, with what is stored then.
func TestC07RedisEmptied(t *testing.T) {
	t.Parallel()
	f := newFleetOn(scenario(t, "C7"), redistest.Start(t))
	f.startAll("a", "b", "c")
	f.spread(1)
	if n := len(f.entries("a crash or restart of Redis loses every plan")); n != 3 {
		t.Errorf("%d of 3 replicas warn at the start", n)
	}
	eventually(t, "a note of it in /readyz", 30*time.Second, func() bool { return strings.Contains(f.readyz(), "appendonly is no") })
	l := newLoad(f, pick3(600, 2_000, 6_000), pick3(14*time.Second, 16*time.Second, 30*time.Second))
	c := newCreates(f, "before", l.end.Add(-5*time.Second))
	time.Sleep(4*time.Second + time.Duration(f.rand.IntN(1000))*time.Millisecond)
	lost := ledger.Rollback{At: f.kill9()}
	c.wait()
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: anyLate, Rollbacks: []ledger.Rollback{lost}}, 30*time.Second)
	f.notLogged(rescued)
	f.terms(lost)
	f.doctor()
	t.Log(v)
	if v.Undone == 0 {
		t.Error("no plan is gone: this has shown nothing")
	}
	said := f.entries("Redis lost what it was told")
	if len(said) != 3 {
		t.Errorf("%d of 3 replicas say that everything was lost", len(said))
	}
	for _, e := range said {
		t.Log(e.line)
		if e.PlansBefore < 100 || e.Plans >= e.PlansBefore {
			t.Errorf("%s says that there are %d plans and were %d", e.replica, e.Plans, e.PlansBefore)
		}
	}
	if n := len(f.entries("the layout was gone from Redis")); n != 1 {
		t.Errorf("%d replicas set the layout again, want one", n)
	}
}

// TestC07RedisRolledBack: Redis keeps snapshots, is killed, and comes back as it was at the
// last one, some seconds before. What was stored until then fires, what fired since may
// fire again once, under its id, and nothing else; and the size is said.
func TestC07RedisRolledBack(t *testing.T) {
	t.Parallel()
	f := newFleetOn(scenario(t, "C7"), redistest.Start(t, "save 3600 1000000", "dbfilename snapshot.rdb"))
	f.startAll("a", "b", "c")
	f.spread(1)
	if n := len(f.entries("a crash of Redis loses every plan stored since the last snapshot")); n != 3 {
		t.Errorf("%d of 3 replicas warn at the start", n)
	}
	l := newLoad(f, pick3(600, 2_000, 6_000), pick3(16*time.Second, 18*time.Second, 40*time.Second))
	c := newCreates(f, "stream", l.end.Add(-5*time.Second))
	time.Sleep(3*time.Second + time.Duration(f.rand.IntN(1000))*time.Millisecond)
	lost := ledger.Rollback{To: time.Now()}
	redistest.Do(t, f.redis.Addr, "BGSAVE")
	f.event("a snapshot is taken")
	time.Sleep(2*time.Second + time.Duration(f.rand.IntN(3000))*time.Millisecond)
	eventually(t, "the snapshot to be written", 20*time.Second, func() bool {
		text, _ := redistest.Do(t, f.redis.Addr, "INFO", "persistence").(string)
		return strings.Contains(text, "rdb_bgsave_in_progress:0") && strings.Contains(text, "rdb_last_bgsave_status:ok")
	})
	lost.At = f.kill9()
	c.wait()
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: anyLate, Rollbacks: []ledger.Rollback{lost}}, 30*time.Second)
	f.notLogged(rescued)
	f.terms(lost)
	f.doctor()
	t.Log(v)
	f.saidLost(lost, 3)
	if v.Undone == 0 || v.RolledBack == 0 {
		t.Error("nothing is gone, or nothing fired again: this has shown nothing")
	}
}

// saidLost checks that n replicas said what a rollback lost, and how much, within what a
// heartbeat a second can tell.
func (f *fleet) saidLost(b ledger.Rollback, n int) {
	f.t.Helper()
	said := f.entries("Redis lost its newest writes")
	if len(said) != n {
		f.t.Errorf("%d of %d replicas say that writes were lost", len(said), n)
	}
	const off = 2500 * time.Millisecond // on a busy machine
	for _, e := range said {
		f.t.Log(e.line)
		if size, want := time.Duration(e.LostMS)*time.Millisecond, b.At.Sub(b.To); (size - want).Abs() > off {
			f.t.Errorf("%s says that %s were lost, and it was %s", e.replica, size, want)
		}
	}
}
