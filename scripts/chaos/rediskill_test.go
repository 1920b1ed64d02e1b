package chaos

import (
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
	f.spread(3)
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
	f.sound()
	t.Logf("%d stored meanwhile: %s", stored, v)
}
