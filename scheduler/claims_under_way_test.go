package scheduler

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

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

type slowClaims struct {
	*claimStub
	under, most atomic.Int32
	cut         context.CancelFunc
	ended       atomic.Bool
}

func (s *slowClaims) Claim(ctx context.Context, b ClaimBatch) (ClaimReply, error) {
	n := s.under.Add(1)
	for m := s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
	}
	s.cut()
	time.Sleep(10 * time.Millisecond)
	if ctx.Err() != nil {
		s.ended.Store(true)
	}
	s.under.Add(-1)
	return answerAll(b, ClaimedOK), nil
}

// A claim that was sent goes on when its leader is to stop, who waits for it; and there are
// never more than two.
func TestClaimsUnderWay(t *testing.T) {
	for _, stop := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var mu sync.Mutex
		read := false
		s := &slowClaims{cut: func() {}, claimStub: &claimStub{due: func(q DueQuery) (p DuePage, _ error) {
			mu.Lock()
			defer mu.Unlock()
			if q.Action == "a" && q.From > 0 && !read {
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
