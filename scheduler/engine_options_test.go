package scheduler_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// TestEngineOptionsValidate: each field that cannot work is named, also where only
// two together cannot.
func TestEngineOptionsValidate(t *testing.T) {
	rows := []struct {
		field  string
		change func(*scheduler.EngineOptions)
	}{
		{"", func(*scheduler.EngineOptions) {}},
		{"", func(o *scheduler.EngineOptions) { o.Retry = scheduler.RetryPolicy{} }},
		{"Replica", func(o *scheduler.EngineOptions) { o.Replica = "" }},
		{"Zone", func(o *scheduler.EngineOptions) { o.Zone = nil }},
		{"ClaimBatch", func(o *scheduler.EngineOptions) { o.ClaimBatch = 0 }},
		{"Slots[record]", func(o *scheduler.EngineOptions) { o.Slots = map[string]int{"record": 0} }},
		{"Backlog.Entries", func(o *scheduler.EngineOptions) { o.Backlog.Entries = -1 }},
		{"Backlog.Bytes", func(o *scheduler.EngineOptions) { o.Backlog.Bytes = -1 }},
		{"Retry.Retries", func(o *scheduler.EngineOptions) { o.Retry.Retries = -1 }},
		{"Retry.Delay", func(o *scheduler.EngineOptions) { o.Retry.Delay = -time.Second }},
		{"Retry.Max", func(o *scheduler.EngineOptions) { o.Retry.Delay = o.Retry.Max + 1 }},
		{"StoreTimeout", func(o *scheduler.EngineOptions) { o.StoreTimeout = 0 }},
		{"NewTicker", func(o *scheduler.EngineOptions) { o.NewTicker = nil }},
	}
	for _, row := range rows {
		o := scheduler.DefaultEngineOptions()
		o.Replica = "a"
		row.change(&o)
		err := o.Validate()
		var field *scheduler.FieldError
		if row.field == "" && err != nil || row.field != "" && (!errors.As(err, &field) || field.Field != row.field) {
			t.Errorf("Validate says %v, want something about %q", err, row.field)
		}
	}
}

// TestServiceRefuses: where the clock is not to be relied on nothing is created,
// and all else goes on.
func TestServiceRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, scheduler.SystemClock{}, nil)
	r.create(t, "before", 3600, nil)
	refusal := errors.New("the clock")
	opts := scheduler.DefaultServiceOptions()
	opts.Refuse = func() error { return refusal }
	service := scheduler.NewService(r.store, actionSet{"record": storetest.NewRecorder()}, r.clock, r.counters, opts)
	request := scheduler.Request{Key: "k", Action: "record", Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 1, Count: 1}}
	if _, err := service.Create(t.Context(), request); !errors.Is(err, refusal) {
		t.Errorf("Create: %v, want the refusal", err)
	}
	if _, _, err := service.CreateMany(t.Context(), []scheduler.Request{request}); !errors.Is(err, refusal) || strings.Contains(err.Error(), "plan 1") {
		t.Errorf("CreateMany: %v, want the refusal, of no one plan", err)
	}
	if _, err := service.Remove(t.Context(), "before"); err != nil {
		t.Errorf("Remove: %v", err)
	}
}
