package redistest_test

import (
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
)

func TestSentinelReplacesTheMaster(t *testing.T) {
	t.Parallel()
	start := time.Now()
	s := redistest.StartSentinel(t, 2, "maxclients 500", "sentinel parallel-syncs mymaster 2")
	t.Logf("started in %s", time.Since(start))
	if got, want := len(s.SentinelAddrs()), 3; got != want {
		t.Fatalf("sentinels: got %d, want %d", got, want)
	}
	first := s.Master()
	if first != s.Servers[0] {
		t.Errorf("master: got %s, want %s", first.Addr, s.Servers[0].Addr)
	}
	redistest.Do(t, first.Addr, "SET", "a", "1")

	start = time.Now()
	second := s.Failover()
	t.Logf("failover when asked: %s", time.Since(start))
	s.WaitOK()
	t.Logf("and in step: %s", time.Since(start))
	if second == first {
		t.Errorf("failover: the master is %s still", second.Addr)
	}
	if got := redistest.Do(t, second.Addr, "GET", "a"); got != "1" {
		t.Errorf("at the new master: got %v, want 1", got)
	}

	// What is written while replication is cut is lost with its master.
	second.CutReplication()
	redistest.Do(t, second.Addr, "SET", "a", "2")
	start = time.Now()
	second.Pause()
	third := s.WaitFailover(second)
	t.Logf("failover when the master hangs: %s", time.Since(start))
	if got := redistest.Do(t, third.Addr, "GET", "a"); got != "1" {
		t.Errorf("at a master that never got it: got %v, want 1", got)
	}

	start = time.Now()
	second.Kill()
	second.Restart()
	s.WaitOK()
	t.Logf("in step again: %s", time.Since(start))
	if got := s.Master(); got != third {
		t.Errorf("when the old master is back: got %s, want %s", got.Addr, third.Addr)
	}
}
