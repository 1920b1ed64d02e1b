package redistest_test

import (
	"testing"

	"github.com/snower/forsun/redisstore/redistest"
)

func TestReplicaAcknowledgesUntilItIsCut(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	replica := redistest.StartReplica(t, master)
	c, err := redistest.Dial(master.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	wait := func(why, timeout string, want int64) {
		t.Helper()
		if _, err := c.Do("INCR", "n"); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Do("WAIT", "1", timeout); got != want || err != nil {
			t.Errorf("WAIT 1 %s: got %v, %v; want %d", why, got, err, want)
		}
	}
	wait("in step", "10000", 1)

	replica.Pause()
	wait("while it is paused", "50", 0)
	replica.Resume()
	wait("when it goes on", "10000", 1)

	master.CutReplication()
	wait("while it is cut off", "50", 0)
	if got := redistest.Do(t, replica.Addr, "GET", "n"); got != "3" {
		t.Errorf("n at a replica that is cut off: got %v, want 3", got)
	}
	master.HealReplication()
	replica.WaitReplication()
	wait("when it is back", "10000", 1)

	replica.Kill()
	wait("when it is dead", "50", 0)
	replica.Restart()
	replica.WaitReplication()
	wait("when it has been started again", "10000", 1)
}

func TestReplicaBehindAProxy(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	p := redistest.NewProxy(t, master.Addr)
	replica := redistest.StartReplica(t, master, "replicaof 127.0.0.1 "+p.Port())
	p.Hold()
	redistest.Do(t, master.Addr, "SET", "a", "1")
	if got := redistest.Do(t, replica.Addr, "GET", "a"); got != nil {
		t.Errorf("at the replica, the link held: got %v, want nil", got)
	}
	redistest.Do(t, replica.Addr, "REPLICAOF", "NO", "ONE")
	if got := redistest.Do(t, replica.Addr, "GET", "a"); got != nil {
		t.Errorf("promoted without the last write: got %v, want nil", got)
	}
}
