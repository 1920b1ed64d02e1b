package scheduler

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// claimStub answers Due and Claim as the test says.
type claimStub struct {
	Store
	mu    sync.Mutex
	due   func(q DueQuery) (DuePage, error)
	claim func(b ClaimBatch) (ClaimReply, error)
}

func (s *claimStub) ShardIDs() []int { return []int{0} }
func (s *claimStub) Due(_ context.Context, q DueQuery) (DuePage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.due(q)
}

func (s *claimStub) Claim(_ context.Context, b ClaimBatch) (ClaimReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claim(b)
}

func (s *claimStub) Promote(context.Context, PromoteRequest) (int, time.Time, error) {
	return 0, time.Time{}, nil
}

func answerAll(b ClaimBatch, as Claimed) (r ClaimReply) {
	for range b.Claims {
		r.Answers = append(r.Answers, ClaimAnswer{Result: as})
	}
	return r
}

type twoActions struct{}

func (twoActions) Get(string) (Action, bool) { return canary{}, true }
func (twoActions) Names() []string           { return []string{"a", "b"} }

func loopOf(t *testing.T, s *claimStub) *shardLoop {
	t.Helper()
	opts := DefaultEngineOptions()
	opts.Replica, opts.Canary = "r", 0
	e, err := NewEngine(s, twoActions{}, SystemClock{}, new(Counters), zerolog.New(io.Discard), opts)
	if err != nil {
		t.Fatal(err)
	}
	lease := new(atomic.Pointer[Lease])
	lease.Store(&Lease{Until: time.Now().Add(time.Minute)})
	return newShardLoop(e, e.shards[0], lease)
}

// TestErrorsOfWhatWasReadAhead: the error of a claim that another action's settled is
// told of all the same.
func TestErrorsOfWhatWasReadAhead(t *testing.T) {
	for _, row := range []error{errors.New("away"), ErrFenced} {
		failed := 0
		l := loopOf(t, &claimStub{
			due: func(DueQuery) (DuePage, error) { return DuePage{}, nil },
			claim: func(b ClaimBatch) (ClaimReply, error) {
				if b.Action == "a" {
					failed++
					return ClaimReply{}, row
				}
				return answerAll(b, ClaimedOK), nil
			},
		})
		l.ahead, l.aheadFor = map[string][]Claim{"a": make([]Claim, 1), "b": make([]Claim, 250)}, time.Now().Unix()-1
		if _, err := l.runOnce(t.Context()); failed != 1 || !errors.Is(err, row) {
			t.Errorf("%d claims failed with %v; the pass ended with %v", failed, row, err)
		}
	}
}

// TestErrorsOfAPage: that the lease is lost is not hidden by a read that failed.
func TestErrorsOfAPage(t *testing.T) {
	reads := 0
	l := loopOf(t, &claimStub{
		due: func(q DueQuery) (p DuePage, _ error) {
			if q.Action != "a" || q.From < 0 {
				return p, nil
			}
			if reads++; reads > 1 {
				return p, errors.New("away")
			}
			for range 100 {
				p.Plans = append(p.Plans, &Plan{Schedule: Schedule{Kind: Timeout, Second: 1, Count: 1}, Due: time.Now().Unix()})
			}
			p.Next = "next"
			return p, nil
		},
		claim: func(b ClaimBatch) (ClaimReply, error) { return ClaimReply{}, ErrFenced },
	})
	if _, err := l.runOnce(t.Context()); !errors.Is(err, ErrFenced) {
		t.Errorf("the pass ended with %v, want %v", err, ErrFenced)
	}
}

// TestDebtsOfAFullAction: an action whose backlog is full does not use up what another
// may claim of its debts.
func TestDebtsOfAFullAction(t *testing.T) {
	var got []string
	l := loopOf(t, &claimStub{
		due: func(q DueQuery) (p DuePage, _ error) {
			for range q.Limit {
				p.Plans = append(p.Plans, &Plan{Schedule: Schedule{Kind: Timeout, Second: 1, Count: 1}, Due: q.To})
			}
			p.Next = "next"
			return p, nil
		},
		claim: func(b ClaimBatch) (ClaimReply, error) {
			got = append(got, b.Action)
			if b.Action == "a" {
				return answerAll(b, ClaimFull), nil
			}
			return answerAll(b, ClaimedOK), nil
		},
	})
	for n := l.e.now(); n.Sub(n.Truncate(time.Second)) > 200*time.Millisecond; n = l.e.now() {
		time.Sleep(time.Millisecond) // debts are left alone right before a tick
	}
	p := &pass{again: time.Second}
	if err := l.settleAll(p, l.debts(t.Context(), p)); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 {
		t.Errorf("claimed of %v; want those of b, too, since a had no room", got)
	}
}

