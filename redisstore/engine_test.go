package redisstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

type recorders map[string]scheduler.Action

func (r recorders) Get(name string) (scheduler.Action, bool) { a, ok := r[name]; return a, ok }
func (r recorders) Names() []string                          { return []string{action} }

// replica is a whole replica on a store: engine, service, and an action that records.
type replica struct {
	*bench
	service *scheduler.Service
	rec     *storetest.Recorder
}

// newReplica starts a replica that leads all shards and works.
func newReplica(t *testing.T, o Options, direct string) *replica {
	t.Helper()
	return newReplicaWith(t, o, direct, func(*scheduler.EngineOptions) {})
}

// newReplicaWith starts a replica with other options.
func newReplicaWith(t *testing.T, o Options, direct string, set func(*scheduler.EngineOptions)) *replica {
	t.Helper()
	r := &replica{bench: &bench{T: t, s: openStore(t, o), addr: direct, ctx: testContext(t)}, rec: storetest.NewRecorder()}
	r.k = r.s.shards[o.Shards[0]]
	opts := scheduler.DefaultEngineOptions()
	opts.Replica, opts.Actions, opts.StoreTimeout = "r1", []string{action}, 2*time.Second
	set(&opts)
	actions, counters := recorders{action: r.rec}, new(scheduler.Counters)
	engine, err := scheduler.NewEngine(r.s, actions, scheduler.SystemClock{}, counters, zerolog.New(io.Discard), opts)
	if err != nil {
		t.Fatal(err)
	}
	r.service = scheduler.NewService(r.s, actions, scheduler.SystemClock{}, counters, scheduler.DefaultServiceOptions())
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := engine.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	if opts.Lead {
		eventually(t, 5*time.Second, "it leads all shards", func() bool { return len(engine.Leads()) == len(o.Shards) })
	}
	return r
}

func (r *replica) create(key string, seconds int) error {
	_, err := r.service.Create(r.ctx, scheduler.Request{
		Key: key, Action: action, Params: map[string]string{"url": "http://127.0.0.1/" + key},
		Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: seconds, Week: scheduler.Any, Count: 1},
	})
	return err
}

// ran waits until keys have run and checks that they did once, and never early.
func (r *replica) ran(within time.Duration, keys ...string) {
	r.Helper()
	counts := func() map[string]int {
		n := make(map[string]int)
		for _, run := range r.rec.Runs() {
			n[run.Key]++
			if run.Started.Before(time.Unix(run.Due, 0)) {
				r.Errorf("%q ran %v early", run.Key, time.Unix(run.Due, 0).Sub(run.Started))
			}
		}
		return n
	}
	eventually(r.T, within, fmt.Sprintf("%d plans have run", len(keys)), func() bool {
		n := counts()
		for _, key := range keys {
			if n[key] == 0 {
				return false
			}
		}
		return true
	})
	for _, key := range keys {
		if n := counts()[key]; n != 1 {
			r.Errorf("%q ran %d times", key, n)
		}
	}
}

