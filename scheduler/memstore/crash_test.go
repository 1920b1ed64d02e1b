package memstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/snower/forsun/scheduler"
)

// ledger is what clients were answered, written down beside the store.
type ledger struct {
	mu      sync.Mutex
	sent    map[string]bool      // keys whose Put was begun
	stored  map[string]bool      // ... and answered
	removed map[string]bool      // keys whose Remove was answered: nothing of them fires again
	removal map[string]bool      // keys whose Remove was begun
	taken   map[occurrence]int64 // the last due second that was handed to a worker
	terms   []uint64
}

// occurrence is a plan as it was stored once.
type occurrence struct {
	key string
	rev scheduler.Revision
}

func newLedger() *ledger {
	return &ledger{
		sent: make(map[string]bool), stored: make(map[string]bool), removed: make(map[string]bool),
		removal: make(map[string]bool), taken: make(map[occurrence]int64),
	}
}

func (l *ledger) note(m map[string]bool, keys ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		m[k] = true
	}
}

// copy takes what was answered up to now.
func (l *ledger) copy() (stored, removed []string, taken map[occurrence]int64, term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k := range l.stored {
		stored = append(stored, k)
	}
	for k := range l.removed {
		removed = append(removed, k)
	}
	if n := len(l.terms); n > 0 {
		term = l.terms[n-1]
	}
	return stored, removed, maps.Clone(l.taken), term
}

// load puts, removes, claims, retries and finishes until ctx is done: 8 clients,
// one leader, one worker.
func load(ctx context.Context, t *testing.T, s *Store, l *ledger, generation int) {
	var tasks sync.WaitGroup
	fatal := func(what string, err error) bool {
		if err == nil || ctx.Err() != nil {
			return ctx.Err() != nil
		}
		t.Errorf("%s: %v", what, err)
		return true
	}
	for c := range 8 {
		tasks.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				keys, plans := make([]string, 1+i%3), make([]*scheduler.Plan, 1+i%3)
				for k := range keys {
					keys[k] = fmt.Sprintf("g%d-c%d-%d-%d", generation, c, i, k)
					plans[k] = plan(keys[k], time.Now().Unix()-int64(i%20))
					if k == 2 { // recurs
						plans[k].Schedule.Count = 0
					}
				}
				l.note(l.sent, keys...)
				for k, err := range s.Put(ctx, plans) {
					if fatal("put", err) {
						return
					}
					l.note(l.stored, keys[k])
				}
				if i%5 == 0 {
					l.note(l.removal, keys[0])
					if _, err := s.Remove(ctx, keys[0]); !errors.Is(err, scheduler.ErrNotFound) && fatal("remove", err) {
						return
					} else if err == nil {
						l.note(l.removed, keys[0])
					}
				}
			}
		})
	}
	tasks.Go(func() {
		lease, err := s.Campaign(ctx, shardID, "r")
		if fatal("campaign", err) {
			return
		}
		l.mu.Lock()
		l.terms = append(l.terms, lease.Term)
		l.mu.Unlock()
		for ctx.Err() == nil {
			now := time.Now()
			page, err := s.Due(ctx, scheduler.DueQuery{Action: "http", From: 0, To: now.Unix(), Limit: 50})
			if fatal("due", err) {
				return
			}
			b := scheduler.ClaimBatch{Lease: lease, Action: "http", Cutoff: now.Unix(), Backlog: scheduler.Backlog{Entries: 500}}
			for _, p := range page.Plans {
				c := scheduler.Claim{Key: p.Key, Revision: p.Revision, Due: p.Due, FireDue: p.Due}
				if p.Schedule.Count == 0 {
					c.Next = p.Due + 5
				}
				b.Claims = append(b.Claims, c)
			}
			if _, err := s.Claim(ctx, b); fatal("claim", err) {
				return
			}
			if _, _, err := s.Promote(ctx, scheduler.PromoteRequest{Lease: lease, Now: now, Limit: 100}); fatal("promote", err) {
				return
			}
			if lease, err = s.Renew(ctx, lease); fatal("renew", err) {
				return
			}
		}
	})
	tasks.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			fs, _, err := s.Take(ctx, scheduler.TakeRequest{Worker: "w", Slots: map[string]int{"http": 40}})
			if fatal("take", err) {
				return
			}
			var ends []scheduler.Finish
			for k, f := range fs {
				l.mu.Lock()
				if !l.sent[f.Plan.Key] {
					t.Errorf("a firing of %q, which nobody has stored", f.Plan.Key)
				}
				o := occurrence{f.Plan.Key, f.Plan.Revision}
				l.taken[o] = max(l.taken[o], f.Due)
				l.mu.Unlock()
				e := scheduler.Finish{Firing: f, Verdict: scheduler.Verdict((i + k) % 5), At: time.Now().Add(10 * time.Millisecond)}
				if e.Verdict != scheduler.Defer && e.Verdict != scheduler.Return {
					e.Attempt = &scheduler.Attempt{Firing: f.ID(), Key: f.Plan.Key, Action: "http", Due: f.Due, Attempt: f.Attempt, Outcome: scheduler.Succeeded}
				}
				ends = append(ends, e)
			}
			if _, err := s.Finish(ctx, shardID, "w", ends); fatal("finish", err) {
				return
			}
		}
	})
	tasks.Wait()
}

