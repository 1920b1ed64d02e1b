package cli

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/memstore"
)

// gated is a store that asks before it stores plans.
type gated struct {
	scheduler.Store
	before  func(ctx context.Context, plans []*scheduler.Plan) error
	storing atomic.Int32
	most    atomic.Int32 // that were storing at a time
}

func (g *gated) put(ctx context.Context, plans []*scheduler.Plan, store func(context.Context, []*scheduler.Plan) []error) []error {
	n := g.storing.Add(1)
	defer g.storing.Add(-1)
	for most := g.most.Load(); n > most && !g.most.CompareAndSwap(most, n); most = g.most.Load() {
	}
	if err := g.before(ctx, plans); err != nil {
		return slices.Repeat([]error{err}, len(plans))
	}
	return store(ctx, plans)
}

func (g *gated) Put(ctx context.Context, plans []*scheduler.Plan) []error {
	return g.put(ctx, plans, g.Store.Put)
}

func (g *gated) PutNew(ctx context.Context, plans []*scheduler.Plan) []error {
	return g.put(ctx, plans, g.Store.PutNew)
}

// startGated starts a server on one.
func startGated(t *testing.T, before func(ctx context.Context, plans []*scheduler.Plan) error) (*server, *gated) {
	t.Helper()
	opts := memstore.DefaultOptions()
	opts.Dir = memstore.Memory
	store, err := memstore.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	g := &gated{Store: store, before: before}
	return startOn(t, g, fixedClock{goldenNow}, false), g
}

// holds says whether one of the plans has a key.
func holds(plans []*scheduler.Plan, key string) bool {
	return slices.ContainsFunc(plans, func(p *scheduler.Plan) bool { return p.Key == key })
}

// shipments are the lines of so many requests: line(i) for each, from 0.
func shipments(n int, line func(i int) string) string {
	var text strings.Builder
	for i := range n * importBatch {
		text.WriteString(line(i) + "\n")
	}
	return text.String()
}

// reported are the numbers of the lines that are reported.
func reported(got result) (lines []int) {
	for _, m := range regexp.MustCompile(`(?m)^<stdin>:(\d+): `).FindAllStringSubmatch(got.err, -1) {
		n, _ := strconv.Atoi(m[1])
		lines = append(lines, n)
	}
	return lines
}

// TestImportOrder: what has a key in common is stored in the order of the lines, and told in
// it, though several requests are under way and the first takes longest.
func TestImportOrder(t *testing.T) {
	t.Parallel()
	const n = 8
	in := []int{0, 1, 3, 6} // requests with the same key
	again := func(i int) bool { return i%importBatch == 7 && slices.Contains(in, i/importBatch) }
	bad := []int{3, 1500, 2999, 3000, 7999}
	plain := shipments(n, func(i int) string {
		switch {
		case again(i):
			return fmt.Sprintf("again 0 0 0 * * * shell 'echo %d'", i)
		case slices.Contains(bad, i):
			return fmt.Sprintf("bad-%d 0 0 0 31 2 * shell ls", i)
		case i%2 == 0:
			return fmt.Sprintf("key-%d 0 0 0 * * * shell ls", i)
		}
		return fmt.Sprintf(`{"key":"key-%d","second":0,"action":"shell","params":{"cmd":"ls"}}`, i)
	})
	records := shipments(n, func(i int) string {
		key, month := fmt.Sprintf("key-%d", i), 1
		if again(i) {
			key = "again"
		} else if slices.Contains(bad, i) {
			month = 13
		}
		return fmt.Sprintf(`{"forsun":"plan","key":%q,"second":0,"month":%d,"action":"shell","params":{"cmd":"echo %d"}}`, key, month, i)
	})
	for _, row := range []struct {
		why, text string
		args      []string
		want      int // the line that stays
		out       string
	}{
		{"lines", plain, nil, 6007, fmt.Sprintf("%d stored, %d failed\n", n*importBatch-len(bad), len(bad))},
		{"records", records, nil, 7, fmt.Sprintf("%d stored, %d already there, %d failed\n", n*importBatch-len(bad)-len(in)+1, len(in)-1, len(bad))},
		{"records that replace", records, []string{"--replace"}, 6007, fmt.Sprintf("%d stored, %d failed\n", n*importBatch-len(bad), len(bad))},
	} {
		t.Run(row.why, func(t *testing.T) {
			t.Parallel()
			s, g := startGated(t, func(_ context.Context, plans []*scheduler.Plan) error {
				if holds(plans, "key-1") {
					time.Sleep(300 * time.Millisecond)
				} else if holds(plans, "again") {
					time.Sleep(20 * time.Millisecond)
				}
				return nil
			})
			got := s.pipe(row.text, append(append([]string{"import"}, row.args...), "-")...)
			if got.code != 1 || got.out != row.out {
				t.Errorf("exit %d, %s, want %s", got.code, got.out, row.out)
			}
			var want []int
			for _, i := range bad {
				want = append(want, i+1)
			}
			if lines := reported(got); !slices.Equal(lines, want) {
				t.Errorf("reported: lines %d, want %d\n%s", lines, want, got.err)
			}
			p, err := s.service.Get(t.Context(), "again")
			if want := fmt.Sprintf("echo %d", row.want); err != nil || p.Params["cmd"] != want {
				t.Errorf("stayed: %+v, %v; want %s", p, err, want)
			}
			if most := g.most.Load(); most < 2 || most > maxUnderWay {
				t.Errorf("%d requests at a time, want 2 to %d", most, maxUnderWay)
			}
		})
	}
}