func once(due int64) *Plan {
	return &Plan{Key: "k", Schedule: Schedule{Kind: Timeout, Second: 1, Count: 1}, Due: due}
}

func pageOf(n int, next string) (p DuePage) {
	for range n {
		p.Plans = append(p.Plans, once(time.Now().Unix()))
	}
	p.Next = next
	return p
}

// A pass looks at what its last claims did before it ends: settleSweep in page.
func TestPassGoesOnWithWhatIsDueAgain(t *testing.T) {
	due, claims := time.Now().Unix()-3, 0
	l := loopOf(t, &claimStub{
		due: func(q DueQuery) (p DuePage, _ error) {
			if q.Action == "a" && q.From <= due && due <= q.To {
				p.Plans = []*Plan{{Key: "k", Schedule: Schedule{Kind: Timeout, Second: 1}, Due: due}}
			}
			return p, nil
		},
		claim: func(b ClaimBatch) (ClaimReply, error) {
			claims, due = claims+1, b.Claims[0].Next
			return answerAll(b, ClaimedOK), nil
		},
	})
	if _, err := l.runOnce(t.Context()); err != nil || claims < 3 {
		t.Errorf("%d claims in a pass, %v; want one for each due second", claims, err)
	}
}

// A claim under way is accounted for however the pass ends: settleAll in runOnce.
func TestClaimsAreSettled(t *testing.T) {
	l := loopOf(t, &claimStub{
		due: func(q DueQuery) (DuePage, error) {
			if q.Action == "b" || q.After != "" {
				time.Sleep(5 * time.Millisecond)
				return DuePage{}, ErrClosed
			}
			return pageOf(100, "next"), nil
		},
		claim: func(b ClaimBatch) (ClaimReply, error) { return answerAll(b, ClaimedOK), nil },
	})
	if _, err := l.runOnce(t.Context()); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if n := l.e.counters.Claimed.Load(); n != 100 || len(l.sent) != 0 {
		t.Errorf("%d counted, %d claims not settled", n, len(l.sent))
	}
}

// An error of a claim ends its page and its pass: settle notes it, page returns it.
func TestErrorsOfClaims(t *testing.T) {
	for _, bad := range []int{1, 2, 4} {
		n, away := 0, errors.New("away")
		l := loopOf(t, &claimStub{
			due: func(q DueQuery) (p DuePage, _ error) {
				if q.Action == "a" && q.From > 0 && q.After == "" {
					p = pageOf(400, "")
				}
				return p, nil
			},
			claim: func(b ClaimBatch) (ClaimReply, error) {
				if n++; n == bad {
					return ClaimReply{}, away
				}
				return answerAll(b, ClaimedOK), nil
			},
		})
		if _, err := l.runOnce(t.Context()); !errors.Is(err, away) || n > bad+2 {
			t.Errorf("the %d. claim failed, and %d were made; the pass ended with %v", bad, n, err)
		}
	}
}

// Where there is no room only what is under way is claimed.
func TestFullEndsThePage(t *testing.T) {
	n := 0
	l := loopOf(t, &claimStub{
		due: func(q DueQuery) (p DuePage, _ error) {
			if q.Action == "a" && q.From > 0 {
				p = pageOf(400, "")
			}
			return p, nil
		},
		claim: func(b ClaimBatch) (ClaimReply, error) { n++; return answerAll(b, ClaimFull), nil },
	})
	if _, err := l.runOnce(t.Context()); err != nil || n > claimsUnderWay {
		t.Errorf("%d claims, %v", n, err)
	}
}

// No claim begins at the end of trust.
func TestNoClaimWithoutTrust(t *testing.T) {
	l := loopOf(t, &claimStub{
		due:   func(q DueQuery) (DuePage, error) { return pageOf(1, ""), nil },
		claim: func(b ClaimBatch) (ClaimReply, error) { t.Error("a claim"); return answerAll(b, ClaimedOK), nil },
	})
	l.lease.Store(&Lease{Until: time.Now().Add(trustMargin)})
	if _, err := l.runOnce(t.Context()); !errors.Is(err, errTrustEnded) {
		t.Error(err)
	}
}