// present is every key the store knows something of: plans, firings, retries,
// dead letters, history.
func present(t *testing.T, s *Store) map[string]bool {
	t.Helper()
	keys := make(map[string]bool)
	for _, space := range []byte{spacePlan, spaceFiring, spaceRetryByKey, spaceDead, spaceHistory} {
		err := s.each(space, func(k, v []byte) error {
			switch space {
			case spacePlan:
				keys[string(k[1:])] = true
			case spaceFiring:
				f, err := decodeFiring(bytes.Clone(v))
				if err != nil {
					return err
				}
				keys[f.key] = true
			case spaceRetryByKey:
				key, _, _ := splitRetryByKey(k)
				keys[string(key)] = true
			case spaceDead:
				_, _, f, err := decodeDead(bytes.Clone(v))
				if err != nil {
					return err
				}
				keys[f.key] = true
			case spaceHistory:
				_, _, n, _ := splitHistoryKey(k)
				return decodeAttempts(v, n, func(_ int, a *scheduler.Attempt) { keys[a.Key] = true })
			}
			return nil
		})
		if err != nil {
			t.Fatalf("read: %v", err)
		}
	}
	return keys
}

// TestPowerCut cuts the power at random moments under load, with any part of what was
// not synced on disk, and goes on with what is left: nothing acknowledged is
// lost, nothing removed comes back, the store is whole, terms grow.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	fs := vfs.NewCrashableMem()
	l := newLedger()
	cuts := 8
	if testing.Short() {
		cuts = 4
	}
	for generation := range cuts {
		o := testOptions(t)
		// Small enough that flushes and compactions happen, too.
		o.Dir, o.FS, o.MemTableBytes, o.HistoryEntries, o.DeadEntries = "/store", fs, 1<<20, 1<<30, 1<<30
		s := open(t, o)
		wantWhole(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			load(ctx, t, s, l, generation)
		}()
		time.Sleep(time.Duration(50+rng.IntN(250)) * time.Millisecond) // the moment is the test's input
		stored, removed, taken, term := l.copy()
		fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(4) * 33, RNG: rng})
		cancel()
		<-done
		if err := s.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}

		o.FS = fs
		s, err := Open(o)
		if err != nil {
			t.Fatalf("open after power cut %d: %v", generation, err)
		}
		keys := present(t, s)
		lost := 0
		for _, k := range stored {
			if !keys[k] && !l.removal[k] {
				lost++
				if lost <= 5 {
					t.Errorf("power cut %d: the plan %q was acknowledged and is lost", generation, k)
				}
			}
		}
		for _, k := range removed {
			if _, err := s.Get(t.Context(), k); !errors.Is(err, scheduler.ErrNotFound) {
				t.Errorf("power cut %d: the plan %q was removed and is back: %v", generation, k, err)
			}
		}
		for o, due := range taken {
			if p, err := s.Get(t.Context(), o.key); err == nil && p.Revision == o.rev && p.Due <= due {
				t.Errorf("power cut %d: the firing of %q due at %d was run, and the plan is due at %d again", generation, o.key, due, p.Due)
			}
		}
		if s.leases.term < term {
			t.Errorf("power cut %d: term %d, was %d", generation, s.leases.term, term)
		}
		if lost > 0 {
			t.Fatalf("power cut %d: %d of %d acknowledged plans lost", generation, lost, len(stored))
		}
		wantWhole(t, s)
		if err := s.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
}

