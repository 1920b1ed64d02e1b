package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// packsAll packs every key there is, at once.
func packsAll(o *Options) { o.pack = &packOptions{after: -1e6 * time.Second} }

func (b *bench) packer() *packer {
	return &packer{s: b.s, k: b.k, lease: b.lease, opts: b.s.opts.packOptions()}
}

// packed packs and unpacks until nothing is left to do.
func (b *bench) packed() {
	b.Helper()
	b.k.packing.again.Store(0)
	if err := b.s.packAll(b.ctx, b.k, b.lease); err != nil {
		b.Fatalf("pack: %v", err)
	}
}

// runs returns the runs, and fails the test if they are not what runs are.
func (b *bench) runs() [][]string {
	b.Helper()
	var runs [][]string
	last := ""
	for _, run := range b.redis("ZRANGE", b.k.packed, "0", "-1").([]any) {
		keys := strings.Split(run.(string), "\n")
		if len(keys) > runKeys || len(keys) > 1 && len(run.(string)) > runBytes {
			b.Errorf("a run of %d keys, %d bytes", len(keys), len(run.(string)))
		}
		for _, key := range keys {
			if key <= last {
				b.Errorf("%q stands behind %q", key, last)
			}
			last = key
		}
		runs = append(runs, keys)
	}
	return runs
}

// places are what stands in index, packed and unpack.
func (b *bench) places() string {
	b.Helper()
	return fmt.Sprintf("%q %q %q", b.redis("ZRANGE", b.k.index, "0", "-1"), b.redis("ZRANGE", b.k.packed, "0", "-1"), b.redis("LRANGE", b.k.unpack, "0", "-1"))
}

// listed returns the keys of all plans with a prefix, from pages of a size.
func (b *bench) listed(prefix string, limit int) []string {
	b.Helper()
	keys := []string{}
	for cursor := ""; ; {
		plans, next, err := b.s.List(b.ctx, scheduler.ListQuery{Prefix: prefix, Cursor: cursor, Limit: limit})
		if err != nil {
			b.Fatalf("List: %v", err)
		}
		if len(plans) > limit {
			b.Errorf("%d plans on a page for %d", len(plans), limit)
		}
		for _, p := range plans {
			keys = append(keys, p.Key)
		}
		if next == "" {
			return keys
		}
		if next <= cursor {
			b.Fatalf("after the page behind %q comes that behind %q", cursor, next)
		}
		cursor = next
	}
}

// TestPackedIndex does at random what can be done with plans, and packs some of them now
// and then: what is listed is always what is stored.
func TestPackedIndex(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, server.Addr, packsAll, func(o *Options) { o.Prefix = fmt.Sprintf("pack%d", seed) })
			random := rand.New(rand.NewPCG(seed, 1))
			pool := make([]string, 500)
			for i := range pool {
				pool[i] = fmt.Sprintf("%c%c:%0*d", 'a'+random.IntN(3), 'a'+random.IntN(3), 1+random.IntN(8), random.IntN(1000))
				if random.IntN(20) == 0 {
					pool[i] += strings.Repeat("é", random.IntN(200))
				}
			}
			some := func() string { return pool[random.IntN(len(pool))] }
			there := make(map[string]*scheduler.Plan)
			want := func(prefix string) []string {
				return slices.DeleteFunc(slices.Sorted(maps.Keys(there)), func(key string) bool { return !strings.HasPrefix(key, prefix) })
			}
			p := b.packer()
			for range 1500 {
				switch random.IntN(12) {
				case 0, 1, 2, 3: // create, or overwrite
					var plans []*scheduler.Plan
					for range 1 + random.IntN(30) {
						due := time.Now().Unix() - 100 + 200*int64(random.IntN(2))
						n := storetest.NewPlan(some(), storetest.WithDue(due))
						if slices.ContainsFunc(plans, func(o *scheduler.Plan) bool { return o.Key == n.Key }) {
							continue
						}
						plans = append(plans, n)
						there[n.Key] = n
					}
					b.put(plans...)
				case 4:
					key := some()
					_, err := b.s.Remove(b.ctx, key)
					if had := there[key] != nil; had != (err == nil) {
						t.Fatalf("Remove of %q: %v, there: %v", key, err, had)
					}
					delete(there, key)
				case 5: // the last firing
					page := b.due(action)
					plans := page.Plans[:random.IntN(len(page.Plans)+1)]
					for i, a := range b.claim(plans...) {
						if a.Result != scheduler.ClaimedOK {
							t.Fatalf("claim of %q: %v", plans[i].Key, a.Result)
						}
						delete(there, plans[i].Key)
					}
				case 6, 7:
					if err := p.pack(b.ctx); err != nil {
						t.Fatalf("pack: %v", err)
					}
				case 8:
					if err := p.unpack(b.ctx); err != nil {
						t.Fatalf("unpack: %v", err)
					}
				default:
					prefix := some()
					prefix = prefix[:random.IntN(4)]
					if got := b.listed(prefix, 1+random.IntN(150)); !slices.Equal(got, want(prefix)) {
						t.Fatalf("listed with %q: %q, want %q", prefix, got, want(prefix))
					}
				}
			}
			b.checked()
			b.packed()
			b.checked()
			var keys []string
			for _, run := range b.runs() {
				keys = append(keys, run...)
			}
			if !slices.Equal(keys, want("")) || b.redis("ZCARD", b.k.index) != int64(0) || b.redis("LLEN", b.k.unpack) != int64(0) {
				t.Errorf("packed: %q, want %q", keys, want(""))
			}
			states, err := b.s.Shards(b.ctx, time.Now())
			if err != nil || states[0].Plans != int64(len(there)) {
				t.Errorf("%v plans are counted, want %d; %v", states, len(there), err)
			}
			for key := range there {
				if _, err := b.s.Remove(b.ctx, key); err != nil {
					t.Fatalf("Remove of %q: %v", key, err)
				}
			}
			b.packed()
			if n := b.redis("EXISTS", b.k.index, b.k.packed, b.k.unpack); n != int64(0) {
				t.Errorf("nothing is stored, and %v of the index's keys are there", n)
			}
		})
	}
}

