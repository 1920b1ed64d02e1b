package redisstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// bench is a store with shard 0 led by the test, and what it can do to Redis by hand.
type bench struct {
	*testing.T
	s     *Store
	k     *shardKeys
	addr  string
	ctx   context.Context
	lease scheduler.Lease
}

const action = storetest.DefaultAction

func newBench(t *testing.T, addr string, change ...func(*Options)) *bench {
	t.Helper()
	o := testOptions(addr)
	o.LeaseTTL = time.Minute
	for _, c := range change {
		c(&o)
	}
	b := &bench{T: t, s: openStore(t, o), addr: addr, ctx: testContext(t)}
	b.k = b.s.shards[0]
	var err error
	if b.lease, err = b.s.Campaign(b.ctx, 0, "leader"); err != nil {
		t.Fatal(err)
	}
	return b
}

// redis does a command by hand.
func (b *bench) redis(args ...string) any {
	b.Helper()
	return redistest.Do(b.T, b.addr, args...)
}

func (b *bench) put(plans ...*scheduler.Plan) {
	b.Helper()
	if err := errors.Join(b.s.Put(b.ctx, plans)...); err != nil {
		b.Fatalf("Put: %v", err)
	}
}

func (b *bench) due(action string) scheduler.DuePage {
	b.Helper()
	page, err := b.s.Due(b.ctx, scheduler.DueQuery{Action: action, From: math.MinInt64, To: time.Now().Unix(), Limit: 100})
	if err != nil {
		b.Fatalf("Due: %v", err)
	}
	return page
}

// claim claims plans for their last firing.
func (b *bench) claim(plans ...*scheduler.Plan) []scheduler.ClaimAnswer {
	b.Helper()
	claims := make([]scheduler.Claim, len(plans))
	for i, p := range plans {
		claims[i] = scheduler.Claim{Key: p.Key, Revision: p.Revision, Due: p.Due, FireDue: p.Due}
	}
	reply, err := b.s.Claim(b.ctx, scheduler.ClaimBatch{Lease: b.lease, Action: action, Cutoff: time.Now().Unix(), Claims: claims})
	if err != nil {
		b.Fatalf("Claim: %v", err)
	}
	return reply.Answers
}

// queued stores plans that are overdue and claims them.
func (b *bench) queued(keys ...string) {
	b.Helper()
	var plans []*scheduler.Plan
	for _, key := range keys {
		plans = append(plans, storetest.NewPlan(key, storetest.WithDue(time.Now().Unix()-5)))
	}
	b.put(plans...)
	for i, a := range b.claim(plans...) {
		if a.Result != scheduler.ClaimedOK {
			b.Fatalf("claim of %q: %v", keys[i], a.Result)
		}
	}
}

func (b *bench) take(worker string, n int) ([]*scheduler.Firing, error) {
	fs, _, err := b.s.Take(b.ctx, scheduler.TakeRequest{Worker: worker, Slots: map[string]int{action: n}})
	return fs, err
}

// running has a worker take the firings of plans.
func (b *bench) running(worker string, keys ...string) []*scheduler.Firing {
	b.Helper()
	b.queued(keys...)
	fs, err := b.take(worker, len(keys))
	if err != nil || len(fs) != len(keys) {
		b.Fatalf("Take: %d firings, %v", len(fs), err)
	}
	return fs
}

func (b *bench) finish(worker string, fs ...scheduler.Finish) ([]scheduler.Finished, error) {
	return b.s.Finish(b.ctx, 0, worker, fs)
}

func ends(f *scheduler.Firing, v scheduler.Verdict, at time.Time) scheduler.Finish {
	return scheduler.Finish{Firing: f, Verdict: v, At: at, Attempt: &scheduler.Attempt{
		Firing: f.ID(), Key: f.Plan.Key, Action: f.Plan.Action, Due: f.Due, Attempt: f.Attempt, Started: time.Now(), Outcome: scheduler.Failed, Error: "it failed",
	}}
}

// settle has the leader look after what it looks after now and then.
func (b *bench) settle() {
	b.Helper()
	b.k.settled.Store(-int64(time.Hour))
	if _, _, err := b.s.Promote(b.ctx, scheduler.PromoteRequest{Lease: b.lease, Now: time.Now(), Limit: 10}); err != nil {
		b.Fatal(err)
	}
}