// TestReplica: one replica, through faults that an operator or the network makes.
func TestReplica(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr)
	o := testOptions(proxy.Addr)
	r := newReplica(t, o, server.Addr)
	sub := func(name string, fn func(*replica)) {
		t.Run(name, func(t *testing.T) {
			b, own := *r.bench, *r
			b.T, b.ctx = t, testContext(t)
			own.bench = &b
			fn(&own)
		})
	}
	due := func() int64 { return time.Now().Unix() + 1 }

	// Its firings run within 5 s, once.
	loseReply := func(r *replica, proxy *redistest.Proxy, s *script, before func()) {
		r.Helper()
		sha := []byte(s.sha)
		for round := range 5 {
			var plans []*scheduler.Plan
			var keys []string
			for i := range 20 {
				keys = append(keys, fmt.Sprintf("taken%d.%d", round, i))
				plans = append(plans, storetest.NewPlan(keys[i], storetest.WithDue(due())))
			}
			r.put(plans...)
			time.Sleep(time.Until(time.Unix(plans[0].Due, 0).Add(-20 * time.Millisecond)))
			before()
			proxy.DropNextReplyMatching(func(request []byte) bool { return bytes.Contains(request, sha) })
			r.ran(10*time.Second, keys...)
			proxy.Heal()
			lost := 0
			for _, run := range r.rec.Runs() {
				late := run.Started.Sub(time.Unix(run.Due, 0))
				if !strings.HasPrefix(run.Key, fmt.Sprintf("taken%d.", round)) || late < time.Second {
					continue
				}
				if lost++; late > 6*time.Second { // and a second, for a machine that is busy
					r.Errorf("%s ran %v late", run.Key, late)
				}
			}
			if lost > 0 {
				return
			}
			r.Log("what lost its reply had brought nothing; once more")
		}
		r.Error("nothing that brought firings lost its reply")
	}
	sub("the reply of a claim that hands out is lost", func(r *replica) {
		loseReply(r, proxy, r.s.scripts.claim, func() { r.redis("SET", r.k.edits, "what was read may be another") })
	})
	sub("the reply of a claim that hands out a bundle is lost", func(r *replica) { loseReply(r, proxy, r.s.scripts.handout, func() {}) })
	sub("the reply of a take is lost", func(r *replica) {
		proxy := redistest.NewProxy(r.T, server.Addr)
		there, here := testOptions(server.Addr), testOptions(proxy.Addr)
		here.Prefix = there.Prefix
		newReplicaWith(r.T, there, server.Addr, func(o *scheduler.EngineOptions) { o.Replica, o.Work = "leader", []string{} })
		worker := newReplicaWith(r.T, here, server.Addr, func(o *scheduler.EngineOptions) { o.Replica, o.Lead = "worker", false })
		loseReply(worker, proxy, worker.s.scripts.take, func() {})
	})

	sub("a plan is deleted, another is a list", func(r *replica) {
		at := due() + 1
		r.put(storetest.NewPlan("deleted", storetest.WithDue(at)), storetest.NewPlan("list", storetest.WithDue(at)), storetest.NewPlan("after", storetest.WithDue(at)))
		redistest.CLI(r.T, r.addr, "DEL", r.k.plan("deleted"))
		redistest.CLI(r.T, r.addr, "DEL", r.k.plan("list"))
		redistest.CLI(r.T, r.addr, "RPUSH", r.k.plan("list"), "x")
		r.ran(5*time.Second, "after")
		eventually(r.T, 5*time.Second, "what cannot fire is cleared", func() bool { return r.redis("ZCARD", r.k.index) == int64(0) })
		if n := r.redis("HEXISTS", r.k.quarantine, "list"); n != int64(1) {
			r.Error("the list is not in quarantine")
		}
		if n := r.redis("ZCARD", r.k.schedule(action)); n != int64(0) {
			r.Errorf("%v entries are left in the schedule", n)
		}
		for _, run := range r.rec.Runs() {
			if run.Key == "deleted" || run.Key == "list" {
				r.Errorf("%s has run", run.Key)
			}
		}
		r.checked()
	})

	// What a person sees.
	sub("redis-cli", func(r *replica) {
		if err := r.create("seen", 1000); err != nil {
			r.Fatal(err)
		}
		var fields map[string]any
		text := redistest.CLI(r.T, r.addr, "GET", r.k.plan("seen"))
		if err := json.Unmarshal([]byte(text), &fields); err != nil || fields["action"] != action || fields["second"] != 1000.0 || fields["params"] == nil {
			r.Errorf("redis-cli get shows %s (%v)", text, err)
		}
		if got, want := redistest.CLI(r.T, r.addr, "ZRANGE", r.k.schedule(action), "0", "-1", "WITHSCORES"), fmt.Sprintf("seen\n%.0f", fields["next_time"]); got != want {
			r.Errorf("redis-cli zrange … withscores shows %q, want %q", got, want)
		}
		if got := redistest.CLI(r.T, r.addr, "GET", r.k.leader); !strings.Contains(got, ":r1:") {
			r.Errorf("redis-cli get of the leader shows %q", got)
		}
		if _, err := r.service.Remove(r.ctx, "seen"); err != nil {
			r.Error(err)
		}
	})

	// Firing goes on, which frees memory; what would take more is refused.
	sub("Redis is out of memory", func(r *replica) {
		at := due() + 1
		var keys []string
		for i := range 50 {
			keys = append(keys, fmt.Sprintf("oom%d", i))
			r.put(storetest.NewPlan(keys[i], storetest.WithDue(at+int64(i%2)), storetest.Every(3600, 2)))
		}
		r.rec.Fail("oom7", 1, scheduler.Retryable(errors.New("it failed")))
		retry := storetest.NewPlan("retried", storetest.WithDue(at), storetest.WithParams(map[string]string{"forsun.retry_delay": "0"}))
		r.put(retry)
		r.rec.Fail("retried", 1, scheduler.Retryable(errors.New("it failed")))
		r.redis("CONFIG", "SET", "maxmemory", "1")
		defer r.redis("CONFIG", "SET", "maxmemory", "0")
		before := r.redis("HGET", r.k.workers, "r1")
		if err := r.create("refused", 10); !errors.Is(err, scheduler.ErrFull) {
			r.Errorf("Create: %v, want ErrFull", err)
		}
		if _, err := r.service.Get(r.ctx, "refused"); !errors.Is(err, scheduler.ErrNotFound) {
			r.Errorf("Get of what was refused: %v", err)
		}
		r.ran(8*time.Second, append(keys[:7:7], keys[8:]...)...)
		eventually(r.T, 8*time.Second, "the failed one is tried again", func() bool {
			n := 0
			for _, run := range r.rec.Runs() {
				if run.Key == "retried" {
					n++
				}
			}
			return n == 2
		})
		eventually(r.T, 5*time.Second, "its heart beats", func() bool { return r.redis("HGET", r.k.workers, "r1") != before })
		eventually(r.T, 5*time.Second, "all are finished", func() bool { return r.redis("HLEN", r.k.held(action, "r1")) == int64(0) })
		if _, err := r.service.Remove(r.ctx, keys[0]); err != nil {
			r.Errorf("Remove: %v", err)
		}
		// A vacant lease finds a leader.
		r.redis("DEL", r.k.leader)
		eventually(r.T, 5*time.Second, "it leads again", func() bool { v, _ := r.redis("GET", r.k.leader).(string); return v != "" })
	})
}

