package redisstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// TestBeatsShowLosses: by the counts that Redis answers, a second apart.
func TestBeatsShowLosses(t *testing.T) {
	t.Parallel()
	const none = -1 // nothing is lost
	for _, row := range []struct {
		why      string
		counts   []uint64 // the last is judged
		pause    time.Duration
		lost     time.Duration // none
		restored bool
	}{
		{"the first", []uint64{1}, 0, none, false},
		{"goes on", []uint64{1, 2, 3, 4}, 0, none, false},
		{"of a worker that was there", []uint64{7, 8}, 0, none, false},
		{"answers did not come", []uint64{1, 2, 9}, 0, none, false},
		{"the last one is lost", []uint64{1, 2, 3, 3}, 0, time.Second, true},
		{"three are", []uint64{1, 2, 3, 4, 5, 3}, 0, 3 * time.Second, true},
		{"three are, after an outage", []uint64{1, 2, 3, 4, 5, 3}, time.Hour, 3 * time.Second, true},
		{"some before, then again", []uint64{1, 2, 3, 4, 3, 4, 4}, 0, time.Second, true},
		{"some before, then more", []uint64{1, 2, 3, 4, 3, 4, 2}, 0, 5 * time.Second, true},
		{"of which the answer did not come", []uint64{1, 2, 5, 4}, 0, time.Second, true}, // the 3rd came between
		{"before it came here", []uint64{7, 8, 9, 7}, 0, 0, false},
		{"everything", []uint64{1, 2, 3, 1}, 0, 0, false},
		{"forgotten by a leader", []uint64{1, 2, 3, 1}, 9 * time.Second, none, false},
		{"goes on after that", []uint64{1, 2, 3, 1, 2}, 9 * time.Second, none, false},
	} {
		var b beats
		now := time.Now()
		var l loss
		var lost bool
		for i, count := range row.counts {
			if now = now.Add(time.Second); i == len(row.counts)-1 {
				now = now.Add(row.pause)
			}
			l, lost = b.add("w", count, 10, now)
		}
		if lost != (row.lost != none) || lost && (l.restored.IsZero() == row.restored || row.restored && l.last.Sub(l.restored) != row.lost) {
			t.Errorf("%s: lost %v, %s to %s; want %s", row.why, lost, l.restored, l.last, row.lost)
		}
	}
	var b beats
	for i := range 10 * beatsKept {
		b.add("w", uint64(i)+1, 0, time.Now())
		if i == 5*beatsKept {
			b.add("w", 1<<60, 0, time.Now())
		}
	}
	if n := len(b.at); n > beatsKept {
		t.Errorf("%d beats are kept, want %d at most", n, beatsKept)
	}
}

// TestALossOfRedisIsNoticed: in each shard by itself, and said once for all.
func TestALossOfRedisIsNoticed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var log logged
	o := optionsFor(t, server.Addr)
	o.Log = zerolog.New(&log)
	o.Shards = []int{0, 1, 2}
	s := openStore(t, o)
	ctx := testContext(t)
	beat := func() {
		t.Helper()
		if err := s.Beat(ctx, "r"); err != nil {
			t.Errorf("Beat: %v", err)
		}
	}
	// said checks that a message was logged once more, with words.
	said := func(message string, words ...string) {
		t.Helper()
		if n := log.count(message); n != 1 {
			t.Errorf("%q was logged %d times, want once", message, n)
		}
		for _, w := range words {
			if log.count(w) == 0 {
				t.Errorf("it is not said that %s", w)
			}
		}
	}
	var plans []*scheduler.Plan
	for i := range 30 {
		plans = append(plans, storetest.NewPlan(fmt.Sprint("k", i), storetest.WithDue(time.Now().Unix()+1000)))
	}
	for _, err := range s.Put(ctx, plans) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		beat()
		time.Sleep(20 * time.Millisecond)
	}
	if n := log.count("Redis lost"); n != 0 {
		t.Errorf("a loss was logged, and there was none")
	}
	for _, shard := range []int{0, 2} { // as after a failover to a replica that lagged
		redistest.Do(t, server.Addr, "HSET", s.shards[shard].workers, "r", "1")
	}
	beat()
	said("Redis lost its newest writes", `"shards":[0,2]`, `"lost_ms"`, `"restored_to"`, `"plans"`)
	redistest.Do(t, server.Addr, "FLUSHALL")
	beat()
	said("Redis lost what it was told", `"shards":[0,1,2]`, `"plans_before":30,"plans":0`)
	beat()
	said("Redis lost what it was told")

	// A heart beats whatever the index is.
	redistest.Do(t, server.Addr, "SET", s.shards[1].index, "x")
	beat()
	if got := redistest.Do(t, server.Addr, "HGET", s.shards[1].workers, "r"); got != "3" {
		t.Errorf("beside an index of another type: %v heartbeats, want 3", got)
	}
}

// TestTheLayoutIsSetAgain: when it is gone, with everything else.
func TestTheLayoutIsSetAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var log logged
	o := optionsFor(t, server.Addr)
	o.Log = zerolog.New(&log)
	s := openStore(t, o)
	redistest.Do(t, server.Addr, "FLUSHALL")
	if _, err := s.Announce(testContext(t), scheduler.Replica{ID: "r", Started: time.Now()}); err != nil {
		t.Errorf("Announce: %v", err)
	}
	if got := redistest.Do(t, server.Addr, "HGET", s.keys.layout(), layoutShards); got != "0" || log.count("the layout was gone") != 1 {
		t.Errorf("the layout is not set again, or not loudly: %v", got)
	}
}