// checked fails the test if the store does not fit together.
func (b *bench) checked() {
	b.Helper()
	if err := b.s.Check(b.ctx, func(f scheduler.Finding) {
		if f.Severity == scheduler.SeverityError {
			b.Errorf("Check: %s: %s", f.Subject, f.Problem)
		}
	}); err != nil {
		b.Errorf("Check: %v", err)
	}
}

// TestKeysOfAnotherType has keys of forsun be of a type that they never have: no
// firing is lost for it, and what has nothing to do with them goes on.
func TestKeysOfAnotherType(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)

	t.Run("held", func(t *testing.T) {
		b := newBench(t, server.Addr)
		b.queued("k")
		held := b.k.held(action, "w")
		b.redis("SET", held, "x")
		if _, err := b.take("w", 1); err == nil {
			t.Error("Take into a string: no error")
		}
		b.redis("DEL", held)
		if fs, err := b.take("w", 1); err != nil || len(fs) != 1 {
			t.Errorf("after it is mended %d firings are left, %v", len(fs), err)
		}
	})
	t.Run("queue of what is rescued", func(t *testing.T) {
		b := newBench(t, server.Addr)
		b.running("w", "k")
		b.redis("SET", b.k.firings(action), "x")
		if n, err := b.s.Rescue(b.ctx, b.lease, scheduler.Holder{Worker: "w"}, 5, 10); err == nil {
			t.Errorf("Rescue into a string: %d, no error", n)
		}
		b.redis("DEL", b.k.firings(action))
		if n, err := b.s.Rescue(b.ctx, b.lease, scheduler.Holder{Worker: "w"}, 5, 10); err != nil || n != 1 {
			t.Errorf("after it is mended %d are rescued, %v", n, err)
		}
		b.checked()
	})
	t.Run("queue of what is returned", func(t *testing.T) {
		b := newBench(t, server.Addr)
		fs := b.running("w", "k")
		b.redis("SET", b.k.firings(action), "x")
		if _, err := b.finish("w", scheduler.Finish{Firing: fs[0], Verdict: scheduler.Return}); err == nil {
			t.Error("Return into a string: no error")
		}
		b.redis("DEL", b.k.firings(action))
		if got, err := b.finish("w", scheduler.Finish{Firing: fs[0], Verdict: scheduler.Return}); err != nil || got[0] != scheduler.FinishedOK {
			t.Errorf("after it is mended: %v, %v", got, err)
		}
		if fs, err := b.take("w", 1); err != nil || len(fs) != 1 {
			t.Errorf("%d firings are left, %v", len(fs), err)
		}
	})
	t.Run("queue of what is redriven", func(t *testing.T) {
		b := newBench(t, server.Addr)
		fs := b.running("w", "k")
		if _, err := b.finish("w", ends(fs[0], scheduler.Bury, time.Time{})); err != nil {
			t.Fatal(err)
		}
		dead, _, err := b.s.DeadLetters(b.ctx, scheduler.JournalQuery{Limit: 1})
		if err != nil || len(dead) != 1 {
			t.Fatalf("%d dead letters, %v", len(dead), err)
		}
		b.redis("SET", b.k.firings(action), "x")
		if _, err := b.s.Redrive(b.ctx, []string{dead[0].ID}); err == nil {
			t.Error("Redrive into a string: no error")
		}
		b.redis("DEL", b.k.firings(action))
		if n, err := b.s.Redrive(b.ctx, []string{dead[0].ID}); err != nil || n != 1 {
			t.Errorf("after it is mended %d are redriven, %v", n, err)
		}
	})
	// One plan's key holds up the retries of no other.
	t.Run("retry", func(t *testing.T) {
		b := newBench(t, server.Addr)
		fs := b.running("w", "bad", "good")
		now := time.Now()
		if _, err := b.finish("w", ends(fs[0], scheduler.Retry, now.Add(-2*time.Second)), ends(fs[1], scheduler.Retry, now.Add(-time.Second))); err != nil {
			t.Fatal(err)
		}
		b.redis("SET", b.k.retry("bad"), "x")
		problems := ""
		if err := b.s.Check(b.ctx, func(f scheduler.Finding) { problems += f.Subject + "; " }); err != nil || !strings.Contains(problems, `retry of plan "bad"`) {
			t.Errorf("Check: %s %v", problems, err)
		}
		n, _, err := b.s.Promote(b.ctx, scheduler.PromoteRequest{Lease: b.lease, Now: now, Limit: 10})
		if err != nil || n != 1 {
			t.Errorf("Promote: %d, %v; want the good one", n, err)
		}
		b.redis("DEL", b.k.retry("bad"))
		b.settle()
		b.checked()
	})
	t.Run("retry of what is finished", func(t *testing.T) {
		b := newBench(t, server.Addr)
		fs := b.running("w", "buried", "bad", "good")
		b.redis("SET", b.k.retry("bad"), "x")
		at := time.Now().Add(time.Hour)
		batch := []scheduler.Finish{ends(fs[0], scheduler.Bury, time.Time{}), ends(fs[1], scheduler.Retry, at), ends(fs[2], scheduler.Retry, at)}
		got, err := b.finish("w", batch...)
		if want := []scheduler.Finished{scheduler.FinishedOK, scheduler.FinishedBad, scheduler.FinishedOK}; err != nil || !slices.Equal(got, want) {
			t.Errorf("Finish: %v, %v; want %v", got, err, want)
		}
		if _, err := b.finish("w", batch...); err != nil {
			t.Errorf("Finish again: %v", err)
		}
		if n := b.redis("XLEN", b.k.dead); n != int64(1) {
			t.Errorf("%v dead letters of the one that was buried", n)
		}
		b.checked()
	})
	// So that a plan can be created and removed whatever lies beside it.
	t.Run("retry of what is put and removed", func(t *testing.T) {
		b := newBench(t, server.Addr)
		fs := b.running("w", "waits")
		if _, err := b.finish("w", ends(fs[0], scheduler.Retry, time.Now().Add(time.Hour))); err != nil {
			t.Fatal(err)
		}
		b.redis("SET", b.k.retry("k"), "x")
		b.put(storetest.NewPlan("k"))
		b.redis("SET", b.k.retry("k"), "x")
		if _, err := b.s.Remove(b.ctx, "k"); err != nil {
			t.Errorf("Remove: %v", err)
		}
	})
}

