package client_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/snower/forsun/rpc/client"
	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
)

// restorable is a plan that is half done.
func restorable(key string, due int64) *scheduler.Plan {
	return &scheduler.Plan{
		Key: key, Action: "noop", Params: map[string]string{"bytes": "\xff\x00"},
		Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 60, Minute: -1, Hour: -1, Day: -1, Month: -1, Week: -1, Count: 10},
		Due:      due, Fired: 4, LastDue: due - 60, Status: scheduler.StatusFailed, Created: time.UnixMilli(1_700_000_000_123),
	}
}

func TestRestore(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := newClient(t, s.addr)
	ctx := context.Background()
	due := time.Now().Unix() + 1000

	// All is kept; the second time nothing is replaced; replaced if that is asked for.
	restore := func(p *scheduler.Plan, o scheduler.RestoreOptions) client.Restored {
		t.Helper()
		results, err := c.Restore(ctx, []*scheduler.Plan{p}, o)
		if err != nil || len(results) != 1 {
			t.Fatalf("%d results, %v", len(results), err)
		}
		return results[0]
	}
	wantStored := func(p *scheduler.Plan) {
		t.Helper()
		got, err := c.Get(ctx, p.Key)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, got, cmpopts.EquateApproxTime(0)); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
	p := restorable("k", due)
	if got := restore(p, scheduler.RestoreOptions{CheckOnly: true}); got.Err != nil || got.Exists || got.Due != due {
		t.Errorf("check: %+v", got)
	}
	if _, err := c.Get(ctx, "k"); !client.IsNotFound(err) {
		t.Errorf("after a check only: %v, want not found", err)
	}
	if got := restore(p, scheduler.RestoreOptions{}); got.Err != nil || got.Exists || got.Due != due {
		t.Errorf("first: %+v", got)
	}
	wantStored(p)
	other := restorable("k", due+5)
	for _, o := range []scheduler.RestoreOptions{{}, {CheckOnly: true}} {
		if got := restore(other, o); got.Err != nil || !got.Exists {
			t.Errorf("again, %+v: %+v", o, got)
		}
	}
	wantStored(p)
	if got := restore(other, scheduler.RestoreOptions{Replace: true}); got.Err != nil || got.Exists {
		t.Errorf("replace: %+v", got)
	}
	wantStored(other)

	// Without its own next time and creation it is as a new plan.
	fresh := restorable("fresh", 0)
	fresh.LastDue, fresh.Created = 0, time.Time{}
	before := time.Now().Add(-time.Millisecond)
	if got := restore(fresh, scheduler.RestoreOptions{}); got.Err != nil || got.Due < before.Unix()+60 || got.Due > time.Now().Unix()+60 {
		t.Errorf("fresh: %+v", got)
	}
	if got, err := c.Get(ctx, "fresh"); err != nil || got.Created.Before(before) {
		t.Errorf("fresh: %+v, %v", got, err)
	}
}

// TestRestoreRefuses has what is wrong with a plan named, and the others stored.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := newClient(t, s.addr)
	due := time.Now().Unix() + 1000
	rows := []struct {
		why  string
		code wire.Code
		part string
		wrap func(p *scheduler.Plan)
	}{
		{"the past is no fault", 0, "", func(p *scheduler.Plan) { p.Due, p.LastDue = 1000, 940 }},
		{"an action that is not here", wire.UnknownAction, "", func(p *scheduler.Plan) { p.Action = "event" }},
		{"all has fired", wire.BadField, "current_count: 10", func(p *scheduler.Plan) { p.Fired = 10 }},
		{"a negative count", wire.BadField, "current_count: -1", func(p *scheduler.Plan) { p.Fired = -1 }},
		{"beyond the wire", wire.BadTime, "", func(p *scheduler.Plan) { p.Due = 1 << 31 }},
		{"before 1970", wire.BadTime, "", func(p *scheduler.Plan) { p.Due = -1 }},
		{"the last firing after the next", wire.BadField, "last_timeout: ", func(p *scheduler.Plan) { p.LastDue = p.Due }},
		{"no such status", wire.BadField, "status: 2", func(p *scheduler.Plan) { p.Status = 2 }},
		{"created before 1970", wire.BadField, "created_time: ", func(p *scheduler.Plan) { p.Created = time.Unix(-5, 0) }},
		{"a calendar that cannot be", wire.BadField, "minute: 99", func(p *scheduler.Plan) { p.Schedule = scheduler.Schedule{Minute: 99} }},
		{"no key", wire.Missing, "", func(p *scheduler.Plan) { p.Key = "" }},
		{"a key that is no text", wire.BadField, "key: ", func(p *scheduler.Plan) { p.Key = "\xff" }},
		{"an option there is not", wire.BadField, "params.forsun.x", func(p *scheduler.Plan) { p.Params = map[string]string{"forsun.x": "1"} }},
	}
	plans := make([]*scheduler.Plan, len(rows))
	for i, row := range rows {
		plans[i] = restorable(fmt.Sprintf("k%d", i), due)
		row.wrap(plans[i])
	}
	results, err := c.Restore(context.Background(), plans, scheduler.RestoreOptions{})
	if err != nil || len(results) != len(rows) {
		t.Fatalf("%d results, %v", len(results), err)
	}
	for i, row := range rows {
		var refused *client.Error
		switch errors.As(results[i].Err, &refused); {
		case row.code == 0 && results[i].Err != nil:
			t.Errorf("%s: %v", row.why, results[i].Err)
		case row.code != 0 && (refused == nil || refused.Code != row.code || !strings.Contains(refused.Message, row.part)):
			t.Errorf("%s: %v, want %d with %q", row.why, results[i].Err, row.code, row.part)
		}
	}
	if got, err := c.Get(context.Background(), "k0"); err != nil || got.Due != 1000 {
		t.Errorf("the good one: %+v, %v", got, err)
	}
}

// TestRestoreMany goes beyond what one call takes, and has a key twice: the first counts.
func TestRestoreMany(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := newClient(t, s.addr)
	due := time.Now().Unix() + 1000
	var plans []*scheduler.Plan
	for i := range 2500 {
		plans = append(plans, restorable(fmt.Sprintf("k%d", i), due+int64(i)))
	}
	plans[700] = restorable("k3", math.MaxInt32)
	results, err := c.Restore(context.Background(), plans, scheduler.RestoreOptions{})
	if err != nil || len(results) != len(plans) {
		t.Fatalf("%d results, %v", len(results), err)
	}
	for i, r := range results {
		if r.Err != nil || r.Exists != (i == 700) {
			t.Fatalf("plan %d: %+v", i, r)
		}
	}
	if got, err := c.Get(context.Background(), "k3"); err != nil || got.Due != due+3 {
		t.Errorf("k3: %+v, %v", got, err)
	}
}
