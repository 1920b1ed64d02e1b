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
	for l.e.now().Add(2 * debtPause).Truncate(time.Second).After(l.e.now()) {
		time.Sleep(time.Millisecond)
	}
	p := &pass{again: time.Second}
	if err := l.settleAll(p, l.debts(t.Context(), p)); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 {
		t.Errorf("claimed of %v; want those of b, too, since a had no room", got)
	}
}