// TestPackingBesideAll packs while others create, overwrite, remove and claim the same
// plans: nothing is lost, nothing stays behind.
func TestPackingBesideAll(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := newBench(t, server.Addr, packsAll)
	ctx, stop := context.WithTimeout(b.ctx, 2*time.Second)
	defer stop()
	var all sync.WaitGroup
	loop := func(n int, fn func(*rand.Rand) error) {
		for i := range n {
			all.Go(func() {
				for random := rand.New(rand.NewPCG(uint64(i), uint64(n))); ctx.Err() == nil; {
					if err := fn(random); err != nil && ctx.Err() == nil {
						t.Errorf("%v", err)
						return
					}
				}
			})
		}
	}
	key := func(random *rand.Rand) string { return fmt.Sprintf("key-%04d", random.IntN(3000)) }
	loop(2, func(random *rand.Rand) error {
		plans := make(map[string]*scheduler.Plan)
		for range 100 {
			p := storetest.NewPlan(key(random), storetest.WithDue(time.Now().Unix()-10+20*int64(random.IntN(2))))
			plans[p.Key] = p
		}
		return errors.Join(b.s.Put(b.ctx, slices.Collect(maps.Values(plans)))...)
	})
	loop(2, func(random *rand.Rand) error {
		if _, err := b.s.Remove(b.ctx, key(random)); !errors.Is(err, scheduler.ErrNotFound) {
			return err
		}
		return nil
	})
	loop(1, func(random *rand.Rand) error {
		now := time.Now().Unix()
		page, err := b.s.Due(b.ctx, scheduler.DueQuery{Action: action, From: 0, To: now, Limit: 100})
		if err != nil {
			return err
		}
		claims := make([]scheduler.Claim, len(page.Plans))
		for i, p := range page.Plans {
			claims[i] = scheduler.Claim{Key: p.Key, Revision: p.Revision, Due: p.Due, FireDue: p.Due}
		}
		_, err = b.s.Claim(b.ctx, scheduler.ClaimBatch{Lease: b.lease, Action: action, Cutoff: now, Claims: claims, Worker: "w", Slots: 50 * random.IntN(2)})
		return err
	})
	moved := 0
	p := b.packer()
	loop(1, func(random *rand.Rand) error {
		moved++
		return errors.Join(p.pack(b.ctx), p.unpack(b.ctx))
	})
	loop(1, func(random *rand.Rand) error { // who stays is listed, always
		return b.s.Check(b.ctx, func(f scheduler.Finding) {
			if f.Severity == scheduler.SeverityError {
				t.Errorf("Check: %s: %s", f.Subject, f.Problem)
			}
		})
	})
	all.Wait()
	b.packed()
	b.checked()
	var keys []string
	for _, run := range b.runs() {
		keys = append(keys, run...)
	}
	if got := b.listed("", 1000); !slices.Equal(got, keys) {
		t.Errorf("%d keys are in runs, %d are listed", len(keys), len(got))
	}
	if n, want := b.redis("ZCARD", b.k.schedule(action)), int64(len(keys)); n != want {
		t.Errorf("%v plans are scheduled, %d are in runs", n, want)
	}
	t.Logf("%d steps; %d plans at the end", moved, len(keys))
}