// TestPlansThatNobodyCanRead: whatever stands where a plan should, it goes into
// quarantine when it is due, holds up nothing, and can be overwritten and removed.
func TestPlansThatNobodyCanRead(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := newBench(t, server.Addr)
	due := time.Now().Unix() - 5
	head := planHead(7, due)
	for i, stored := range []string{
		"", "x", "{}", "null", `[1]`, head, head + `"action":"` + action + `"`, // cut off
		head + `"second":1,"action":"` + action + `","count":1,"created_time":1}`,         // action out of its place
		`{ "revision":"0000000000000007","next_time":1,"action":"record"}`,                // written by hand
		`{"revision":"zzzzzzzzzzzzzzzz","next_time":1764192000 ,"action":"record"}`,       //
		head + `"action":"re cord","count":1,"created_time":1}`,                           // a name that is written otherwise
		head + `"action":"re%2fcord","count":1,"created_time":1}`,                         //
		head + `"action":"%zz","count":1,"created_time":1}`,                               //
		strings.Replace(head, "7", "\xff", 1) + `"action":"record","created_time":1}`,     //
		`{"revision":"0000000000000007","next_time":1e10       ,"action":"record"}`,       //
		head + `"current_count":x         ,"last_timeout":0          ,"status":1 ,` + "}", //
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			b := *b
			b.T = t
			ctx, cancel := context.WithTimeout(b.ctx, 3*time.Second)
			defer cancel()
			b.ctx = ctx
			key := fmt.Sprintf("p%d", i)
			good := storetest.NewPlan(key+"-good", storetest.WithDue(due))
			spoil := func() {
				b.put(storetest.NewPlan(key, storetest.WithDue(due)))
				b.redis("SET", b.k.plan(key), stored)
			}

			spoil()
			b.put(good)
			for range 2 { // the first may only correct an entry
				for _, p := range b.due(action).Plans {
					b.claim(p)
				}
			}
			if again := b.due(action); len(again.Plans) != 0 || again.Cleared != 0 {
				t.Errorf("%q: due is left %v, cleared %d", stored, again.Plans, again.Cleared)
			}
			if n := b.redis("HEXISTS", b.k.quarantine, key); n != int64(1) {
				t.Errorf("%q is not in quarantine", stored)
			}
			if fs, err := b.take("w", 10); err != nil || len(fs) != 1 || fs[0].Plan.Key != good.Key {
				t.Errorf("%q: taken was %v, %v, want the good one only", stored, fs, err)
			}

			// What was read before it was spoilt is not claimed.
			p := storetest.NewPlan(key, storetest.WithDue(due), storetest.WithRevision(7))
			b.put(p)
			b.redis("SET", b.k.plan(key), stored)
			if got := b.claim(p)[0]; got.Result != scheduler.ClaimBad && got.Result != scheduler.ClaimGone && got.Result != scheduler.ClaimChanged {
				t.Errorf("%q: claimed: %v", stored, got.Result)
			} else if n := b.redis("HEXISTS", b.k.quarantine, key); stored == "" && (got.Result != scheduler.ClaimBad || n != int64(1)) {
				t.Errorf("emptied: claim answers %v, %v in quarantine, want %v and 1", got.Result, n, scheduler.ClaimBad)
			}

			spoil()
			b.put(storetest.NewPlan(key, storetest.WithAction("other")))
			if got, err := b.s.Get(b.ctx, key); err != nil || got.Action != "other" {
				t.Errorf("%q was overwritten: %v, %v", stored, got, err)
			}
			spoil()
			if _, err := b.s.Remove(b.ctx, key); err != nil {
				t.Errorf("Remove of %q: %v", stored, err)
			}
			b.due(action) // clears what the schedule of the old action still has
			b.due("other")
			if _, err := b.s.Get(b.ctx, key); !errors.Is(err, scheduler.ErrNotFound) {
				t.Errorf("%q was removed: %v", stored, err)
			}
			b.checked()
		})
	}
}