// slowClaims has each claim wait until claimsUnderWay of them are under way.
type slowClaims struct {
	*claimStub
	under, most atomic.Int32
	together    chan struct{} // closed when they are
	once        sync.Once
	cut         context.CancelFunc
	ended       atomic.Bool
}

func (s *slowClaims) Claim(ctx context.Context, b ClaimBatch) (ClaimReply, error) {
	n := s.under.Add(1)
	defer s.under.Add(-1)
	for m := s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
	}
	if n == claimsUnderWay {
		s.once.Do(func() { s.cut(); close(s.together) })
	}
	select {
	case <-s.together:
	case <-time.After(10 * time.Second): // the test fails by most
	}
	time.Sleep(10 * time.Millisecond) // one too many would begin meanwhile
	if ctx.Err() != nil {
		s.ended.Store(true)
	}
	return answerAll(b, ClaimedOK), nil
}

// A claim that was sent goes on when its leader is to stop, who waits for it; and there are
// never more than two.
func TestClaimsUnderWay(t *testing.T) {
	for _, stop := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		read := false
		s := &slowClaims{cut: func() {}, together: make(chan struct{}), claimStub: &claimStub{due: func(q DueQuery) (p DuePage, _ error) {
			if q.Action == "a" && q.From > 0 && !read { // due is called by one at a time
				read, p = true, pageOf(400, "")
			}
			return p, nil
		}}}
		if stop {
			s.cut = cancel
		}
		l := loopOf(t, &claimStub{})
		l.e.store = s
		_, err := l.runOnce(ctx)
		if stop != (err != nil) || s.ended.Load() || s.most.Load() != claimsUnderWay || s.under.Load() != 0 || len(l.sent) != 0 {
			t.Errorf("%v: %v; a claim ended with its leader: %v; at most %d, now %d are under way, %d not settled", stop, err, s.ended.Load(), s.most.Load(), s.under.Load(), len(l.sent))
		}
	}
}

type heldClaims struct {
	*claimStub
	held []string
	back int
	hold chan struct{}
}

func (s *heldClaims) Claim(_ context.Context, b ClaimBatch) (ClaimReply, error) {
	if b.Claims[0].Key == "first" {
		<-s.hold
		return answerAll(b, ClaimedOK), errors.New("answer lost")
	}
	return answerAll(b, ClaimedOK), nil
}

func (s *heldClaims) Held(context.Context, int, string, int) ([]string, error) { return s.held, nil }

func (s *heldClaims) Finish(_ context.Context, _ int, _ string, fs []Finish) ([]Finished, error) {
	s.back += len(fs)
	return make([]Finished, len(fs)), nil
}

// TestSweepBesideTwoClaims: what a claim under way brings is not handed back because a
// claim that began later was answered sooner; once it was answered with nothing, it is.
func TestSweepBesideTwoClaims(t *testing.T) {
	s := &heldClaims{hold: make(chan struct{}), held: []string{"r1"}}
	l := loopOf(t, &claimStub{})
	l.e.store = s
	w := l.e.workers
	w.ctx = t.Context()
	lease := *l.lease.Load()
	sw := &sweep{action: "a"}
	l.send(t.Context(), sw, []Claim{{Key: "first"}}, lease)
	sweep := func(missing map[string]arrivals) map[string]arrivals {
		next, err := w.sweepOnce(t.Context(), 0, missing)
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	missing := sweep(nil)
	l.send(t.Context(), sw, []Claim{{Key: "second"}}, lease)
	select {
	case <-l.sent[1].done:
	case <-time.After(5 * time.Second):
		t.Fatal("the second claim waits for the first")
	}
	if missing = sweep(missing); s.back > 0 {
		t.Error("handed back while the claim that brings it is under way")
	}
	close(s.hold)
	p := &pass{again: time.Second}
	if err := l.settleAll(p, nil); err == nil {
		t.Error("no error")
	}
	if sweep(missing); s.back != 1 {
		t.Errorf("%d were handed back after the answer was lost, want 1", s.back)
	}
}
