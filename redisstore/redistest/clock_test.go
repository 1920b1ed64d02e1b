package redistest_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
)

// ahead returns how far a server's clock is ahead of this machine's.
func ahead(t *testing.T, addr string) time.Duration {
	t.Helper()
	reply := redistest.Do(t, addr, "TIME").([]any)
	s, _ := strconv.ParseInt(reply[0].(string), 10, 64)
	us, _ := strconv.ParseInt(reply[1].(string), 10, 64)
	return time.Until(time.Unix(s, us*1000))
}

func TestClockIsSteppedAndTheServerGoesOn(t *testing.T) {
	t.Parallel()
	s := redistest.StartWithClock(t)
	// The time that one command may take here.
	const slack = 5 * time.Second
	near := func(got, want time.Duration) bool { return (got - want).Abs() < slack }
	ttl := func(key string) time.Duration {
		t.Helper()
		return time.Duration(redistest.Do(t, s.Addr, "PTTL", key).(int64)) * time.Millisecond
	}

	redistest.Do(t, s.Addr, "SET", "lease", "1", "PX", "60000")
	for _, row := range []struct {
		step, ahead, ttl time.Duration
	}{
		{0, 0, time.Minute},
		{-2 * time.Hour, -2 * time.Hour, 2*time.Hour + time.Minute},
		{90 * time.Minute, -30 * time.Minute, 31 * time.Minute},
		{30*time.Minute + 20*time.Second, 20 * time.Second, 40 * time.Second},
		{-1500 * time.Millisecond, 18500 * time.Millisecond, 41500 * time.Millisecond},
	} {
		s.Step(row.step)
		if got := ahead(t, s.Addr); !near(got, row.ahead) {
			t.Errorf("step %s: TIME is %s ahead, want %s", row.step, got, row.ahead)
		}
		if got := ttl("lease"); !near(got, row.ttl) {
			t.Errorf("step %s: the lease lives for %s, want %s", row.step, got, row.ttl)
		}
	}

	s.Step(time.Hour)
	if got := redistest.Do(t, s.Addr, "GET", "lease"); got != nil {
		t.Errorf("a lease of 1 min after 1 h: got %v, want nil", got)
	}
	// What expires is removed without being asked for: the server's own timers run.
	s.Step(-2 * time.Hour)
	redistest.Do(t, s.Addr, "SET", "a", "1", "PX", "50")
	for deadline := time.Now().Add(10 * time.Second); redistest.Do(t, s.Addr, "DBSIZE") != int64(0); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing expires after the clock was set back")
		}
	}
	s.Restart()
	if got, want := ahead(t, s.Addr), s.Offset(); !near(got, want) {
		t.Errorf("after a restart: TIME is %s ahead, want %s", got, want)
	}
}
