package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/snower/forsun/scheduler"
)

// model is what a store should hold, kept in the plainest way. Where the contract
// leaves a choice it takes the store's answer over.
type model struct {
	*rig
	base    int64 // a due second long ago; all others follow it
	retryAt int64 // milliseconds: retries are for different times, so that their order is known
	plans   map[string]*modelPlan
	firings []*modelFiring
	queued  int              // firings queued so far: the order of the queues
	sent    []modelFinish    // finishes that were answered, to be sent again
	known   map[string]bool  // receipts handed out
	record  map[string]int64 // what the history should hold: "<key> <outcome>" → how many
}

// modelPlan is a stored plan.
type modelPlan struct {
	*scheduler.Plan
	first *scheduler.Plan // as it was put
	lost  bool            // a firing died of lost workers: the contract does not say that this is the status
}

// state is where a firing is.
type state int

const (
	queued state = iota
	running
	waiting
	dead
)

// fate says what a retry of a firing depends on.
type fate int

const (
	kept    fate = iota // its plan, which is as it was
	changed             // its plan, which was removed or replaced since the claim
	free                // nothing: it was redriven
)

// modelFiring is a firing that has not ended, or a dead letter.
type modelFiring struct {
	*scheduler.Firing // as it was handed over last; Receipt is of its last delivery
	action            string
	state             state
	fate              fate
	order             int       // with queued: place in the queue, -1 if the contract leaves it open
	worker            string    // with running
	at                time.Time // with waiting
	deferred          bool      // with waiting: by Defer
	lost              bool      // it died of lost workers: its next Delivery is not said
}

// modelFinish is a finish that may be sent again.
type modelFinish struct {
	shard  int
	worker string
	finish scheduler.Finish
}

// runModel compares the store with a model over random sequences. The rapid
// flags scale it: -rapid.checks (100 sequences), -rapid.steps (30 steps each),
// -rapid.seed to repeat one.
func runModel(t *testing.T, f Factory) {
	rapid.Check(t, func(rt *rapid.T) {
		h := f.Open(t)
		defer h.Store.Close() // a hundred stores are not kept open until the end
		ctx, cancel := context.WithTimeout(context.Background(), rowBound)
		defer cancel()
		m := &model{
			rig: newRig(ctx, rt, h), plans: map[string]*modelPlan{},
			known: map[string]bool{}, record: map[string]int64{},
		}
		m.base = m.now() - 100_000
		m.retryAt = (m.now() - 50_000) * 1000
		rt.Repeat(map[string]func(*rapid.T){
			"":        m.check,
			"put":     m.stepPut,
			"put2":    m.stepPut, // twice as often
			"resend":  m.stepResend,
			"remove":  m.stepRemove,
			"claim":   m.stepClaim,
			"claim2":  m.stepClaim,
			"claim3":  m.stepClaim,
			"take":    m.stepTake,
			"take2":   m.stepTake,
			"finish":  m.stepFinish,
			"finish2": m.stepFinish,
			"again":   m.stepFinishAgain,
			"promote": m.stepPromote,
			"rescue":  m.stepRescue,
			"redrive": m.stepRedrive,
		})
		m.checkAll()
		m.wantWhole()
	})
}

func modelKeys() []string    { return []string{"a", "a{b}", "任务", "z"} }
func modelActions() []string { return []string{"x", "y"} }
func modelWorkers() []string { return []string{"w1", "w2"} }

// where returns the firings in a state that a filter keeps, in no special
// order.
func (m *model) where(s state, keep func(*modelFiring) bool) (fs []*modelFiring) {
	for _, f := range m.firings {
		if f.state == s && (keep == nil || keep(f)) {
			fs = append(fs, f)
		}
	}
	return fs
}

// drop forgets a firing that has ended.
func (m *model) drop(f *modelFiring) {
	m.firings = slices.DeleteFunc(m.firings, func(g *modelFiring) bool { return g == f })
}

// pending returns the retries of key that wait. What was deferred before it ever
// ran counts as queued.
func (m *model) pending(key string) []*modelFiring {
	return m.where(waiting, func(f *modelFiring) bool { return f.Plan.Key == key && !(f.deferred && f.Attempt == 1) })
}

