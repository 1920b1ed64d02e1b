package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
)

// calls is an HTTP server that notes which firing called it.
type calls struct {
	*httptest.Server
	mu   sync.Mutex
	seen map[string][]call // by plan key
}

type call struct {
	firing string
	due    int64
	at     time.Time
}

func newCalls(t *testing.T) *calls {
	c := &calls{seen: make(map[string][]call)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		due, _ := strconv.ParseInt(r.Header.Get("X-FORSUN-TIMESTAMP"), 10, 64)
		c.mu.Lock()
		defer c.mu.Unlock()
		key := r.Header.Get("X-FORSUN-KEY")
		c.seen[key] = append(c.seen[key], call{r.Header.Get("X-FORSUN-FIRING-ID"), due, time.Now()})
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *calls) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

// plan is a one-shot that calls c so many seconds from now.
func (c *calls) plan(key string, seconds int) scheduler.Request {
	return scheduler.Request{
		Key: key, Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: seconds, Count: 1},
		Action: "http", Params: map[string]string{"url": c.URL},
	}
}

// TestKilled: 10,000 plans are acknowledged over Thrift, more are being
// acknowledged, and forsund is killed. After the restart all of them are there,
// and each of those whose second passed meanwhile fires exactly once.
func TestKilled(t *testing.T) {
	t.Parallel()
	const soon, later = 2_500, 7_500
	target, store := newCalls(t), filepath.Join(t.TempDir(), "store")
	p := start(t, store)

	acknowledged := make(map[string]int64) // key → due second
	note := func(plans ...*scheduler.Plan) {
		for _, plan := range plans {
			acknowledged[plan.Key] = plan.Due
		}
	}
	create := func(prefix string, n, seconds int) {
		t.Helper()
		requests := make([]scheduler.Request, n)
		for i := range requests {
			requests[i] = target.plan(fmt.Sprintf("%s%05d", prefix, i), seconds)
		}
		results, err := p.client().CreateMany(t.Context(), requests)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			note(r.Plan)
		}
	}
	began := time.Now()
	create("later", later, 3600)
	// Long enough to store these and to kill before they are due.
	create("soon", soon, 5+int(2*time.Since(began).Seconds()))

	// Four clients go on while the process is killed under them.
	var mu sync.Mutex
	var clients sync.WaitGroup
	inFlight := make(chan struct{}, 1000)
	for n := range 4 {
		c := p.client()
		clients.Go(func() {
			for i := 0; ; i++ {
				plan, err := c.Create(t.Context(), target.plan(fmt.Sprintf("killed%d-%d", n, i), 3600))
				if err != nil {
					return
				}
				mu.Lock()
				note(plan)
				mu.Unlock()
				select {
				case inFlight <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 40 {
		<-inFlight
	}
	p.kill()
	clients.Wait()
	lastDue := int64(0)
	for key, due := range acknowledged {
		if key[:4] == "soon" {
			lastDue = max(lastDue, due)
		}
	}
	if target.count() > 0 || time.Now().Unix() >= lastDue {
		t.Fatalf("%d plans fired before the kill: too late to show anything", target.count())
	}
	poll(t, "the plans' second to pass", func() bool { return time.Now().Unix() > lastDue })

	again := start(t, store)
	if ready := again.waitLog("forsund is ready"); ready["plans"].(float64) < float64(len(acknowledged)) {
		t.Errorf("at the start %v plans are counted, %d were acknowledged", ready["plans"], len(acknowledged))
	}
	poll(t, "all missed plans to fire", func() bool { return target.count() >= soon })
	poll(t, "nothing to be under way", func() bool {
		states, err := again.client().Shards(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		busy := states[0].Overdue + states[0].Retries
		for _, n := range states[0].Queued {
			busy += n
		}
		for _, n := range states[0].Running {
			busy += n
		}
		return busy == 0
	})

	for plan, err := range again.client().Plans(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if due, ok := acknowledged[plan.Key]; ok && plan.Due != due {
			t.Errorf("%s is due at %d, %d was acknowledged", plan.Key, plan.Due, due)
		}
		if plan.Key[:4] != "soon" {
			delete(acknowledged, plan.Key)
		}
	}
	target.mu.Lock()
	defer target.mu.Unlock()
	for key, got := range target.seen {
		if len(got) != 1 || got[0].due != acknowledged[key] || got[0].at.Unix() < got[0].due {
			t.Errorf("%s fired as %+v, want once, due %d", key, got, acknowledged[key])
		}
		delete(acknowledged, key)
	}
	for key := range acknowledged {
		t.Errorf("%s was acknowledged and is neither there nor fired", key)
	}
}

// TestRestartKeepsRepeating: a plan that repeats goes on where it was, and what
// it missed within the grace fires, each second once.
func TestRestartKeepsRepeating(t *testing.T) {
	t.Parallel()
	target, store := newCalls(t), filepath.Join(t.TempDir(), "store")
	p := start(t, store)
	request := target.plan("tick", 1)
	request.Schedule.Count = 6
	p.create(request)
	poll(t, "the first firing", func() bool { return target.count() > 0 })
	p.kill()
	down := time.Now()
	poll(t, "seconds to be missed", func() bool { return time.Since(down) > 2*time.Second })
	start(t, store)
	poll(t, "six due seconds", func() bool {
		target.mu.Lock()
		defer target.mu.Unlock()
		dues := make(map[int64]string)
		for _, c := range target.seen["tick"] {
			if id, ok := dues[c.due]; ok && id != c.firing {
				t.Fatalf("second %d fired under the ids %s and %s", c.due, id, c.firing)
			}
			dues[c.due] = c.firing
		}
		return len(dues) == 6
	})
}
