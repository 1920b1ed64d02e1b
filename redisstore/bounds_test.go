package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// lines counts what the history holds.
func (b *bench) lines() (attempts int) {
	b.Helper()
	for _, e := range b.redis("LRANGE", b.k.historySizes, "0", "-1").([]any) {
		n, _, _ := strings.Cut(e.(string), ":")
		i, err := strconv.Atoi(n)
		if err != nil {
			b.Fatal(err)
		}
		attempts += i
	}
	return attempts
}

// ran has n firings run and finish in batches.
func (b *bench) ran(n, batch int) {
	b.Helper()
	for ; n > 0; n -= batch {
		keys := make([]string, batch)
		for i := range keys {
			keys[i] = fmt.Sprintf("k%d", i)
		}
		finishes := make([]scheduler.Finish, batch)
		for i, f := range b.running("w", keys...) {
			finishes[i] = ends(f, scheduler.Done, time.Time{})
		}
		if _, err := b.finish("w", finishes...); err != nil {
			b.Fatalf("Finish: %v", err)
		}
	}
}

// TestHistoryIsBounded: entries of many attempts push out as many as they bring, also
// where the oldest entries hold one each.
func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := newBench(t, server.Addr, func(o *Options) { o.HistoryCount = 300 })
	b.ran(300, 1)
	b.ran(1500, 100)
	if n := b.lines(); n > 400 {
		t.Errorf("the history holds %d attempts, its bound is 300", n)
	}
	if entries := b.redis("XLEN", b.k.history); entries != b.redis("LLEN", b.k.historySizes) {
		t.Errorf("the history has %v entries, and their sizes are %v", entries, b.redis("LLEN", b.k.historySizes))
	}
	// It is deleted by hand: what comes is recorded, and bounded again.
	for _, key := range []string{b.k.history, b.k.historySizes} {
		b.redis("DEL", key)
		b.ran(2, 1)
		attempts, _, err := b.s.History(b.ctx, scheduler.JournalQuery{Limit: 2})
		if err != nil || len(attempts) != 2 {
			t.Errorf("after DEL %s: %d attempts, %v; want the two that ran", key, len(attempts), err)
		}
		b.ran(1000, 100)
		if entries := b.redis("XLEN", b.k.history).(int64); entries > 5 || entries < 3 {
			t.Errorf("after DEL %s: %d entries of 100 attempts, the bound is 300", key, entries)
		}
	}
}