// TestPackingOfWhatChanged: what became another since it was read is not packed, nor is
// anything else with it.
func TestPackingOfWhatChanged(t *testing.T) {
	t.Parallel()
	b := newBench(t, redistest.Start(t).Addr, packsAll)
	far := storetest.WithDue(time.Now().Unix() + 1000)
	b.put(storetest.NewPlan("a", far), storetest.NewPlan("b", far))
	b.packed()
	b.put(storetest.NewPlan("b", far), storetest.NewPlan("c", far)) // b is in both
	p := b.packer()
	was := b.places()
	for name, swap := range map[string][5][]string{ // stay, keys, old, runs
		"a key that is gone":                {nil, {"c", "d"}, {"a\nb"}, {"a\nb\nc\nd"}},
		"a run that is another":             {nil, {"c"}, {"a\nb\nx"}, {"a\nb\nc"}},
		"a run that is gone":                {nil, {"c"}, {"a\nb", "x"}, {"a\nb\nc"}},
		"a plan that is gone and stays":     {{"x"}, {"c"}, {"a\nb"}, {"a\nb\nc"}},
		"who stays, and is in the index":    {{"b"}, {"c"}, {"a\nb"}, {"a\nb\nc"}},
		"one who may stay, and one who not": {{"a", "b"}, {"c"}, {"a\nb"}, {"a\nb\nc"}},
	} {
		if done, err := p.swap(b.ctx, 1, swap[0], swap[1], swap[2], swap[3]); done || err != nil {
			t.Errorf("%s: done %v, %v", name, done, err)
		}
		if got := b.places(); got != was {
			t.Errorf("%s: it was %s, and is %s", name, was, got)
		}
	}
	if done, err := p.swap(b.ctx, 1, []string{"a"}, []string{"c"}, []string{"a\nb"}, []string{"a\nc"}); !done || err != nil {
		t.Errorf("what is as it was read: done %v, %v", done, err)
	}
	if got, want := b.places(), `["b"] ["a\nc"] []`; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
	b.checked()
}

// TestPackingWhen: few keys stay in the index, and those of plans that are due soon; under a
// lease that is not the current one nothing is packed, nor while the schema knows no runs.
func TestPackingWhen(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settled := func(b *bench) {
		b.Helper()
		b.k.packing.looked.Store(0)
		b.settle()
		for deadline := time.Now().Add(5 * time.Second); b.k.packing.underWay.Load(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				b.Fatal("it does not end")
			}
		}
	}
	count := func(b *bench) [2]any { return [2]any{b.redis("ZCARD", b.k.index), b.redis("ZCARD", b.k.packed)} }
	fill := func(b *bench) {
		var plans []*scheduler.Plan
		for i := range 100 {
			plans = append(plans, storetest.NewPlan(fmt.Sprintf("k%03d", i), storetest.WithDue(time.Now().Unix()+590+20*int64(i%2))))
		}
		b.put(plans...)
	}
	ten := packDefaults
	ten.over = 99
	b := newBench(t, server.Addr, func(o *Options) { o.pack = &ten })
	fill(b)
	settled(b)
	if got := count(b); got != [2]any{int64(50), int64(4)} {
		t.Errorf("index and runs hold %v, want what is due in less than ten minutes in the index, and all else in four runs", got)
	}
	b.put(storetest.NewPlan("more", storetest.WithDue(time.Now().Unix()+10_000)))
	settled(b)
	if got := count(b); got != [2]any{int64(51), int64(4)} {
		t.Errorf("with few keys in the index there are %v", got)
	}
	if _, err := b.s.Remove(b.ctx, "k001"); err != nil {
		t.Fatal(err)
	}
	settled(b)
	if got := count(b); got != [2]any{int64(51), int64(4)} || len(b.runs()[0]) != 12 || b.redis("EXISTS", b.k.unpack) != int64(0) {
		t.Errorf("after a removal: %v, %q", got, b.runs())
	}

	old := newBench(t, server.Addr, packsAll, func(o *Options) { o.schemas = &schemaRange{1, 1, 1, time.Hour} })
	fill(old)
	old.redis("RPUSH", old.k.unpack, "claimed and removed")
	settled(old)
	if got := count(old); got != [2]any{int64(100), int64(0)} || old.redis("EXISTS", old.k.unpack) != int64(0) {
		t.Errorf("in a fleet that knows no runs: %v, and %v waits", got, old.redis("LLEN", old.k.unpack))
	}

	fenced := newBench(t, server.Addr, packsAll)
	fill(fenced)
	p := fenced.packer()
	p.lease.Value += "x"
	if err := p.pack(fenced.ctx); !errors.Is(err, scheduler.ErrFenced) {
		t.Errorf("pack: %v, want ErrFenced", err)
	}
	if got := count(fenced); got != [2]any{int64(100), int64(0)} {
		t.Errorf("who is fenced packed: %v", got)
	}
}

