package redistest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/snower/forsun/redisstore/redistest"
)

func TestClusterServesAllSlotsAndMovesThem(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, 0, "appendonly yes")
	if got, want := len(c.Addrs()), 3; got != want {
		t.Fatalf("addresses: got %d, want %d", got, want)
	}
	for i := range 20 {
		key := fmt.Sprint("{", i, "}key")
		owner, _ := c.Shard(c.ShardOf(redistest.Slot(key)))
		if got := redistest.Do(t, owner.Addr, "SET", key, "1"); got != "OK" {
			t.Errorf("SET %s: got %v, want OK", key, got)
		}
		if got, want := redistest.Do(t, owner.Addr, "CLUSTER", "KEYSLOT", key), int64(redistest.Slot(key)); got != want {
			t.Errorf("slot of %s: the server says %v, Slot says %d", key, got, want)
		}
	}

	slot := redistest.Slot("{0}key")
	from := c.ShardOf(slot)
	to := (from + 1) % 3
	source, _ := c.Shard(from)
	dest, _ := c.Shard(to)
	moved := redistest.ReplyError(fmt.Sprintf("MOVED %d %s", slot, dest.Addr))
	ask := redistest.ReplyError(fmt.Sprintf("ASK %d %s", slot, dest.Addr))

	m := c.StartMove(slot, to)
	if got := redistest.Do(t, source.Addr, "GET", "{0}key"); got != "1" {
		t.Errorf("a key that has not moved yet: got %v, want 1", got)
	}
	if _, err := redistest.Try(source.Addr, "GET", "{0}other"); err != ask {
		t.Errorf("no such key in a slot that moves: got %v, want %v", err, ask)
	}
	if _, err := redistest.Try(source.Addr, "MGET", "{0}key", "{0}other"); err == nil || !strings.HasPrefix(err.Error(), "TRYAGAIN") {
		t.Errorf("one key here, one not: got %v, want TRYAGAIN …", err)
	}
	if got := m.Keys(100); got != 1 {
		t.Errorf("keys moved: got %d, want 1", got)
	}
	if _, err := redistest.Try(source.Addr, "GET", "{0}key"); err != ask {
		t.Errorf("a key that has moved: got %v, want %v", err, ask)
	}
	m.Finish()
	if _, err := redistest.Try(source.Addr, "GET", "{0}key"); err != moved {
		t.Errorf("a slot that has moved: got %v, want %v", err, moved)
	}
	if got := redistest.Do(t, dest.Addr, "GET", "{0}key"); got != "1" {
		t.Errorf("the key at its new shard: got %v, want 1", got)
	}
	if got := c.ShardOf(slot); got != to {
		t.Errorf("the slot's shard: got %d, want %d", got, to)
	}
	c.MoveSlot(slot, from)
	if got := redistest.Do(t, source.Addr, "GET", "{0}key"); got != "1" {
		t.Errorf("moved back: got %v, want 1", got)
	}
	c.StartMove(slot, to).Abandon()
	if got := c.ShardOf(slot); got != from {
		t.Errorf("the slot's shard after a move was abandoned: got %d, want %d", got, from)
	}

	source.Kill()
	source.Restart()
	c.WaitOK()
	if got := redistest.Do(t, source.Addr, "GET", "{0}key"); got != "1" {
		t.Errorf("after kill and restart with AOF: got %v, want 1", got)
	}
}

func TestClusterFailsOver(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, 1)
	key := "a"
	shard := c.ShardOf(redistest.Slot(key))
	first, replicas := c.Shard(shard)
	if len(replicas) != 1 || first != c.Nodes[shard] || replicas[0] != c.Nodes[shard+3] {
		t.Fatalf("shard %d: got %v, %v", shard, first, replicas)
	}
	redistest.Do(t, first.Addr, "SET", key, "1")

	second := c.Failover(shard)
	if second != replicas[0] {
		t.Errorf("failover: got %s, want %s", second.Addr, replicas[0].Addr)
	}
	if got := redistest.Do(t, second.Addr, "GET", key); got != "1" {
		t.Errorf("at the new master: got %v, want 1", got)
	}
	var refused redistest.ReplyError
	if _, err := redistest.Try(first.Addr, "SET", key, "2"); !errors.As(err, &refused) || !strings.HasPrefix(err.Error(), "MOVED") {
		t.Errorf("at the old master: got %v, want MOVED …", err)
	}

	second.Pause()
	c.WaitOK()
	if got, _ := c.Shard(shard); got != first {
		t.Errorf("master after the master hangs: got %s, want %s", got.Addr, first.Addr)
	}
	second.Kill()
	second.Restart()
	c.WaitOK()
	if _, got := c.Shard(shard); len(got) != 1 || got[0] != second {
		t.Errorf("a master that comes back: got replicas %v, want it", got)
	}
}
