package memstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
)

// wide says that damage and faults are tried everywhere, not at a sample of places:
// CHAOS=full.
var wide = os.Getenv("CHAOS") == "full"

// tale is a store's life, one operation after the other, with every kind of operation and
// of file in it, and what was answered.
type tale struct {
	mu     sync.Mutex                 // so that copy may be called from anywhere
	plans  map[string]*scheduler.Plan // as answered; nil: removed, or fired for the last time
	fired  map[firingOf]bool          // claimed
	unsure map[string]bool            // keys of what was not answered, or with an error
	asked  []string                   // keys of what is asked now
	lease  scheduler.Lease
	second int64
	after  func() // each operation; may be nil
	flat   bool   // all of it stays in one log
}

// firingOf is a due second of a plan.
type firingOf struct {
	key string
	due int64
}

func newTale() *tale {
	return &tale{
		plans: make(map[string]*scheduler.Plan), fired: make(map[firingOf]bool), unsure: make(map[string]bool),
		second: time.Now().Unix() - 100,
	}
}

// tell does it all, or what can be done until the store fails.
func (y *tale) tell(ctx context.Context, s *Store) {
	for _, step := range []func(context.Context, *Store){
		func(ctx context.Context, s *Store) { y.put(ctx, s, "once-1", "once-2", "once-3", "once-4", "once-5") },
		func(ctx context.Context, s *Store) { y.put(ctx, s, "recurs-1", "recurs-2", "recurs-3") },
		func(ctx context.Context, s *Store) { y.put(ctx, s, "later-1"); y.put(ctx, s, "later-2", "later-3") },
		func(ctx context.Context, s *Store) { y.put(ctx, s, "once-5", "later-2") }, // instead of those
		func(ctx context.Context, s *Store) { y.remove(ctx, s, "later-1") },
		func(_ context.Context, s *Store) { y.tidy(s, s.db.Flush) },
		func(ctx context.Context, s *Store) {
			lease, err := s.Campaign(ctx, shardID, "r")
			if err == nil {
				y.lease = lease
			}
		},
		y.claim, y.work, y.claim,
		func(ctx context.Context, s *Store) {
			y.ask(nil, func() func() {
				_, _, _ = s.Promote(ctx, scheduler.PromoteRequest{Lease: y.lease, Now: time.Now(), Limit: 100})
				return func() {}
			})
		},
		func(ctx context.Context, s *Store) { y.remove(ctx, s, "recurs-1") },
		func(ctx context.Context, s *Store) { y.put(ctx, s, "recurs-2", "large-1", "large-2") },
		func(_ context.Context, s *Store) { y.tidy(s, s.db.Flush) },
		func(ctx context.Context, s *Store) {
			y.tidy(s, func() error { return s.db.Compact(ctx, []byte{0}, []byte{0xff}, false) })
		},
		y.claim, y.work,
		func(ctx context.Context, s *Store) { y.put(ctx, s, "once-6", "later-4") },
		func(ctx context.Context, s *Store) { y.remove(ctx, s, "later-3") },
	} {
		if s.failure() != nil {
			return
		}
		step(ctx, s)
	}
}

// tidy waits for what Pebble is asked for, or until the store fails: then it may
// never end.
func (y *tale) tidy(s *Store, ask func() error) {
	if y.flat {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = ask() // what matters of it ends the store
	}()
	select {
	case <-done:
	case <-s.failed:
	}
}

// copy is what was answered up to now; what is being asked is unsure. Nothing is asked
// until meanwhile returns.
func (y *tale) copy(meanwhile func()) *tale {
	y.mu.Lock()
	defer y.mu.Unlock()
	defer meanwhile()
	c := &tale{plans: maps.Clone(y.plans), fired: maps.Clone(y.fired), unsure: maps.Clone(y.unsure)}
	for _, key := range y.asked {
		c.unsure[key] = true
	}
	return c
}

// ask notes of which keys something is asked, and locks the tale once note is to be called
// with what was answered.
func (y *tale) ask(keys []string, do func() (note func())) {
	y.mu.Lock()
	y.asked = keys
	y.mu.Unlock()
	note := do()
	y.mu.Lock()
	note()
	y.asked = nil
	y.mu.Unlock()
	if y.after != nil {
		y.after()
	}
}

func (y *tale) put(ctx context.Context, s *Store, keys ...string) {
	plans := make([]*scheduler.Plan, len(keys))
	for i, key := range keys {
		p := plan(key, y.second)
		switch {
		case strings.HasPrefix(key, "recurs"):
			p.Schedule.Count = 0
		case strings.HasPrefix(key, "later"):
			p.Due = 2_000_000_000
		case strings.HasPrefix(key, "large"):
			p.Due = 2_000_000_000
			p.Params["body"] = strings.Repeat("0123456789abcde\n", 700)
		}
		plans[i] = p
	}
	y.ask(keys, func() func() {
		errs := s.Put(ctx, plans)
		return func() {
			for i, err := range errs {
				if err != nil {
					y.unsure[keys[i]] = true
					continue
				}
				y.plans[keys[i]] = plans[i]
				y.forget(keys[i])
			}
		}
	})
}

// forget forgets what was claimed of a key: its retries are cancelled.
func (y *tale) forget(key string) {
	for f := range y.fired {
		if f.key == key {
			delete(y.fired, f)
		}
	}
}

func (y *tale) remove(ctx context.Context, s *Store, key string) {
	y.ask([]string{key}, func() func() {
		_, err := s.Remove(ctx, key)
		return func() {
			if err != nil {
				y.unsure[key] = true
			} else {
				y.plans[key] = nil
				y.forget(key)
			}
		}
	})
}