// A firing that takes the process down each time ends as a dead letter; those
// that only waited behind it lose nothing, and neither does one that was
// running when the process was stopped.
func TestFiringThatKillsTheProcess(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	o := testOptions(t)
	o.Dir, o.FS, o.MaxDeliveries = "/store", fs, 3
	s := open(t, o)
	claim := func(keys ...string) {
		t.Helper()
		sec := time.Now().Unix() - 10
		lease, err := s.Campaign(t.Context(), shardID, "r")
		if err != nil {
			t.Fatal(err)
		}
		b := scheduler.ClaimBatch{Lease: lease, Action: "http", Cutoff: sec}
		for _, key := range keys {
			p := plan(key, sec)
			if err := s.Put(t.Context(), []*scheduler.Plan{p})[0]; err != nil {
				t.Fatal(err)
			}
			b.Claims = append(b.Claims, scheduler.Claim{Key: key, Revision: p.Revision, Due: sec, FireDue: sec})
		}
		if _, err := s.Claim(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	take := func(s *Store, n int) (got string) {
		t.Helper()
		fs, _, err := s.Take(t.Context(), scheduler.TakeRequest{Worker: "w", Slots: map[string]int{"http": n}})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range fs {
			got += fmt.Sprintf("%s %d/%d ", f.Plan.Key, f.Attempt, f.Delivery)
			if f.Plan.Key != "killer" {
				end := []scheduler.Finish{{Firing: f, Verdict: scheduler.Return}}
				if _, err := s.Finish(t.Context(), shardID, "w", end); err != nil {
					t.Fatal(err)
				}
			}
		}
		return got
	}
	claim("killer", "waits")
	want := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: took %q, want %q", what, got, want)
		}
	}
	want("first life", take(s, 1), "killer 1/1 ")
	// That it was handed out gets to disk by itself, soon.
	eventually(t, "what was taken is on disk", func() bool {
		look := o
		look.FS = fs.CrashClone(vfs.CrashCloneCfg{})
		c := open(t, look)
		defer func() { _ = c.Close() }()
		return take(c, 2) == "waits 1/1 killer 2/2 "
	})
	for _, after := range []string{"waits 1/1 killer 2/2 ", "waits 2/2 killer 3/3 ", "waits 3/3 "} {
		settle(t, s)
		fs = fs.CrashClone(vfs.CrashCloneCfg{})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		o.FS = fs
		s = open(t, o)
		want("after a crash", take(s, 2), after)
	}
	dead, _, err := s.DeadLetters(t.Context(), scheduler.JournalQuery{Limit: 10})
	if err != nil || len(dead) != 1 || dead[0].Firing.Plan.Key != "killer" || dead[0].Error != lostReason {
		t.Errorf("dead letters %+v, %v", dead, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	want("after a stop", take(s, 2), "waits 3/3 ")
	wantWhole(t, s)
}
