package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/snower/forsun/scripts/chaos/ledger"
)

// load is plans of all kinds that fire from when they are stored to end, some of
// which are replaced and removed meanwhile.
type load struct {
	f    *fleet
	end  time.Time
	keys []string // of plans that may be changed
	rand *rand.Rand

	changes sync.WaitGroup
	failed  error
}

// soonest is how many seconds from its creation a plan is due at the earliest.
const soonest = 3

// newLoad stores n plans that fire within span, and begins to change a tenth of
// them.
func newLoad(f *fleet, n int, span time.Duration) *load {
	f.t.Helper()
	l := &load{f: f, end: time.Now().Add(span), rand: rand.New(rand.NewPCG(f.rand.Uint64(), 0))}
	seconds := int64(span / time.Second)
	now := time.Now()
	plans := make([]ledger.Plan, n)
	for i := range plans {
		var spec ledger.Spec
		kind := "once"
		switch share := i * 100 / n; {
		case i < 5:
			kind, spec = "each-second", ledger.Spec{Calendar: ledger.EachSecond()}
		case share < 80:
			spec = ledger.Spec{Every: soonest + l.rand.Int64N(seconds-soonest), Count: 1}
		case share < 92:
			count := 2 + l.rand.Int64N(3)
			kind, spec = "interval", ledger.Spec{Every: 1 + l.rand.Int64N(seconds/count), Count: count}
		case share < 96:
			at := now.Add(time.Duration(l.rand.Int64N(seconds)) * time.Second)
			kind, spec = "each-minute", ledger.Spec{Calendar: ledger.EachMinute(at.Second())}
		default:
			// Stored within this time, or it will have passed.
			at := now.Add(time.Duration(min(10, seconds/2)+l.rand.Int64N(seconds/2)) * time.Second)
			kind, spec = "date", ledger.Spec{Calendar: ledger.OnDate(at)}
		}
		key := fmt.Sprintf("%s-%06d", kind, i)
		path := "/"
		if l.rand.IntN(4) == 0 {
			path = "/slow" // so that workers hold some at any time
		}
		plans[i] = f.plan(i, key, spec, path)
		if kind != "date" && kind != "each-second" && l.rand.IntN(10) == 0 {
			l.keys = append(l.keys, key)
		}
	}
	// In any order, so that bulks hold all kinds.
	l.rand.Shuffle(len(plans), func(i, j int) { plans[i], plans[j] = plans[j], plans[i] })
	// But dates first: the store may be busy for long, and one that has passed is refused.
	slices.SortStableFunc(plans, func(a, b ledger.Plan) int {
		date := func(p ledger.Plan) bool { return strings.HasPrefix(p.Key, "date-") }
		switch {
		case date(a) == date(b):
			return 0
		case date(a):
			return -1
		}
		return 1
	})
	l.rand.Shuffle(len(l.keys), func(i, j int) { l.keys[i], l.keys[j] = l.keys[j], l.keys[i] })
	if err := f.client.Create(f.t.Context(), plans...); err != nil {
		f.t.Fatal(err)
	}
	f.event("%d plans are stored", n)
	l.changes.Go(l.change)
	return l
}

// change replaces and removes plans, evenly until the end.
func (l *load) change() {
	for i, key := range l.keys {
		left := time.Until(l.end)
		if left < soonest*time.Second {
			return
		}
		time.Sleep(left / time.Duration(len(l.keys)-i))
		var err error
		if left = time.Until(l.end); i%2 == 0 && left > soonest*time.Second {
			spec := ledger.Spec{Every: 1 + l.rand.Int64N(int64(left/time.Second)), Count: 1}
			err = l.f.client.Create(l.f.t.Context(), l.f.plan(l.rand.IntN(10), key, spec, "/changed"))
		} else if err = l.f.client.Remove(l.f.t.Context(), key); errors.Is(err, ledger.ErrNotFound) {
			err = nil // it has fired for the last time
		}
		if err != nil {
			l.failed = err
			return
		}
	}
}

// wait waits for the end of the load and returns the last second it is about.
func (l *load) wait() int64 {
	l.f.t.Helper()
	l.changes.Wait()
	if l.failed != nil {
		l.f.t.Error(l.failed)
	}
	time.Sleep(time.Until(l.end))
	return l.end.Unix()
}

// aside stores plans that no ledger judges: their targets do not tell it what came.
func (f *fleet) aside(plans ...ledger.Plan) {
	f.t.Helper()
	journal, err := ledger.NewJournal(f.path("journal"))
	if err != nil {
		f.t.Fatal(err)
	}
	client := &ledger.Client{Journal: journal, Bases: f.bases}
	err = client.Create(f.t.Context(), plans...)
	client.Close()
	if err := errors.Join(err, journal.Close()); err != nil {
		f.t.Fatal(err)
	}
}