// TestPackingThatIsLate: a step whose answer does not come does nothing once another may
// have begun.
func TestPackingThatIsLate(t *testing.T) {
	t.Parallel()
	b := newBench(t, redistest.Start(t).Addr, packsAll)
	far := storetest.WithDue(time.Now().Unix() + 1000)
	b.put(storetest.NewPlan("a", far), storetest.NewPlan("m", far))
	p := b.packer()
	if done, err := p.swap(b.ctx, 0, nil, nil, nil, nil); !done || err != nil { // Redis knows the script now
		t.Fatal(done, err)
	}
	b.redis("CLIENT", "PAUSE", "600", "ALL")
	ctx, cancel := context.WithTimeout(b.ctx, 200*time.Millisecond)
	defer cancel()
	if done, err := p.swap(ctx, 0, nil, []string{"a", "m"}, nil, []string{"a\nm"}); done || err == nil || ctx.Err() == nil {
		t.Errorf("without an answer: done %v, %v, and the time for it ended: %v", done, err, ctx.Err())
	}
	b.checked() // once Redis goes on
	if got, want := b.places(), `["a" "m"] [] []`; got != want {
		t.Errorf("what came late was done: %s, want %s", got, want)
	}
	if done, err := p.swap(b.ctx, 0, nil, []string{"a", "m"}, nil, []string{"a\nm"}); !done || err != nil {
		t.Errorf("and again: %v, %v", done, err)
	}
}

// TestPackingBesideHands: a plan that a hand deleted while its key was in a run, and that
// was created anew, is not taken for what it was, and leaves nothing behind.
func TestPackingBesideHands(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	due := storetest.WithDue(time.Now().Unix() - 5)
	for name, put := range map[string]func(b *bench, p *scheduler.Plan){
		"new":    func(b *bench, p *scheduler.Plan) { b.put(p) },
		"beside": func(b *bench, p *scheduler.Plan) { b.put(p, storetest.NewPlan("other", due)) },
		"removed first": func(b *bench, p *scheduler.Plan) {
			if _, err := b.s.Remove(b.ctx, p.Key); !errors.Is(err, scheduler.ErrNotFound) {
				b.Errorf("Remove: %v", err)
			}
			b.put(p)
		},
	} {
		for _, pack := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, packed: %v", name, pack), func(t *testing.T) {
				b := newBench(t, server.Addr, packsAll)
				b.put(storetest.NewPlan("k", due, storetest.WithRevision(7)), storetest.NewPlan("other", due))
				if pack {
					b.packed()
				}
				old := b.due(action).Plans[0]
				b.redis("DEL", b.k.plan("k"))
				put(b, storetest.NewPlan("k", due, storetest.WithRevision(8)))
				reply, err := b.s.Claim(b.ctx, scheduler.ClaimBatch{
					Lease: b.lease, Action: action, Cutoff: time.Now().Unix(), Worker: "w", Slots: 10,
					Claims: []scheduler.Claim{{Key: "k", Revision: old.Revision, Due: old.Due, FireDue: old.Due}},
				})
				if err != nil || reply.Answers[0].Result == scheduler.ClaimedOK {
					t.Errorf("what is no more is claimed: %v, %v", reply.Answers, err)
				}
				if p, err := b.s.Get(b.ctx, "k"); err != nil || p.Revision != 8 {
					t.Errorf("of the one that was created anew there is %v, %v", p, err)
				}
				b.claim(b.due(action).Plans...)
				b.packed()
				b.checked()
				if got, want := b.places(), "[] [] []"; got != want {
					t.Errorf("all is claimed, and there is %s", got)
				}
			})
		}
	}
	// The one stands in the index and has no plan, the other has one and stands in a run.
	t.Run("of two", func(t *testing.T) {
		b := newBench(t, server.Addr, packsAll)
		b.put(storetest.NewPlan("r", due))
		b.packed()
		b.put(storetest.NewPlan("s", due))
		b.redis("DEL", b.k.plan("s"))
		b.put(storetest.NewPlan("r", due), storetest.NewPlan("s", due))
		b.claim(b.due(action).Plans...)
		b.packed()
		b.checked()
	})
}

