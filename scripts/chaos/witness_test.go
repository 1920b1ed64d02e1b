package chaos

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/snower/forsun/scripts/chaos/ledger"
)

// creates stores plans one after another while things go wrong, so that there are
// always some that were acknowledged a moment ago.
type creates struct {
	f       *fleet
	name    string
	until   time.Time
	running sync.WaitGroup
	mu      sync.Mutex
	failed  error
	n       int
}

// createEvery is kept between two of them by each of createClients.
const (
	createEvery   = 25 * time.Millisecond
	createClients = 4
)

// newCreates begins; the last plans are stored at until, and are due within 6 s.
func newCreates(f *fleet, name string, until time.Time) *creates {
	c := &creates{f: f, name: name, until: until}
	for client := range createClients {
		r := rand.New(rand.NewPCG(f.rand.Uint64(), 0))
		c.running.Go(func() { c.run(client, r) })
	}
	return c
}

func (c *creates) run(client int, r *rand.Rand) {
	for i := 0; time.Now().Before(c.until); i++ {
		plan := ledger.HTTPPlan(fmt.Sprintf("%s-%d-%06d", c.name, client, i), ledger.Spec{Every: 2 + r.Int64N(5), Count: 1}, c.f.sink.URL+"/")
		err := c.f.client.Create(c.f.t.Context(), plan)
		c.mu.Lock()
		c.n++
		if err != nil {
			c.failed = err
		}
		c.mu.Unlock()
		if err != nil {
			return
		}
		time.Sleep(createEvery)
	}
}

// wait waits for the last of them, and returns how many there were.
func (c *creates) wait() int {
	c.f.t.Helper()
	c.running.Wait()
	if c.failed != nil {
		c.f.t.Error(c.failed)
	}
	return c.n
}

// ask gets a path of the HTTP interface of a replica that is up.
func (f *fleet) ask(path string, data any) error {
	response, err := http.Get(f.bases()[0] + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer := struct {
		Code    int    `json:"errcode"`
		Message string `json:"errmsg"`
		Data    any    `json:"data"`
	}{Data: data}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Code != 0 {
		return fmt.Errorf("%s: %d %s", path, answer.Code, answer.Message)
	}
	return nil
}

// startAll starts replicas together.
func (f *fleet) startAll(names ...string) {
	f.t.Helper()
	var starting sync.WaitGroup
	errs := make([]error, len(names))
	for i, name := range names {
		program := built.of(f.t, name)
		starting.Go(func() { _, errs[i] = f.launch(name, program) })
	}
	starting.Wait()
	if err := errors.Join(errs...); err != nil {
		f.t.Fatal(err)
	}
}

// readyz is what /readyz of a replica says.
func (f *fleet) readyz() string {
	response, err := http.Get(f.bases()[0] + "/readyz")
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// led waits until every shard has a leader in the eyes of a replica, and n replicas
// lead one. It is spread for stores that are not one Redis.
func (f *fleet) led(n int) {
	f.t.Helper()
	eventually(f.t, "every shard led", 30*time.Second, func() bool {
		var all []struct{ Leader string }
		if err := f.ask("/v1/shards", &all); err != nil || len(all) != f.shards {
			return false
		}
		leaders := make(map[string]bool)
		for _, s := range all {
			if s.Leader == "" {
				return false
			}
			leaders[s.Leader] = true
		}
		return len(leaders) >= n
	})
}

// entries are the lines of all replicas' logs with a message that contains words.
func (f *fleet) entries(words string) (all []entry) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.replicas {
		data, err := os.ReadFile(r.log)
		if err != nil {
			f.t.Fatal(err)
		}
		for line := range bytes.Lines(data) {
			e := entry{replica: r.name}
			if bytes.Contains(line, []byte(words)) && json.Unmarshal(line, &e) == nil {
				e.line = string(bytes.TrimSpace(line))
				all = append(all, e)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int { return a.Time.Compare(b.Time) })
	return all
}

// entry is a line of a log.
type entry struct {
	replica, line string

	Time    time.Time `json:"time"`
	Message string    `json:"message"`
	Shard   int       `json:"shard"`
	Term    uint64    `json:"term"`
	LostMS  float64   `json:"lost_ms"`

	Plans       int `json:"plans"`
	PlansBefore int `json:"plans_before"`
}

// terms checks that the terms under which a shard was led only grow (I7), but for where
// the store lost them.
func (f *fleet) terms(rollbacks ...ledger.Rollback) {
	f.t.Helper()
	last := make(map[int]entry)
	for _, e := range f.entries(`"leading"`) {
		before, ok := last[e.Shard]
		last[e.Shard] = e
		lost := slices.ContainsFunc(rollbacks, func(b ledger.Rollback) bool { return before.Time.Before(b.At.Add(time.Second)) && e.Time.After(b.At) })
		if ok && e.Term <= before.Term && !lost {
			f.t.Errorf("shard %d: term %d of %s at %s after term %d of %s at %s", e.Shard, e.Term, e.replica, e.Time, before.Term, before.replica, before.Time)
		}
	}
	if len(last) != f.shards {
		f.t.Errorf("%d of %d shards were led", len(last), f.shards)
	}
}
