package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
)

// oddStore has something to say in Check.
type oddStore struct {
	scheduler.Store
	findings int
	err      error
	begun    chan struct{} // if not nil: Check says that it has begun,
	end      chan struct{} // and ends when this is closed
}

func (o oddStore) Check(_ context.Context, report func(scheduler.Finding)) error {
	if o.begun != nil {
		o.begun <- struct{}{}
		<-o.end
	}
	for i := range o.findings {
		report(scheduler.Finding{Shard: i % 2, Severity: scheduler.Severity(i % 2), Subject: "x", Problem: fmt.Sprint(i)})
	}
	return o.err
}

// TestServiceCheck: the findings of the store and of what it shows come together,
// the worst first, and never too many.
func TestServiceCheck(t *testing.T) {
	t.Parallel()
	r := newRig(t, scheduler.SystemClock{}, func(o *scheduler.EngineOptions) { o.Work = []string{"other"} })
	eventually(t, "it leads", func() bool {
		states, err := r.service.Shards(t.Context())
		return err == nil && states[0].Leader == "r1"
	})
	replicas, err := r.service.Replicas(t.Context())
	if err != nil || len(replicas) != 1 || replicas[0].ID != "r1" || !replicas[0].Eager {
		t.Errorf("Replicas: %+v, %v, want r1", replicas, err)
	}
	r.create(t, "stuck", 0, nil) // an action that nobody runs
	eventually(t, "it is queued", func() bool {
		states, err := r.service.Shards(t.Context())
		return err == nil && states[0].Backlog() == 1
	})
	findings, err := r.service.Check(t.Context())
	if err != nil || len(findings) != 2 || findings[0].Severity != scheduler.SeverityError || !strings.Contains(findings[0].Problem, "record wait and none runs") ||
		!strings.Contains(findings[1].Problem, "in memory") {
		t.Errorf("Check: %+v, %v, want the queue, and that the store is in memory", findings, err)
	}

	check := func(store scheduler.Store) []scheduler.Finding {
		t.Helper()
		service := scheduler.NewService(store, actionSet{}, r.clock, r.counters, scheduler.DefaultServiceOptions())
		findings, err := service.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return findings
	}
	findings = check(oddStore{Store: r.store, findings: 5000})
	last := findings[len(findings)-1]
	if len(findings) != 1000 || findings[0].Severity != scheduler.SeverityError || last.Problem != "found 4002 more than is shown" {
		t.Errorf("of 5000 findings: %d, ended by %+v", len(findings), last)
	}
	findings = check(oddStore{Store: r.store, findings: 2, err: errors.New("lost redis://me:secret@host")})
	if len(findings) != 4 || !strings.Contains(findings[1].Problem+findings[0].Problem, "lost redis://***@host") {
		t.Errorf("a check that breaks off: %+v", findings)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.service.Check(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Check that nobody waits for: %v", err)
	}
}

// TestServiceCheckShared: who asks while a check is under way gets its findings.
func TestServiceCheckShared(t *testing.T) {
	t.Parallel()
	r := newRig(t, scheduler.SystemClock{}, nil)
	eventually(t, "it leads", func() bool {
		states, err := r.service.Shards(t.Context())
		return err == nil && states[0].Leader == "r1"
	})
	store := oddStore{Store: r.store, findings: 1, begun: make(chan struct{}, 10), end: make(chan struct{})}
	service := scheduler.NewService(store, actionSet{}, r.clock, r.counters, scheduler.DefaultServiceOptions())
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			findings, err := service.Check(t.Context())
			if err != nil || len(findings) != 1 {
				t.Errorf("check %d: %+v, %v", i, findings, err)
			}
		})
	}
	<-store.begun
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := service.Check(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a check that does not wait: %v", err)
	}
	close(store.end)
	wg.Wait()
	if n := len(store.begun); n > 0 {
		t.Errorf("%d more checks were made for those who asked meanwhile", n)
	}
	if _, err := service.Check(t.Context()); err != nil || len(store.begun) != 1 {
		t.Errorf("afterwards: %v, %d checks, want a new one", err, len(store.begun))
	}
}