// change is what a Put or Remove that finds a plan or a pending retry of key does
// to the firings of key.
func (m *model) change(key string) {
	for _, f := range m.pending(key) {
		m.drop(f)
	}
	for _, f := range m.firings {
		if f.Plan.Key == key && f.state != dead && f.fate == kept {
			f.fate = changed
		}
	}
}

// enqueue puts a firing at the end of its queue.
func (m *model) enqueue(f *modelFiring, ordered bool) {
	f.state, f.worker, f.order = queued, "", -1
	if ordered {
		f.order = m.queued
	}
	m.queued++
}

// check compares what can be read without changing anything.
func (m *model) check(*rapid.T) {
	keys := slices.Sorted(maps.Keys(m.plans))
	for _, key := range modelKeys() {
		p := m.plans[key]
		if p == nil {
			m.wantNone(key)
			continue
		}
		got, err := m.store.Get(m.ctx, key)
		if err != nil {
			m.Fatalf("Get(%q): %v", key, err)
		}
		m.comparePlan(p, got)
	}
	if got := m.listKeys("", 3); !slices.Equal(got, keys) {
		m.Fatalf("List shows %q, want %q", got, keys)
	}
	m.checkCounts()
}

// checkCounts compares what Shards counts. Whether a firing deferred before its
// first attempt is a retry or queued there is not said.
func (m *model) checkCounts() {
	s := m.state()
	want := map[string]int64{"plans": int64(len(m.plans))}
	for _, f := range m.firings {
		switch f.state {
		case queued:
			want["queued "+f.action]++
		case running:
			want["running "+f.action]++
		case waiting:
			if f.deferred && f.Attempt == 1 && s.Queued[f.action] > int64(len(m.where(queued, func(g *modelFiring) bool { return g.action == f.action }))) {
				want["queued "+f.action]++
				continue
			}
			want["retries"]++
		case dead:
			want["dead"]++
		}
	}
	got := map[string]int64{"plans": s.Plans, "retries": s.Retries, "dead": s.Dead, "quarantined": s.Quarantined}
	for a, n := range s.Queued {
		got["queued "+a] = n
	}
	for a, n := range s.Running {
		got["running "+a] = n
	}
	none := func(_ string, n int64) bool { return n == 0 }
	maps.DeleteFunc(want, none)
	maps.DeleteFunc(got, none)
	if d := gocmp.Diff(want, got); d != "" {
		m.Fatalf("Shards counts (-want +got):\n%s", d)
	}
}

// comparePlan compares a plan read with the model's.
func (m *model) comparePlan(p *modelPlan, got *scheduler.Plan) {
	m.Helper()
	if p.lost && got.Status == scheduler.StatusFailed {
		p.Status = scheduler.StatusFailed
	}
	p.lost = false
	if d := planDiff(p.Plan, got); d != "" {
		m.Fatalf("plan %q (-want +got):\n%s", p.Key, d)
	}
}

// checkAll compares the rest, at the end of a sequence.
func (m *model) checkAll() {
	wantDead := map[scheduler.FiringID]bool{}
	for _, f := range m.where(dead, nil) {
		wantDead[f.ID()] = true
	}
	gotDead := map[scheduler.FiringID]bool{}
	for _, d := range m.deadBy("", 3) {
		gotDead[d.Firing.ID()] = true
	}
	if d := gocmp.Diff(wantDead, gotDead); d != "" {
		m.Fatalf("dead letters (-want +got):\n%s", d)
	}
	for _, shard := range m.store.ShardIDs() {
		for _, worker := range modelWorkers() {
			m.compareHeld(shard, worker)
		}
	}
	got := map[string]int64{}
	for _, a := range m.historyBy("", 7) {
		if a.Replica == "replica-1" { // what a rescue records is the store's affair
			got[fmt.Sprint(a.Key, " ", a.Outcome)]++
		}
	}
	if d := gocmp.Diff(m.record, got); d != "" {
		m.Fatalf("history (-want +got):\n%s", d)
	}
	for _, action := range modelActions() {
		for _, shard := range m.store.ShardIDs() {
			m.compareDue(shard, action, m.due(shard, action, 0, m.now()))
		}
	}
}