// TestRecordsThatNobodyCanRead: garbage in queues, hands, streams and beside retries
// hides and holds up nothing else.
func TestRecordsThatNobodyCanRead(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := newBench(t, server.Addr)
	fs := b.running("w", "fails", "dies")
	now := time.Now()
	if _, err := b.finish("w", ends(fs[0], scheduler.Retry, now.Add(-time.Second)), ends(fs[1], scheduler.Bury, now)); err != nil {
		t.Fatal(err)
	}
	b.redis("XADD", b.k.history, "*", "attempts", "garbage")
	b.redis("XADD", b.k.history, "*", "other", "field")
	b.redis("XADD", b.k.dead, "*", "firing", "garbage")
	b.redis("ZADD", b.k.retries, "-inf", "", "1", "r", "2", "rid:record:nobody", "3", "dgarbage", "4", "\xff")
	b.redis("RPUSH", b.k.firings(action), "garbage", "")
	b.redis("HINCRBY", b.k.backlog, action, "2")
	b.redis("HINCRBY", b.k.backlog, action+":bytes", "7")
	b.redis("HINCRBY", b.k.backlog, ":total", "2")

	attempts, _, err := b.s.History(b.ctx, scheduler.JournalQuery{Limit: 10})
	if err != nil || len(attempts) != 2 {
		t.Errorf("History: %v, %v; want two attempts", attempts, err)
	}
	dead, _, err := b.s.DeadLetters(b.ctx, scheduler.JournalQuery{Limit: 10})
	if err != nil || len(dead) != 1 {
		t.Errorf("DeadLetters: %v, %v; want one", dead, err)
	}
	if n, _, err := b.s.Promote(b.ctx, scheduler.PromoteRequest{Lease: b.lease, Now: now, Limit: 10}); err != nil || n != 1 {
		t.Errorf("Promote: %d, %v; want one", n, err)
	}
	if got, err := b.take("w", 10); err != nil || len(got) != 1 || got[0].Plan.Key != "fails" {
		t.Errorf("Take: %v, %v; want what fails", got, err)
	}
	if n := b.redis("ZCARD", b.k.retries); n != int64(0) {
		t.Errorf("%v retries are left", n)
	}
}

// TestAWorkerIsRescuedWhole: a hash that once held many and is not shrunk (Redis does
// not while it saves) has its few fields anywhere.
func TestAWorkerIsRescuedWhole(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := newBench(t, server.Addr)
	t.Cleanup(server.Kill) // it would wait for its child
	b.running("w", "k")
	held := b.k.held(action, "w")
	for from := 0; from < 40_000; from += 1000 {
		args := []string{"HSET", held}
		for i := range 1000 {
			args = append(args, fmt.Sprintf("f%d", from+i), strings.Repeat("x", 70))
		}
		b.redis(args...)
	}
	b.redis("CONFIG", "SET", "rdb-key-save-delay", "500000")
	b.redis("BGSAVE")
	for from := 0; from < 40_000; from += 1000 {
		args := []string{"HDEL", held}
		for i := range 1000 {
			args = append(args, fmt.Sprintf("f%d", from+i))
		}
		b.redis(args...)
	}
	if n, err := b.s.Rescue(b.ctx, b.lease, scheduler.Holder{Worker: "w"}, 5, 10); err != nil || n != 1 {
		t.Errorf("Rescue: %d, %v; want the one firing", n, err)
	}
}

