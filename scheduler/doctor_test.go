package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
)

// oddStore has something to say in Check.
type oddStore struct {
	scheduler.Store
	findings int
	err      error
}

func (o oddStore) Check(_ context.Context, report func(scheduler.Finding)) error {
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
	findings = check(oddStore{r.store, 5000, nil})
	last := findings[len(findings)-1]
	if len(findings) != 1000 || findings[0].Severity != scheduler.SeverityError || last.Problem != "found 4002 more than is shown" {
		t.Errorf("of 5000 findings: %d, ended by %+v", len(findings), last)
	}
	findings = check(oddStore{r.store, 2, errors.New("lost redis://me:secret@host")})
	if len(findings) != 4 || !strings.Contains(findings[1].Problem+findings[0].Problem, "lost redis://***@host") {
		t.Errorf("a check that breaks off: %+v", findings)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.service.Check(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Check that nobody waits for: %v", err)
	}
}