// compareHeld compares what a worker holds and returns it as the model has it.
func (m *model) compareHeld(shard int, worker string) []*modelFiring {
	m.Helper()
	fs := m.where(running, func(f *modelFiring) bool { return f.worker == worker && f.Shard == shard })
	var want []string
	for _, f := range fs {
		want = append(want, f.Receipt)
	}
	got := m.held(shard, worker)
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		m.Fatalf("%s holds %q in shard %d, want %q", worker, got, shard, want)
	}
	return fs
}

// compareFiring compares a firing with the model's of the same id.
func (m *model) compareFiring(want *modelFiring, got *scheduler.Firing) {
	m.Helper()
	p := want.Plan.Clone()
	p.Status = got.Plan.Status // as it was at the claim, which lost workers may have been before
	if d := planDiff(p, got.Plan); d != "" {
		m.Fatalf("firing of %q at %d carries another plan (-want +got):\n%s", want.Plan.Key, want.Due, d)
	}
	if got.Due != want.Due || got.Missed != want.Missed || got.Attempt != want.Attempt || got.Delivery != want.Delivery || got.Shard != want.Shard {
		m.Fatalf("firing of %q is %+v, want %+v", want.Plan.Key, got, want.Firing)
	}
}

// compareDue compares a page of Due: some of the plans that are due, the oldest.
func (m *model) compareDue(shard int, action string, got []*scheduler.Plan) {
	m.Helper()
	var want []int64
	for _, p := range m.plans {
		if p.Action == action && m.shard(p.Plan) == shard {
			want = append(want, p.Due)
		}
	}
	slices.Sort(want)
	var dues []int64
	for _, p := range got {
		dues = append(dues, p.Due)
		if q := m.plans[p.Key]; q == nil {
			m.Fatalf("Due shows %q, which is not there", p.Key)
		} else {
			m.comparePlan(q, p)
		}
	}
	if !slices.Equal(dues, want[:min(len(want), len(dues))]) {
		m.Fatalf("Due shows plans due at %v, want the oldest of %v", dues, want)
	}
}

// stepPut creates or overwrites a plan.
func (m *model) stepPut(t *rapid.T) {
	key := rapid.SampledFrom(modelKeys()).Draw(t, "key")
	p := NewPlan(key, Every(1, 0),
		WithDue(m.base+rapid.Int64Range(0, 50).Draw(t, "due")),
		WithAction(rapid.SampledFrom(modelActions()).Draw(t, "action")),
		WithParams(map[string]string{"p": string(rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "params"))}))
	m.wantReplaced("put", m.store.Put, []*scheduler.Plan{p.Clone()}, func(int) bool { return m.plans[key] != nil })
	if m.plans[key] != nil || len(m.pending(key)) > 0 {
		m.change(key)
	}
	m.plans[key] = &modelPlan{Plan: p, first: p.Clone()}
	m.shard(p)
}

// stepResend sends the put of a stored plan again.
func (m *model) stepResend(t *rapid.T) {
	if len(m.plans) == 0 {
		t.Skip("no plan")
	}
	m.put(m.plans[rapid.SampledFrom(slices.Sorted(maps.Keys(m.plans))).Draw(t, "key")].first)
}

// stepRemove removes a plan, or what is left of it.
func (m *model) stepRemove(t *rapid.T) {
	key := rapid.SampledFrom(modelKeys()).Draw(t, "key")
	left := m.pending(key)
	got, err := m.store.Remove(m.ctx, key)
	switch p := m.plans[key]; {
	case p != nil:
		if err != nil {
			m.Fatalf("Remove(%q): %v", key, err)
		}
		m.comparePlan(p, got)
	case len(left) > 0:
		if err != nil {
			m.Fatalf("Remove(%q) with only a retry left: %v", key, err)
		}
		if !slices.ContainsFunc(left, func(f *modelFiring) bool { return f.Plan.Revision == got.Revision }) {
			m.Fatalf("Remove(%q) returned revision %v, which no retry is of", key, got.Revision)
		}
	default:
		if !errors.Is(err, scheduler.ErrNotFound) {
			m.Fatalf("Remove(%q) of nothing = %v, %v", key, got, err)
		}
		return
	}
	delete(m.plans, key)
	m.change(key)
}

// byOrder sorts a queue.
func byOrder(a, b *modelFiring) int { return cmp.Compare(a.order, b.order) }
