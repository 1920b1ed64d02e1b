package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scripts/chaos/ledger"
)

// watchClaims watches the claims that Redis accepts, until the scenario ends, and then
// judges their terms (I7). The Redis must live as long.
func (f *fleet) watchClaims() *ledger.Claims {
	t := f.t
	t.Helper()
	monitor, err := redistest.Dial(f.redis.Addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := monitor.Do("MONITOR"); err != nil {
		monitor.Close()
		t.Fatal(err)
	}
	claims := &ledger.Claims{}
	ended := make(chan error, 1)
	go func() {
		for {
			line, err := monitor.Receive()
			if err != nil {
				ended <- err
				return
			}
			if text, ok := line.(string); ok {
				claims.See(text)
			}
		}
	}()
	t.Cleanup(func() {
		select {
		case err := <-ended:
			t.Errorf("the claims were watched until %v", err)
		default:
			monitor.Close()
			<-ended
		}
		accepted, problems := claims.Found()
		if len(problems) > 0 {
			t.Errorf("terms go back: %d\n  %s", len(problems), strings.Join(problems[:min(10, len(problems))], "\n  "))
		}
		if accepted == 0 && !t.Failed() {
			t.Error("no claim was seen: this has shown nothing")
		}
		t.Logf("%d accepted claims, terms in order: %t", accepted, len(problems) == 0)
	})
	return claims
}

// account checks, when everything that has to fire by until has, where all keys went
// (I9), removes what is live, and waits until the store holds nothing of it any more:
// no plan, no place of one, nothing under way (I10). forsun's own doctor must agree.
func (f *fleet) account(until int64) {
	t := f.t
	t.Helper()
	a := f.journal.Account(f.stock(), until, time.Now().Unix())
	for _, problem := range a.Problems[:min(10, len(a.Problems))] {
		t.Errorf("of %d: %s", len(a.Problems), problem)
	}
	f.event("%s", a)
	t.Log(a)
	f.doctor()
	for key := range f.stock().Plans {
		err := f.client.Remove(t.Context(), key)
		// Some fire for the last time just now.
		if errors.Is(err, ledger.ErrNotFound) && f.journal.Ended(key, time.Now().Unix()) {
			continue
		}
		if err != nil {
			t.Fatalf("remove %s, which was stored: %v", key, err)
		}
	}
	var s *ledger.Stock
	defer func() {
		if t.Failed() {
			t.Logf("left are %d plans, %d in the index, %d in schedules; under way: %q",
				len(s.Plans), len(s.Indexed), len(s.Scheduled), s.Underway[:min(10, len(s.Underway))])
		}
	}()
	eventually(t, "the store to be empty", 30*time.Second, func() bool {
		s = f.stock()
		return len(s.Plans)+len(s.Indexed)+len(s.Scheduled)+len(s.Underway) == 0
	})
	f.doctor()
}

// stock is what Redis holds of all shards, but for forsun's own probes.
func (f *fleet) stock() *ledger.Stock {
	f.t.Helper()
	var tags []string
	for shard := range f.shards {
		tags = append(tags, f.tag(shard))
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	s, err := ledger.TakeStock(ctx, f.redis.Addr, tags...)
	if err != nil {
		f.t.Fatal(err)
	}
	// forsun's own probes, which no client asks for.
	probe := func(key string) bool { return strings.HasPrefix(key, "forsun.canary.") }
	for _, keys := range []map[string]bool{s.Plans, s.Indexed} {
		maps.DeleteFunc(keys, func(key string, _ bool) bool { return probe(key) })
	}
	maps.DeleteFunc(s.Scheduled, func(key string, _ int) bool { return probe(key) })
	return s
}

// idle closes connections that no firing uses soon, for fleets whose footprint is
// judged.
const idle = "--action-idle=1s"

// slack is what a replica may hold more after a load than before: the kernel's threads
// and the memory that Go keeps, and connections that the fleet's own work opens.
var slack = ledger.Footprint{Threads: 16, Descriptors: 16, Resident: 96 << 20, Goroutines: 24}

// pooled is where goroutines wait for the next firing to run; they are bounded.
const pooled = "scheduler.(*workers).runJobs"

// footprint is what a replica holds, and the stacks of its goroutines.
func (r *replica) footprint() (p ledger.Footprint, stacks string, err error) {
	if p, err = ledger.ReadProcess(r.proc.PID()); err != nil {
		return p, "", err
	}
	response, err := http.Get("http://" + r.admin + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return p, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return p, "", err
	}
	return p, string(text), p.ReadGoroutines(bytes.NewReader(text), pooled)
}

// footprints notes what the replicas hold. The function that it returns waits until
// those of them that still live hold no more than that again (I10).
func (f *fleet) footprints() (judge func()) {
	t := f.t
	t.Helper()
	before := make(map[*replica]ledger.Footprint)
	for _, r := range f.living() {
		var err error
		if before[r], _, err = r.footprint(); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		t.Helper()
		http.DefaultClient.CloseIdleConnections()
		var grown, told []string
		judged := 0
		defer func() {
			for _, line := range told {
				f.event("%s", line)
			}
			if t.Failed() {
				t.Logf("grown: %s", strings.Join(grown, "\n"))
			}
		}()
		eventually(t, "replicas that hold no more than before", 30*time.Second, func() bool {
			grown, told, judged = nil, nil, 0
			for _, r := range f.living() {
				was, ok := before[r]
				if !ok {
					continue // started since
				}
				now, stacks, err := r.footprint()
				if err != nil {
					t.Fatal(err)
				}
				judged++
				for _, problem := range now.Grown(was, slack) {
					grown = append(grown, r.name+": "+problem+"\n"+stacks)
				}
				told = append(told, fmt.Sprintf("%s holds %+v, before %+v", r.name, now, was))
			}
			return len(grown) == 0
		})
		if judged == 0 {
			t.Error("no replica lived: its footprint has shown nothing")
		}
	}
}

// living are the replicas that are up.
func (f *fleet) living() (all []*replica) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.replicas {
		if r.proc != nil && !r.hung {
			all = append(all, r)
		}
	}
	return all
}

// TestInvariantsFind: what account checks is found on a real store that somebody
// tampered with.
func TestInvariantsFind(t *testing.T) {
	t.Parallel()
	s := scenario(t, "C2")
	f := newFleet(s)
	f.start("a")
	for _, key := range []string{"kept", "deleted", "unscheduled", "unindexed"} {
		if err := f.client.Create(t.Context(), ledger.HTTPPlan(key, ledger.Spec{Every: 3600, Count: 1}, f.sink.URL)); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now().Unix()
	if a := f.journal.Account(f.stock(), now, now); len(a.Problems) > 0 || a.Live != 4 {
		t.Errorf("untouched: %s, %q", a, a.Problems)
	}
	for shard := range f.shards {
		for _, command := range [][]string{
			{"DEL", f.tag(shard) + "plan:deleted"}, {"ZREM", f.tag(shard) + "schedule:http", "unscheduled"}, {"ZREM", f.tag(shard) + "index", "unindexed"},
		} {
			redistest.Do(t, f.redis.Addr, command...)
		}
	}
	a := f.journal.Account(f.stock(), now, now)
	got := strings.Join(a.Problems, "\n")
	for _, want := range []string{"deleted: absent", "deleted: in the index, and not stored", "unscheduled: stored, and in 0 schedules", "unindexed: stored, and not in the index"} {
		if !strings.Contains(got, want) {
			t.Errorf("not found: %s; found:\n%s", want, got)
		}
	}
}
