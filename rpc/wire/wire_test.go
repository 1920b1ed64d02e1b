package wire_test

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
)

func TestFromError(t *testing.T) {
	t.Parallel()
	field := func(kind error) error {
		return fmt.Errorf("create: %w", &scheduler.FieldError{Kind: kind, Field: "params.url", Value: "x", Allowed: "a URL"})
	}
	const text = "create: params.url: x is not allowed; allowed: a URL"
	for _, row := range []struct {
		name       string
		op         wire.Op
		err        error
		code       wire.Code
		message    string
		unexpected bool
	}{
		{"none", wire.Create, nil, 0, "", false},
		{"unknown", wire.Create, errors.New("disk on fire"), 1001, "未知错误", true},
		{"time", wire.Create, field(scheduler.ErrTime), 1002, "定时时间错误", false},
		{"not found", wire.Remove, fmt.Errorf("get: %w", scheduler.ErrNotFound), 1003, "计划未找到", false},
		{"store, create", wire.Create, scheduler.ErrStore, 1004, "保存计划错误", true},
		{"store, remove", wire.Remove, scheduler.ErrStore, 1005, "移除计划错误", true},
		{"store, read", wire.Read, scheduler.ErrStore, 1001, "未知错误", true},
		{"closed, create", wire.Create, scheduler.ErrClosed, 1004, "保存计划错误", true},
		{"action", wire.Create, field(scheduler.ErrAction), 1006, "未知处理动作类型", false},
		{"missing", wire.Create, field(scheduler.ErrMissing), 1007, "url参数是必须的", false},
		{"missing, without a name", wire.Create, scheduler.ErrMissing, 1007, "参数是必须的", false},
		{"field", wire.Create, field(scheduler.ErrField), 1008, text, false},
		{"params", wire.Create, field(scheduler.ErrParams), 1009, text, false},
		{"full", wire.Create, scheduler.ErrFull, 1010, "store is full", false},
		{"unsure", wire.Create, scheduler.ErrUnsure, 1011, "durability unknown", false},
		{"an answer that was lost", wire.Remove, fmt.Errorf("remove plan: %w: read tcp 10.0.0.1:6379: reset", scheduler.ErrUnsure), 1011, "durability unknown", true},
		{"not allowed", wire.Create, field(scheduler.ErrNotAllowed), 1012, text, false},
		{"too large", wire.Create, field(scheduler.ErrTooLarge), 1013, text, false},
	} {
		code, message, unexpected := wire.FromError(row.op, row.err)
		if code != row.code || message != row.message || unexpected != row.unexpected {
			t.Errorf("%s: got %d %q %t, want %d %q %t", row.name, code, message, unexpected, row.code, row.message, row.unexpected)
		}
		if code.Meaning() == "error" {
			t.Errorf("%s: code %d has no meaning", row.name, code)
		}
	}
}

func timeout(second, minute, hour, day, month, week, count int) scheduler.Schedule {
	return scheduler.Schedule{Kind: scheduler.Timeout, Second: second, Minute: minute, Hour: hour, Day: day, Month: month, Week: week, Count: count}
}

// TestLegacyPlan checks what 16 and 32 bits make of a plan, and that the
// interval of a timeout survives the carry.
func TestLegacyPlan(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name     string
		schedule scheduler.Schedule
		want     [7]int16 // second to week, count
	}{
		{"fits: as it is, also what could be carried", timeout(32767, 90, 0, 0, 0, -1, 1), [7]int16{32767, 90, 0, 0, 0, -1, 1}},
		{"seconds carried", timeout(100_000, -1, -1, -1, -1, -1, 1), [7]int16{40, 46, 3, 1, -1, -1, 1}},
		{"count saturates", timeout(1, -1, -1, -1, -1, -1, 70_000), [7]int16{1, -1, -1, -1, -1, -1, 32767}},
		{"days saturate", timeout(1, -1, -1, 40_000, -1, -1, 0), [7]int16{1, -1, -1, 32767, -1, -1, 0}},
		{"calendar: no count", scheduler.Schedule{Second: 1, Minute: -1, Hour: 2, Day: 3, Month: 4, Week: 5, Count: 9}, [7]int16{1, -1, 2, 3, 4, 5, 0}},
	} {
		p := wire.LegacyPlan(&scheduler.Plan{Key: "k", Schedule: row.schedule, Due: math.MaxInt32 + 5, Fired: 1 << 20, LastDue: 7, Status: -1})
		got := [7]int16{p.Second, p.Minute, p.Hour, p.Day, p.Month, p.Week, p.Count}
		if got != row.want {
			t.Errorf("%s: got %v, want %v", row.name, got, row.want)
		}
		if p.NextTime != math.MaxInt32 || p.CurrentCount != math.MaxInt16 || p.LastTimeout != 7 || p.Status != -1 || p.Params == nil {
			t.Errorf("%s: got %+v", row.name, p)
		}
		if row.name == "seconds carried" {
			if got := wire.ToLegacyPlan(p).Schedule.Interval(); got != 100_000 {
				t.Errorf("%s: interval %d, want 100000", row.name, got)
			}
		}
	}
}