// TestUnpackIsBounded: without a leader what waits to be taken out of runs does not grow
// with every call.
func TestUnpackIsBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, redistest.Start(t).Addr, packsAll)
	b.put(storetest.NewPlan("k"))
	b.packed()
	for range 1100 {
		if _, err := b.s.Remove(b.ctx, "k"); err != nil && !errors.Is(err, scheduler.ErrNotFound) {
			t.Fatal(err)
		}
	}
	if n := b.redis("LLEN", b.k.unpack); n != int64(1000) {
		t.Errorf("%v keys wait, want 1000", n)
	}
}

// TestPackingOfLongKeys: of long keys fewer are moved at a time.
func TestPackingOfLongKeys(t *testing.T) {
	t.Parallel()
	b := newBench(t, redistest.Start(t).Addr, packsAll)
	var plans []*scheduler.Plan
	for i := range 200 {
		plans = append(plans, storetest.NewPlan(fmt.Sprintf("%0512d", i)))
	}
	b.put(plans...)
	p := b.packer()
	left := func() any { return b.redis("ZCARD", b.k.index) }
	for _, want := range []int64{200 - 64, 200 - 128, 200 - 192, 0} {
		if err := p.pack(b.ctx); err != nil || left() != want || (p.cursor == "") != (want == 0) {
			t.Errorf("pack: %v; %v keys are left, want %d; the cursor is at %q", err, left(), want, p.cursor)
		}
	}
	for _, n := range plans {
		if _, err := b.s.Remove(b.ctx, n.Key); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.unpack(b.ctx); err != nil || b.redis("LLEN", b.k.unpack) != int64(200-64) {
		t.Errorf("unpack: %v; %v wait", err, b.redis("LLEN", b.k.unpack))
	}
	b.packed()
	if got := b.places(); got != "[] [] []" {
		t.Errorf("all is removed, and there is %s", got)
	}
}

// TestPackingInVain: who goes through many keys of plans that are due soon, and finds none to
// pack, rests for longer than that took, and does not when there are.
func TestPackingInVain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for late, want := range map[int]bool{0: true, 1000: false} {
		b := newBench(t, server.Addr, func(o *Options) { o.pack = &packOptions{over: 1000, after: time.Minute} })
		var plans []*scheduler.Plan
		for i := range 1500 {
			due := time.Now().Unix() + 5
			if i < late {
				due += 1000
			}
			plans = append(plans, storetest.NewPlan(fmt.Sprintf("%04d", i), storetest.WithDue(due)))
		}
		b.put(plans...)
		began := time.Now()
		b.packed()
		took := time.Since(began)
		if rests := time.Duration(b.k.packing.again.Load()) - time.Since(b.s.opened); (rests > took) != want {
			t.Errorf("%d of 1500 keys could be packed, which took %v; then it rests for %v", late, took, rests)
		}
	}
}

// TestConformancePacked runs the suite while keys are packed and unpacked.
func TestConformancePacked(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var mu sync.Mutex
	var stores []*Store
	done := make(chan struct{})
	var wg sync.WaitGroup
	t.Cleanup(func() { close(done); wg.Wait() })
	wg.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
			mu.Lock()
			if len(stores) == 0 {
				mu.Unlock()
				continue
			}
			at := n % len(stores)
			s := stores[at]
			mu.Unlock()
			var err error
			for _, id := range s.ids {
				k := s.keys.shard(id)
				k.leader = k.tag + "packer" // nobody leads in most tests
				b := s.client.B
				err = s.client.Do(context.Background(), b().Set().Key(k.leader).Value("p").Build()).Error()
				p := &packer{s: s, k: k, lease: scheduler.Lease{Shard: id, Value: "p"}, opts: s.opts.packOptions()}
				err = errors.Join(err, p.pack(context.Background()), p.unpack(context.Background()))
			}
			if err != nil { // it is closed
				mu.Lock()
				stores = slices.Delete(stores, at, at+1)
				mu.Unlock()
			}
		}
	})
	storetest.Run(t, storetest.Factory{Open: func(t *testing.T) storetest.Harness {
		o := testOptions(server.Addr)
		o.Shards = []int{0, 3}
		packsAll(&o)
		h := harness(t, o)
		mu.Lock()
		stores = append(stores, h.Peer.(*Store))
		mu.Unlock()
		return h
	}})
}