// TestACancelledPutIsUnsure: a create whose caller goes away before its deadline may
// take effect still, and says so.
func TestACancelledPutIsUnsure(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr)
	s := openStore(t, testOptions(proxy.Addr))
	p := storetest.NewPlan("k")
	timed, cancelTimed := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancelTimed()
	if err := s.Put(timed, []*scheduler.Plan{storetest.NewPlan("warm")})[0]; err != nil {
		t.Fatal(err)
	}
	proxy.Delay(200 * time.Millisecond)
	ctx, cancel := context.WithCancel(timed)
	time.AfterFunc(50*time.Millisecond, cancel)
	err := s.Put(ctx, []*scheduler.Plan{p})[0]
	proxy.Heal()
	eventually(t, 5*time.Second, "the plan appears", func() bool { _, err := s.Get(timed, p.Key); return err == nil })
	if !errors.Is(err, scheduler.ErrUnsure) {
		t.Errorf("Put: %v; it took effect later, so that ErrUnsure was to be said", err)
	}
}

// TestALostAnswerIsUnsure: what was done, and its answer lost with the connection, may have
// been done, and that is said.
func TestALostAnswerIsUnsure(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr)
	s := openStore(t, testOptions(proxy.Addr))
	p := storetest.NewPlan("k")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Put(ctx, []*scheduler.Plan{storetest.NewPlan("warm")})[0]; err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(ctx, "warm"); err != nil { // Redis knows both scripts now
		t.Fatal(err)
	}
	lose := func(call func(context.Context) error) error {
		proxy.DropNextReplyMatching(func(request []byte) bool { return bytes.Contains(request, []byte("plan:k")) })
		ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		return call(ctx)
	}
	err := lose(func(ctx context.Context) error { return s.Put(ctx, []*scheduler.Plan{p})[0] })
	if !errors.Is(err, scheduler.ErrUnsure) || errors.Is(err, scheduler.ErrStore) {
		t.Errorf("Put: %v, want ErrUnsure", err)
	}
	if got, err := s.Get(ctx, "k"); err != nil || got.Revision != p.Revision {
		t.Errorf("Get: %v, %v; want the plan: this has shown nothing", got, err)
	}
	err = lose(func(ctx context.Context) error { _, err := s.Remove(ctx, "k"); return err })
	if !errors.Is(err, scheduler.ErrUnsure) || errors.Is(err, scheduler.ErrStore) {
		t.Errorf("Remove: %v, want ErrUnsure", err)
	}
	if _, err := s.Get(ctx, "k"); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("Get: %v, want ErrNotFound: this has shown nothing", err)
	}
}

// TestActionsWithOddNames: names are written so that they end where they should.
func TestActionsWithOddNames(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := newBench(t, server.Addr)
	second := time.Now().Unix() + 1000
	names := []string{"a:b", "a", "a%b", `q"q`, "späte", "x y", "💥", "a:", ":total", "a%3Ab"}
	for _, name := range names {
		b.put(storetest.NewPlan("of "+name, storetest.WithAction(name), storetest.WithDue(second)), storetest.NewPlan("more "+name, storetest.WithAction(name), storetest.WithDue(second)))
	}
	seen, cursor := 0, ""
	for range 100 {
		plans, next, err := b.s.DueAt(b.ctx, scheduler.DueAtQuery{Second: second, Cursor: cursor, Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		seen += len(plans)
		if cursor = next; cursor == "" {
			break
		}
	}
	if seen != 2*len(names) || cursor != "" {
		t.Errorf("DueAt returned %d plans, want %d; cursor %q", seen, 2*len(names), cursor)
	}
	b.checked()
	for _, name := range names {
		if p, err := b.s.Remove(b.ctx, "of "+name); err != nil || p.Action != name {
			t.Errorf("Remove: %v, %v; want one of action %q", p, err, name)
		}
	}
}
