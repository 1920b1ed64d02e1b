package memstore

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
)

func plan(key string, due int64) *scheduler.Plan {
	return &scheduler.Plan{
		Key: key, Action: "http", Due: due, Revision: scheduler.NewRevision(), Created: now(),
		Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 5, Week: scheduler.Any, Count: 1},
		Params:   map[string]string{"url": "http://127.0.0.1:8080/callback?order=" + key, "body": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},
	}
}

func TestSmoke(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s := open(t, testOptions(t))
	sec := time.Now().Unix()
	var plans []*scheduler.Plan
	for i := range 100 {
		plans = append(plans, plan(fmt.Sprintf("k%03d", i), sec-10))
	}
	for i, err := range s.Put(ctx, plans) {
		if err != nil {
			t.Fatalf("put %d: %v", i, err)
		}
	}
	l, err := s.Campaign(ctx, 0, "r")
	if err != nil {
		t.Fatal(err)
	}
	page, err := s.Due(ctx, scheduler.DueQuery{Action: "http", From: sec - 60, To: sec, Limit: 1000})
	if err != nil || len(page.Plans) != 100 {
		t.Fatalf("due: %d %v", len(page.Plans), err)
	}
	b := scheduler.ClaimBatch{Lease: l, Action: "http", Cutoff: sec}
	for _, p := range page.Plans {
		b.Claims = append(b.Claims, scheduler.Claim{Key: p.Key, Revision: p.Revision, Due: p.Due, FireDue: p.Due})
	}
	r, err := s.Claim(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range r.Answers {
		if a.Result != scheduler.ClaimedOK {
			t.Fatalf("claim %d: %+v", i, a)
		}
	}
	fs, _, err := s.Take(ctx, scheduler.TakeRequest{Worker: "w", Slots: map[string]int{"http": 1000}})
	if err != nil || len(fs) != 100 {
		t.Fatalf("take: %d %v", len(fs), err)
	}
	var ends []scheduler.Finish
	for _, f := range fs {
		ends = append(ends, scheduler.Finish{Firing: f, Verdict: scheduler.Done, Attempt: &scheduler.Attempt{
			Firing: f.ID(), Key: f.Plan.Key, Action: "http", Due: f.Due, Attempt: 1, Started: now(), Outcome: scheduler.Succeeded,
		}})
	}
	fin, err := s.Finish(ctx, 0, "w", ends)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range fin {
		if a != scheduler.FinishedOK {
			t.Fatalf("finish %d: %v", i, a)
		}
	}
	as, _, err := s.History(ctx, scheduler.JournalQuery{Limit: 1000})
	if err != nil || len(as) != 100 {
		t.Fatalf("history: %d %v", len(as), err)
	}
	st, err := s.Shards(ctx, time.Now())
	if err != nil || st[0].Plans != 0 || len(st[0].Running) != 0 {
		t.Fatalf("state %+v %v", st, err)
	}
}