// TestHugePlans: a hundred plans as large as they may be pass through every script
// without holding up Redis' other clients for long in any.
func TestHugePlans(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := newBench(t, server.Addr)
	huge := map[string]string{"body": strings.Repeat("x", scheduler.MaxParamsBytes-4)}
	var plans []*scheduler.Plan
	for i := range 100 {
		plans = append(plans, storetest.NewPlan(fmt.Sprintf("k%02d", i), storetest.WithDue(time.Now().Unix()-5), storetest.WithParams(huge)))
	}
	slow := func(what string, do func()) {
		t.Helper()
		b.redis("SLOWLOG", "RESET")
		before := redisCPU(t, b.s)
		do()
		used := redisCPU(t, b.s) - before
		var longest int64
		for _, e := range b.redis("SLOWLOG", "GET", "128").([]any) {
			longest = max(longest, e.([]any)[2].(int64))
		}
		// The longest run says little on a machine that is busy. What each run takes
		// that reads all again adds up to seconds.
		t.Logf("%s: Redis worked for %v, the longest run was %v", what, used, time.Duration(longest)*time.Microsecond)
		if used > 500*time.Millisecond {
			t.Errorf("%s of 100 plans of %d bytes: Redis worked for %v", what, scheduler.MaxParamsBytes, used)
		}
	}
	b.redis("CONFIG", "SET", "slowlog-log-slower-than", "1000")
	slow("put", func() { b.put(plans...) })
	slow("list", func() {
		n := 0
		for cursor := ""; ; {
			page, next, err := b.s.List(b.ctx, scheduler.ListQuery{Cursor: cursor, Limit: 100})
			if err != nil {
				t.Fatal(err)
			}
			n += len(page)
			if cursor = next; cursor == "" {
				break
			}
		}
		if n != 100 {
			t.Errorf("listed %d", n)
		}
	})
	slow("claim", func() {
		for i, a := range b.claim(plans...) {
			if a.Result != scheduler.ClaimedOK {
				t.Fatalf("claim %d: %v", i, a.Result)
			}
		}
	})
	var fs []*scheduler.Firing
	slow("take", func() {
		for more := true; more; {
			var got []*scheduler.Firing
			var err error
			if got, more, err = b.s.Take(b.ctx, scheduler.TakeRequest{Worker: "w", Slots: map[string]int{action: 100}}); err != nil {
				t.Fatal(err)
			}
			fs = append(fs, got...)
		}
		if len(fs) != 100 {
			t.Errorf("took %d", len(fs))
		}
	})
	slow("finish", func() {
		finishes := make([]scheduler.Finish, len(fs))
		for i, f := range fs {
			finishes[i] = ends(f, []scheduler.Verdict{scheduler.Done, scheduler.Retry, scheduler.Bury, scheduler.Return}[i%4], time.Now().Add(-time.Second))
			finishes[i].Firing = f
		}
		if got, err := b.finish("w", finishes...); err != nil || len(got) != 100 {
			t.Fatal(got, err)
		}
	})
	slow("promote", func() {
		if n, _, err := b.s.Promote(b.ctx, scheduler.PromoteRequest{Lease: b.lease, Now: time.Now(), Limit: 100}); err != nil || n != 25 {
			t.Errorf("promoted %d, %v", n, err)
		}
	})
	slow("rescue", func() {
		if _, err := b.take("dead", 100); err != nil {
			t.Fatal(err)
		}
		for {
			n, err := b.s.Rescue(b.ctx, b.lease, scheduler.Holder{Worker: "dead"}, 5, 100)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
		}
	})
	slow("redrive", func() {
		dead, _, err := b.s.DeadLetters(b.ctx, scheduler.JournalQuery{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, d := range dead {
			ids = append(ids, d.ID)
		}
		if n, err := b.s.Redrive(b.ctx, ids); err != nil || n != 25 {
			t.Errorf("redriven %d, %v", n, err)
		}
	})
	b.checked()
	slow("overwrite", func() {
		for i, p := range plans {
			plans[i] = storetest.NewPlan(p.Key, storetest.WithParams(huge))
		}
		b.put(plans...)
		for i, p := range plans {
			plans[i] = storetest.NewPlan(p.Key)
		}
		b.put(plans...)
	})
}

// TestACountThatIsWrongIsPutRight: who deletes a queue by hand leaves the backlog
// counted; at its limit nothing would ever be claimed again.
func TestACountThatIsWrongIsPutRight(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := newBench(t, server.Addr)
	b.queued("a", "b")
	fs := b.running("w", "c")
	b.redis("DEL", b.k.firings(action))
	b.settle()
	if n := b.redis("HGET", b.k.backlog, action); n != "1" && len(fs) == 1 {
		t.Errorf("counted are %v unfinished firings, want the one that runs", n)
	}
	b.checked()
	// A worker that this store has not heard of holds one more.
	peer := openStore(t, b.s.opts)
	b.queued("d")
	if _, _, err := peer.Take(b.ctx, scheduler.TakeRequest{Worker: "other", Slots: map[string]int{action: 1}}); err != nil {
		t.Fatal(err)
	}
	b.settle()
	if n := b.redis("HGET", b.k.backlog, ":total"); n != "2" {
		t.Errorf("counted are %v unfinished firings, want 2", n)
	}
}

// TestAShardThatHangsHoldsUpNoOther: what concerns one shard asks that shard only.
func TestAShardThatHangsHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, 0, "cluster-node-timeout 60000")
	o := testOptions(c.Addrs()...)
	o.Cluster, o.Shards = true, []int{0, 1, 2, 3, 4, 5, 6, 7}
	s := openStore(t, o)
	hangs := c.ShardOf(redistest.Slot(s.shards[0].index))
	other := -1
	for _, id := range o.Shards {
		if c.ShardOf(redistest.Slot(s.shards[id].index)) != hangs {
			other = id
		}
	}
	node, _ := c.Shard(hangs)
	node.Pause()
	defer node.Resume()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := s.Held(ctx, other, "w", 10); err != nil {
		t.Errorf("Held: %v", err)
	}
	if _, err := s.Holders(ctx, other); err != nil {
		t.Errorf("Holders: %v", err)
	}
}

// TestPageThatTakesTooLong: a page that could not be read in the time there was is not asked
// for again as it was, and all of it comes in smaller ones.
func TestPageThatTakesTooLong(t *testing.T) {
	t.Parallel()
	proxy := redistest.NewProxy(t, redistest.Start(t).Addr)
	b := newBench(t, proxy.Addr)
	plans := overdue(50)
	b.put(plans...)
	q := scheduler.DueQuery{Action: action, From: math.MinInt64, To: time.Now().Unix(), Limit: 400}
	if page, err := b.s.Due(b.ctx, q); err != nil || len(page.Plans) != len(plans) {
		t.Fatalf("%d plans, %v", len(page.Plans), err)
	}
	k := b.k
	read := func(ctx context.Context) ([]string, error) {
		var chunk []listed
		for _, p := range plans {
			chunk = append(chunk, listed{k, p.Key})
		}
		return b.s.readChunk(ctx, chunk)
	}
	proxy.Hold()
	short, cancel := context.WithTimeout(b.ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := read(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	proxy.Heal()
	var pages, all int
	for {
		page, err := b.s.Due(b.ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		pages, all = pages+1, all+len(page.Plans)
		if q.After = page.Next; q.After == "" {
			break
		}
	}
	if pages < 5 || all != len(plans) {
		t.Errorf("%d plans in %d pages, want %d in some", all, pages, len(plans))
	}
}
