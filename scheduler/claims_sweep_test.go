package scheduler

import (
	"context"
	"errors"
	"testing"
	"time"
)

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
