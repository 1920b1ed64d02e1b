package scheduler_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/redisstore"
	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/memstore"
	"github.com/snower/forsun/scheduler/storetest"
)

// TestForbiddenActions: what is stored of an action that is not allowed any more is
// not run, however it comes: as a plan, as a retry, as a dead letter that is queued
// again. Each firing becomes a dead letter that says why; once the action is
// allowed again it can be run.
func TestForbiddenActions(t *testing.T) {
	t.Parallel()
	stores := map[string]func(*testing.T) scheduler.Store{
		"embedded": func(t *testing.T) scheduler.Store {
			o := memstore.DefaultOptions()
			o.Dir = memstore.Memory
			s, err := memstore.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		"redis": func(t *testing.T) scheduler.Store {
			o := redisstore.DefaultOptions()
			o.Addresses, o.Replica = []string{redistest.Start(t).Addr}, "r1"
			s, err := redisstore.Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := open(t)
			defer store.Close()
			rec := storetest.NewRecorder()
			actions := actionSet{"record": rec, "other": rec}
			run := func(forbidden ...string) (stop func()) {
				o := scheduler.DefaultEngineOptions()
				o.Replica, o.Forbidden = "r1", forbidden
				if forbidden != nil {
					o.Work = []string{"record"} // what is not allowed is not a matter of --work
				}
				engine, err := scheduler.NewEngine(store, actions, scheduler.SystemClock{}, new(scheduler.Counters), zerolog.New(io.Discard), o)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				var wg sync.WaitGroup
				wg.Go(func() {
					if err := engine.Run(ctx); err != nil {
						t.Error(err)
					}
				})
				return sync.OnceFunc(func() { cancel(); wg.Wait() })
			}
			service := func(forbidden ...string) *scheduler.Service {
				o := scheduler.DefaultServiceOptions()
				o.Forbidden = forbidden
				return scheduler.NewService(store, actions, scheduler.SystemClock{}, new(scheduler.Counters), o)
			}
			request := func(key, action string, count int) scheduler.Request {
				return scheduler.Request{Key: key, Action: action, Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 1, Week: scheduler.Any, Count: count}}
			}
			create := func(r scheduler.Request) {
				t.Helper()
				if _, err := service().Create(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			dead := func(key string) []scheduler.DeadLetter {
				letters, _, err := service().DeadLetters(t.Context(), scheduler.JournalQuery{Key: key, Limit: 100})
				if err != nil {
					t.Fatal(err)
				}
				return letters
			}
			ran := func(key string) int {
				n := 0
				for _, r := range rec.Runs() {
					if r.Key == key {
						n++
					}
				}
				return n
			}

			// While it is allowed, one of its firings fails and waits for its retry.
			rec.Do("waiting", func(context.Context, *scheduler.Firing) (scheduler.Output, error) {
				return nil, scheduler.Retryable(errors.New("not now"))
			})
			stop := run()
			defer func() { stop() }()
			r := request("waiting", "other", 1)
			r.Params = map[string]string{"forsun.retry_delay": "1"}
			create(r)
			eventually(t, "the first attempt", func() bool { return ran("waiting") == 1 })
			stop()

			// Now it is not.
			_, err := service("other").Create(t.Context(), request("new", "other", 1))
			if !errors.Is(err, scheduler.ErrNotAllowed) || err.Error() != "action: other is not allowed; allowed: record (the server's --actions)" {
				t.Errorf("create: got %v", err)
			}
			if got := service("other").Actions(); !slices.Equal(got, []string{"record"}) {
				t.Errorf("actions: got %v", got)
			}
			create(request("once", "other", 1))
			create(request("again", "other", 0))
			create(request("allowed", "record", 1))
			stop = run("other")
			const reason = "not allowed: action other, by this deployment's --actions"
			eventually(t, "dead letters of all", func() bool {
				return len(dead("waiting")) == 1 && len(dead("once")) == 1 && len(dead("again")) >= 2 && ran("allowed") == 1
			})
			for _, letter := range dead("") {
				if letter.Error != reason {
					t.Errorf("dead letter of %s: %s", letter.Firing.Plan.Key, letter.Error)
				}
			}
			attempts, _, err := service().History(t.Context(), scheduler.JournalQuery{Key: "once", Limit: 10})
			if err != nil || len(attempts) != 1 || attempts[0].Outcome != scheduler.Dead || attempts[0].Error != reason {
				t.Errorf("history: got %+v, %v", attempts, err)
			}
			if p, err := service().Get(t.Context(), "again"); err != nil || p.Fired < 2 {
				t.Errorf("the repeating plan: got %+v, %v; want it to go on", p, err)
			}
			if n, err := service().Redrive(t.Context(), scheduler.DeadSelection{Key: "once"}); err != nil || n != 1 {
				t.Errorf("redrive: %d, %v", n, err)
			}
			eventually(t, "what was queued again to die again", func() bool {
				attempts, _, err := service().History(t.Context(), scheduler.JournalQuery{Key: "once", Limit: 10})
				return err == nil && len(attempts) == 2 && len(dead("once")) == 1
			})
			if ran("once")+ran("again") > 0 || ran("waiting") != 1 {
				t.Errorf("what is not allowed ran: %v", rec.Runs())
			}
			stop()

			// Allowed again, what died can be run, and what repeats goes on.
			stop = run()
			if n, err := service().Redrive(t.Context(), scheduler.DeadSelection{Key: "once"}); err != nil || n != 1 {
				t.Errorf("redrive: %d, %v", n, err)
			}
			eventually(t, "it to run", func() bool { return ran("once") == 1 && ran("again") > 0 })
		})
	}
}

// TestForbiddenOptions: an action cannot be both.
func TestForbiddenOptions(t *testing.T) {
	t.Parallel()
	o := scheduler.DefaultEngineOptions()
	o.Replica, o.Work, o.Forbidden = "r1", []string{"shell"}, []string{"shell"}
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "Forbidden: shell is not allowed") {
		t.Errorf("got %v", err)
	}
	// What is left of all is what is not forbidden.
	o.Work = nil
	if err := o.Validate(); err != nil {
		t.Error(err)
	}
}
