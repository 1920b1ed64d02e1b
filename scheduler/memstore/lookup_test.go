package memstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/rs/zerolog"

	"github.com/snower/forsun/scheduler"
)

// nestedKeys are keys many of which others begin with.
func nestedKeys() (keys []string) {
	for _, a := range []string{"a", "b", "order-1", "\x01", "\xff\xff"} {
		for _, b := range []string{"", "0", "a", "\x01", "\xff", "/x"} {
			for _, c := range []string{"", "a", "\x01", "\xff", strings.Repeat("z", 300)} {
				keys = append(keys, a+b+c)
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// TestBulksOfAnyKeys compares bulks of new keys, keys that are there, were removed or moved, and keys
// that are in one bulk twice, with a model: what is there is in memtables and in tables of
// several levels.
func TestBulksOfAnyKeys(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := open(t, testOptions(t))
	keys := nestedKeys()
	stored := make(map[string]*scheduler.Plan)
	within := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for round := range 150 {
		bulk := make([]*scheduler.Plan, 1+rng.IntN(40))
		for i := range bulk {
			bulk[i] = plan(keys[rng.IntN(len(keys))], 2_000_000_000+rng.Int64N(5))
			bulk[i].Action = []string{"http", "shell"}[rng.IntN(2)]
		}
		onlyNew := round%5 == 0
		put := s.Put
		if onlyNew {
			put = s.PutNew
		}
		errs := put(t.Context(), bulk)
		last := make(map[string]*scheduler.Plan)
		for _, p := range bulk {
			last[p.Key] = p
		}
		for i, p := range bulk {
			_, there := stored[p.Key]
			switch {
			case onlyNew && there:
				if last[p.Key] == p && !errors.Is(errs[i], scheduler.ErrExists) {
					t.Fatalf("round %d: %q: %v, want ErrExists", round, p.Key, errs[i])
				}
				continue
			case errs[i] != nil:
				t.Fatalf("round %d: %q: %v", round, p.Key, errs[i])
			case p.Replaced != (there || slices.ContainsFunc(bulk[:i], func(q *scheduler.Plan) bool { return q.Key == p.Key })):
				t.Fatalf("round %d: %q replaced another: %t", round, p.Key, p.Replaced)
			}
		}
		for k, p := range last {
			if _, there := stored[k]; !onlyNew || !there {
				stored[k] = p
			}
		}
		switch rng.IntN(8) {
		case 0:
			within(s.db.Flush())
		case 1:
			within(s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false))
		case 2, 3:
			for range 15 {
				k := keys[rng.IntN(len(keys))]
				if _, err := s.Remove(t.Context(), k); (err == nil) != (stored[k] != nil) {
					t.Fatalf("round %d: remove %q: %v", round, k, err)
				}
				delete(stored, k)
			}
		}
		// One by one the same is found as all at once.
		all := make([]*scheduler.Plan, len(keys))
		for i, k := range rng.Perm(len(keys)) {
			all[i] = &scheduler.Plan{Key: keys[k]}
		}
		errs = make([]error, len(all))
		errs[0] = errTruncated // it is left out
		for i, got := range s.lookupAll(all, errs) {
			want, err := s.lookup(all[i].Key)
			if i == 0 {
				want.exists, want.action, want.due, want.body = false, "", 0, nil
			} else {
				within(errors.Join(err, errs[i]))
			}
			if !reflect.DeepEqual(got, want) || i > 0 && got.exists != (stored[all[i].Key] != nil) {
				t.Fatalf("round %d: %q: %+v among many, %+v alone, stored: %t", round, all[i].Key, got, want, stored[all[i].Key] != nil)
			}
		}
	}
	listed, _, err := s.List(t.Context(), scheduler.ListQuery{Limit: len(keys) + 1})
	within(err)
	var there []string
	for _, p := range listed {
		there = append(there, p.Key)
		if want := stored[p.Key]; want == nil || p.Revision != want.Revision || p.Due != want.Due || p.Action != want.Action {
			t.Errorf("%q is listed as %+v, want %+v", p.Key, p, want)
		}
	}
	if want := slices.Sorted(maps.Keys(stored)); !slices.Equal(there, want) {
		t.Errorf("listed: %q, want %q", there, want)
	}
	wantWhole(t, s) // nothing is left in the schedules of what was replaced
}

// TestChangedSinceLookup changes what a bulk has found before the writer comes to it: the writer
// goes by what is there then.
func TestChangedSinceLookup(t *testing.T) {
	t.Parallel()
	s := open(t, testOptions(t))
	const due = 2_000_000_000
	var before, bulk []*scheduler.Plan
	for i := range 3 * manyLookups {
		k := fmt.Sprintf("k%02d", i)
		bulk = append(bulk, plan(k, due+7))
		if i%3 != 0 {
			before = append(before, plan(k, due))
		}
	}
	if err := errors.Join(s.Put(t.Context(), before)...); err != nil {
		t.Fatal(err)
	}
	looked := func() bool { // the bulk has been looked up, and waits
		s.writer.mu.Lock()
		defer s.writer.mu.Unlock()
		return len(s.writer.waiting) > 0
	}
	begun := make(chan struct{})
	var errs []error
	var puts sync.WaitGroup
	puts.Go(func() {
		<-begun
		errs = s.Put(t.Context(), bulk)
	})
	_, err := s.submit(&request{ctx: t.Context(), sync: true, run: func(x *txn) error {
		close(begun)
		for end := time.Now().Add(30 * time.Second); !looked(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				return context.DeadlineExceeded
			}
		}
		for i, p := range bulk {
			switch i % 3 {
			case 0, 1: // there now; elsewhere now
				q := plan(p.Key, due+3)
				old, err := s.lookup(p.Key)
				if err != nil {
					return err
				}
				e := encoded{key: q.Key, action: q.Action, due: q.Due, revision: q.Revision, body: appendBody(nil, q), before: old, since: s.changes.since()}
				if err := x.put(&e); err != nil {
					return err
				}
			case 2: // gone
				x.drop("http", due, p.Key)
			}
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	puts.Wait()
	for i, p := range bulk {
		if want := i%3 != 2; errs[i] != nil || p.Replaced != want {
			t.Errorf("%q: %v, replaced another: %t, want %t", p.Key, errs[i], p.Replaced, want)
		}
	}
	wantWhole(t, s)
}

// TestBulksAtOnce has clients store, remove and find the same few keys at once.
func TestBulksAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t, testOptions(t))
	var clients sync.WaitGroup
	for c := range 4 {
		clients.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(c), 1))
			for range 60 {
				bulk := make([]*scheduler.Plan, 1+rng.IntN(30))
				for i := range bulk {
					bulk[i] = plan(fmt.Sprintf("k%d", rng.IntN(40)), 2_000_000_000+rng.Int64N(3))
				}
				if err := errors.Join(s.Put(t.Context(), bulk)...); err != nil {
					t.Error(err)
				}
				if _, err := s.Remove(t.Context(), fmt.Sprintf("k%d", rng.IntN(40))); err != nil && !errors.Is(err, scheduler.ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	clients.Wait()
	wantWhole(t, s)
}

// TestUnreadableBulk stores a bulk while tables cannot be read: what could not be looked up is
// refused, and is not taken for new; afterwards it goes on.
func TestUnreadableBulk(t *testing.T) {
	t.Parallel()
	broken := &faulty{ending: ".sst", kinds: []errorfs.OpKind{errorfs.OpOpen, errorfs.OpFileReadAt}, err: fmt.Errorf("read: %w", syscall.EIO)}
	o := testOptions(t)
	o.Dir, o.FS, o.Log = "/store", errorfs.Wrap(vfs.NewCrashableMem(), broken), zerolog.Nop()
	s := open(t, o)
	bulk := func() (plans []*scheduler.Plan) {
		for i := range 2 * manyLookups {
			plans = append(plans, plan(fmt.Sprintf("k%02d", i), 2_000_000_000))
		}
		return append(plans, plans[0].Clone())
	}
	if err := errors.Join(s.Put(t.Context(), bulk())...); err != nil {
		t.Fatal(err)
	}
	// One table, with which Pebble has nothing more to do: what it reads on its own must not fail.
	if err := s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if m := s.db.Metrics(); m.Compact.NumInProgress == 0 && m.Table.PendingStatsCollectionCount == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("Pebble does not come to rest")
		}
	}
	for _, many := range []int{1, manyLookups, 2*manyLookups + 1} {
		broken.on.Store(true)
		for i, err := range s.Put(t.Context(), bulk()[:many]) {
			if !errors.Is(err, scheduler.ErrStore) || !errors.Is(err, errUnreadable) || !errors.Is(err, syscall.EIO) {
				t.Errorf("plan %d of %d: %v, want that the store cannot be read", i, many, err)
			}
		}
		broken.on.Store(false)
	}
	if err := s.failure(); err != nil {
		t.Fatal(err)
	}
	again := bulk()
	for i, err := range s.Put(t.Context(), again) {
		if err != nil || !again[i].Replaced {
			t.Errorf("plan %d: %v, replaced another: %t", i, err, again[i].Replaced)
		}
	}
	wantWhole(t, s)
}