// TestKeysOfAllKindsOnACluster creates, gets, lists, fires and removes plans whose keys
// hold whatever a key may.
func TestKeysOfAllKindsOnACluster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, 0)
	o := testOptions(c.Addrs()...)
	o.Cluster, o.Shards = true, []int{0, 1, 2, 3}
	r := newReplica(t, o, "")
	keys := []string{
		"{", "}", "{}", "{a}", "a{b}c{d}", "}{", "{{}}", `"`, `'`, `\`, `\"`, `a"b'c`, " ", "a b", " a ", ":", "a:b:c", "r:x", "%", "%41", "a,b", "*", "?", "[a-z]",
		"计划", "每天-16:32", "スケジュール", "💥", "👩‍👩‍👧", "é", "e\u0301", "\u2028", "\u00a0", "\ufeff", "-inf", "+", "(a", "[a", "0", "-1", "<b>&amp;",
		strings.Repeat("k", 512), strings.Repeat("💥", 128), strings.Repeat(`"`, 512), strings.Repeat("{", 512),
	}
	for _, key := range keys {
		if err := r.create(key, 3600); err != nil {
			t.Errorf("Create of %q: %v", key, err)
		}
		if p, err := r.service.Get(r.ctx, key); err != nil || p.Key != key || p.Params["url"] != "http://127.0.0.1/"+key {
			t.Errorf("Get of %q: %v, %v", key, p, err)
		}
	}
	for _, prefix := range append([]string{""}, keys...) {
		want := 0
		for _, key := range keys {
			if strings.HasPrefix(key, prefix) {
				want++
			}
		}
		got := 0
		for cursor := ""; ; {
			plans, next, err := r.s.List(r.ctx, scheduler.ListQuery{Prefix: prefix, Cursor: cursor, Limit: 10})
			if err != nil {
				t.Fatalf("List of %q: %v", prefix, err)
			}
			got += len(plans)
			if cursor = next; cursor == "" {
				break
			}
		}
		if got != want {
			t.Errorf("List of %q: %d plans, want %d", prefix, got, want)
		}
	}
	for _, key := range keys {
		if p, err := r.service.Remove(r.ctx, key); err != nil || p.Key != key {
			t.Errorf("Remove of %q: %v, %v", key, p, err)
		}
	}
	r.rec.Fail(keys[3], 1, scheduler.Retryable(errors.New("it failed")))
	for _, key := range keys {
		r.put(storetest.NewPlan(key, storetest.WithDue(time.Now().Unix()+1), storetest.Every(3600, 2)))
	}
	r.ran(8*time.Second, append(keys[:3:3], keys[4:]...)...)
	attempts := 0
	eventually(t, 5*time.Second, "all attempts are in the history", func() bool {
		attempts = 0
		for _, key := range keys {
			found, _, err := r.s.History(r.ctx, scheduler.JournalQuery{Key: key, Limit: 10})
			if err != nil {
				t.Fatal(err)
			}
			attempts += min(len(found), 1)
		}
		return attempts == len(keys)
	})
	// A retry that waits is found by the key, whatever is in it.
	if _, err := r.s.Remove(r.ctx, keys[3]); err != nil {
		t.Errorf("Remove of %q: %v", keys[3], err)
	}
	r.checked()
}