// TestImportStopsWithin: where the store fails the import stops, and claims nothing of what
// follows, though that is stored already.
func TestImportStopsWithin(t *testing.T) {
	t.Parallel()
	later := make(chan struct{}, 1)
	s, _ := startGated(t, func(ctx context.Context, plans []*scheduler.Plan) error {
		switch {
		case holds(plans, "key-1000"):
			select {
			case <-later: // so that what follows is done
			case <-ctx.Done():
			}
			return fmt.Errorf("%w: it burns", scheduler.ErrStore)
		case holds(plans, "key-2000"):
			later <- struct{}{}
		}
		return nil
	})
	text := shipments(5, func(i int) string {
		if i == 5 || i == 2500 {
			return `{"forsun":"plan","second":0}`
		}
		return fmt.Sprintf(`{"forsun":"plan","key":"key-%d","second":0,"action":"shell","params":{"cmd":"ls"}}`, i)
	})
	got := s.pipe(text, "import", "-")
	if want := "999 stored, 1001 failed\n"; got.code != 1 || got.out != want {
		t.Errorf("exit %d, %s, want %s", got.code, got.out, want)
	}
	lines := reported(got)
	if len(lines) != 1001 || lines[0] != 6 || lines[1] != 1001 || lines[1000] != 2000 || !slices.IsSorted(lines) {
		t.Errorf("reported: %d lines: %d", len(lines), lines)
	}
}

// TestImportInterrupted: an interrupt ends all that is under way.
func TestImportInterrupted(t *testing.T) {
	t.Parallel()
	interrupt, stop := context.WithCancel(context.Background())
	over := make(chan struct{})
	s, g := startGated(t, func(ctx context.Context, _ []*scheduler.Plan) error {
		select {
		case <-over:
		case <-ctx.Done():
		}
		return nil
	})
	defer close(over)
	go func() {
		for deadline := time.Now().Add(10 * time.Second); g.storing.Load() < maxUnderWay && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		stop()
	}()
	var out, errs strings.Builder
	code := Run(t.Context(), []string{"--host", s.host, "--port", s.port, "import", "-"}, Process{
		Stdin:  strings.NewReader(shipments(9, func(i int) string { return fmt.Sprintf("key-%d 0 0 0 * * * shell ls", i) })),
		Stdout: &out, Stderr: &errs,
		Interrupt: func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			context.AfterFunc(interrupt, cancel)
			return ctx, cancel
		},
	})
	const want = "<stdin>:1: interrupted; it is not known whether the request took effect; the import stops here\n"
	if code != exitInterrupted || out.String() != "0 stored, 0 failed\n" || errs.String() != want {
		t.Errorf("exit %d, %s%s", code, out.String(), errs.String())
	}
	if most := g.most.Load(); most != maxUnderWay {
		t.Errorf("%d requests at a time, want %d", most, maxUnderWay)
	}
}