// TestRoundTrips checks that the full forms lose nothing but what they say.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 1, 2, 3, 456_789_000, time.UTC)
	plan := &scheduler.Plan{
		Key: "k", Schedule: timeout(100_000, -1, 1, 2, 3, 4, 70_000), Action: "http", Params: map[string]string{"url": "http://h/"},
		Created: now, Due: 1 << 33, Fired: 5, LastDue: 1 << 32, Status: scheduler.StatusFailed,
	}
	same := cmp.Options{cmpopts.EquateApproxTime(time.Millisecond)}
	if diff := cmp.Diff(plan, wire.ToPlan(wire.FromPlan(plan)), same); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	r := scheduler.Request{Key: "k", Schedule: plan.Schedule, Action: "http", Params: plan.Params}
	if diff := cmp.Diff(r, wire.ToRequest(wire.FromRequest(r))); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	attempt := scheduler.Attempt{
		Firing: "f", Key: "k", Action: "http", Due: 1 << 32, Missed: 3, Attempt: 2, Started: now, Late: 5 * time.Millisecond,
		Took: time.Second, Outcome: scheduler.Failed, Error: "e", Output: "o", Replica: "r", RetryAt: now.Add(time.Minute),
	}
	if diff := cmp.Diff(attempt, wire.ToAttempt(wire.FromAttempt(attempt)), same); diff != "" {
		t.Errorf("attempt (-want +got):\n%s", diff)
	}
	shard := scheduler.ShardState{
		Shard: 3, Leader: "r", Term: 9, Plans: 1, Overdue: 2, OldestDue: 3, Queued: map[string]int64{"http": 1},
		Running: map[string]int64{"http": 2}, Retries: 4, Dead: 5, Quarantined: 6,
	}
	if diff := cmp.Diff(shard, wire.ToShard(wire.FromShard(shard))); diff != "" {
		t.Errorf("shard (-want +got):\n%s", diff)
	}
	replica := scheduler.Replica{
		ID: "a", Address: "h:1", Version: "v", Offset: -1500 * time.Microsecond, Leads: []int{0, 3}, Eager: true, Started: now, Seen: now.Add(time.Hour),
	}
	if diff := cmp.Diff(replica, wire.ToReplica(wire.FromReplica(replica)), same); diff != "" {
		t.Errorf("replica (-want +got):\n%s", diff)
	}
	for severity := scheduler.SeverityInfo; severity <= scheduler.SeverityError; severity++ {
		finding := scheduler.Finding{Shard: scheduler.WholeDeployment, Severity: severity, Subject: "s", Problem: "p", Advice: "a"}
		if diff := cmp.Diff(finding, wire.ToFinding(wire.FromFinding(finding))); diff != "" {
			t.Errorf("finding (-want +got):\n%s", diff)
		}
	}
	if got := wire.FromAttempt(scheduler.Attempt{Output: "a\xffb"}).Output; got != "a\ufffdb" {
		t.Errorf("output that is not UTF-8: got %q", got)
	}
}

// TestDeadMasked checks that a dead letter shows no secret, and that the plan it
// was made from keeps it.
func TestDeadMasked(t *testing.T) {
	t.Parallel()
	plan := &scheduler.Plan{Key: "k", Action: "mysql", Params: map[string]string{"passwd": "hush", "sql": "select 1"}, Revision: 5}
	letter := scheduler.DeadLetter{ID: "1-1", Firing: &scheduler.Firing{Plan: plan, Due: 7, Attempt: 4}, Error: "refused", Died: time.Unix(9, 0)}
	got := wire.ToDead(wire.FromDead(letter))
	if p := got.Plan.Params["passwd"]; p == "hush" || p == "" {
		t.Errorf("passwd: got %q, want it masked", p)
	}
	if plan.Params["passwd"] != "hush" {
		t.Error("the plan's own parameters were changed")
	}
	got.Plan = nil
	want := wire.Dead{ID: "1-1", Firing: letter.Firing.ID(), Due: 7, Attempt: 4, Died: time.Unix(9, 0), Error: "refused"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