// claim claims all that is due.
func (y *tale) claim(ctx context.Context, s *Store) {
	b := scheduler.ClaimBatch{Lease: y.lease, Action: "http", Cutoff: y.second + 60}
	for _, key := range slices.Sorted(maps.Keys(y.plans)) {
		p := y.plans[key]
		if p == nil || p.Due > b.Cutoff {
			continue
		}
		c := scheduler.Claim{Key: key, Revision: p.Revision, Due: p.Due, FireDue: p.Due}
		if p.Schedule.Count == 0 {
			c.Next = p.Due + 5
		}
		b.Claims = append(b.Claims, c)
	}
	var keys []string
	for _, c := range b.Claims {
		keys = append(keys, c.Key)
	}
	y.ask(keys, func() func() {
		r, err := s.Claim(ctx, b)
		return func() {
			for i, c := range b.Claims {
				switch {
				case err != nil || r.Answers[i].Result != scheduler.ClaimedOK:
					y.unsure[c.Key] = true
					continue
				case c.Next == 0:
					y.plans[c.Key] = nil
				default:
					next := *y.plans[c.Key]
					next.Due = c.Next
					y.plans[c.Key] = &next
				}
				y.fired[firingOf{c.Key, c.Due}] = true
			}
		}
	})
}

// work takes what there is and finishes it, each in another way.
func (y *tale) work(ctx context.Context, s *Store) {
	var fs []*scheduler.Firing
	y.ask(nil, func() func() {
		fs, _, _ = s.Take(ctx, scheduler.TakeRequest{Worker: "w", Slots: map[string]int{"http": 100}})
		return func() {}
	})
	var ends []scheduler.Finish
	for i, f := range fs {
		e := scheduler.Finish{Firing: f, Verdict: scheduler.Verdict(i % 5), At: time.Now().Add(-time.Second)}
		if e.Verdict != scheduler.Defer && e.Verdict != scheduler.Return {
			e.Attempt = &scheduler.Attempt{Firing: f.ID(), Key: f.Plan.Key, Action: "http", Due: f.Due, Attempt: f.Attempt, Outcome: scheduler.Succeeded}
		}
		ends = append(ends, e)
	}
	y.ask(nil, func() func() {
		_, _ = s.Finish(ctx, shardID, "w", ends)
		return func() {}
	})
}

// holds checks that nothing that was answered is lost.
func (y *tale) holds(t *testing.T, s *Store, what string) {
	t.Helper()
	for key, want := range y.plans {
		if y.unsure[key] {
			continue
		}
		got, err := s.Get(t.Context(), key)
		switch {
		case want == nil && !errors.Is(err, scheduler.ErrNotFound):
			t.Errorf("%s: %q was removed or has fired for the last time, and is there: %+v, %v", what, key, got, err)
		case want != nil && err != nil:
			t.Errorf("%s: %q was acknowledged: %v", what, key, err)
		case want != nil && (got.Revision != want.Revision || got.Due != want.Due || got.Params["body"] != want.Params["body"]):
			t.Errorf("%s: %q is %+v, want %+v", what, key, got, want)
		}
	}
	there := make(map[firingOf]bool)
	for _, line := range look(t, s) {
		var f firingOf
		if _, err := fmt.Sscanf(line, "firing %q %d", &f.key, &f.due); err == nil {
			there[f] = true
		}
	}
	for f := range y.fired {
		if !there[f] && !y.unsure[f.key] {
			t.Errorf("%s: the firing of %q due at %d was claimed and is nowhere", what, f.key, f.due)
		}
	}
}

// look is all that a store holds, in lines: plans, and firings, wherever they are: queued,
// waiting to be retried, dead, or in the history.
func look(t *testing.T, s *Store) []string {
	t.Helper()
	lines, err := lookAt(s)
	if err != nil {
		t.Errorf("read: %v", err)
	}
	return lines
}

func lookAt(s *Store) (lines []string, err error) {
	cancelled := make(map[string]bool) // by number
	for _, space := range []byte{spaceCancelled, spacePlan, spaceFiring, spaceRetry, spaceDead, spaceHistory} {
		err := s.each(space, func(k, v []byte) error {
			f, where, err := (*firing)(nil), "queued", error(nil)
			switch space {
			case spacePlan:
				p, err := s.lookup(string(k[1:]))
				if err != nil {
					return err
				}
				plan, err := decodePlan(bytes.Clone(k[1:]), p.action, p.due, p.body)
				if err != nil {
					return err
				}
				sum := crc32.ChecksumIEEE(fmt.Append(nil, plan.Schedule, plan.Params))
				lines = append(lines, fmt.Sprintf("plan %q %d %x %d %d %x", plan.Key, plan.Due, uint64(plan.Revision), plan.Fired, plan.Status, sum))
				return nil
			case spaceCancelled:
				cancelled[string(k[1:])] = true
				return nil
			case spaceHistory:
				_, _, n, _ := splitHistoryKey(k)
				return decodeAttempts(v, n, func(_ int, a *scheduler.Attempt) {
					lines = append(lines, fmt.Sprintf("firing %q %d %s", a.Key, a.Due, a.Outcome))
				})
			case spaceDead:
				where = "dead"
				_, _, f, err = decodeDead(bytes.Clone(v))
			case spaceRetry:
				where = "waits"
				f, err = decodeFiring(bytes.Clone(v))
			default:
				f, err = decodeFiring(bytes.Clone(v))
			}
			if err != nil {
				return err
			}
			if f.cancelled || cancelled[string(k[1:])] {
				where += ", cancelled"
			}
			lines = append(lines, fmt.Sprintf("firing %q %d %s", f.key, f.due, where))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(lines)
	return lines, nil
}
