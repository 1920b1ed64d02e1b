package admin

import (
	"context"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/snower/forsun/rpc"
	"github.com/snower/forsun/scheduler"
)

// metric is one of ours: how it is described, and as what.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func counter(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("forsun_"+name, help, labels, nil), prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("forsun_"+name, help, labels, nil), prometheus.GaugeValue}
}

// Collector turns what this process has counted, and what the deployment shows, into
// metrics when it is asked, so that counting costs the firings nothing.
type Collector struct {
	watch    *Watch
	engine   *scheduler.Engine
	counters *scheduler.Counters
	info     *rpc.Info

	version string
	m       descriptions
}

// descriptions are the metrics. Those of a shard that are read from the store are
// the same from every replica: take the greatest of them.
type descriptions struct {
	build, ready, draining, storeSilent, tickSilent                       metric
	plansCreated, plansRemoved                                            metric
	ticks, missed, steps, passesFailed                                    metric
	claims, collapsed, fenced, cleared, promoted                          metric
	rescued, returned, deferred, retried, buried, finishLost, storeErrors metric
	running, attempts, took, late                                         metric
	slots, slotsUsed, slotsOverrun                                        metric
	offset, clockWrong                                                    metric
	leading, term, loopSilent                                             metric
	canaries, canaryAt, canaryTook, canaryLate                            metric
	glance, leader, plans, overdue, oldest, backlog, queued, held         metric
	waiting, dead, quarantined                                            metric
	connections, connected, requesting, requests, requestsFailed          metric
}

func describe() descriptions {
	return descriptions{
		build:        gauge("build_info", "1, with the version of forsund and of Go.", "version", "goversion"),
		ready:        gauge("ready", "1 if /readyz of this replica is green."),
		draining:     gauge("draining", "1 once this replica was told to stop."),
		storeSilent:  gauge("store_silent_seconds", "Time since the store last answered this replica; about 1 at most while all is well."),
		tickSilent:   gauge("tick_silent_seconds", "Time since the last tick; about 1 at most while all is well, 0 on a replica that may not lead."),
		plansCreated: counter("plans_created_total", "Plans created or overwritten, by kind.", "kind"),
		plansRemoved: counter("plans_removed_total", "Plans removed by clients."),
		ticks:        counter("ticks_total", "Seconds at which the ticker woke."),
		missed:       counter("ticks_missed_total", "Seconds that the ticker slept through."),
		steps:        counter("clock_steps_total", "Times that the wall clock was set."),
		passesFailed: counter("passes_failed_total", "Passes of a shard loop that ended with an error."),
		claims:       counter("claims_total", "Claims by answer; claimed is a firing.", "answer"),
		collapsed:    counter("collapsed_due_seconds_total", "Missed due seconds that one firing stands for."),
		fenced:       counter("claims_fenced_total", "Claims refused because another term leads."),
		cleared:      counter("schedule_cleared_total", "Schedule entries dropped, and plans quarantined."),
		promoted:     counter("retries_promoted_total", "Retries queued again when their time had come."),
		rescued:      counter("firings_rescued_total", "Firings taken over from dead workers."),
		returned:     counter("firings_returned_total", "Firings handed back without having been run."),
		deferred:     counter("firings_deferred_total", "Firings put back because their target had no slot."),
		retried:      counter("firings_retried_total", "Attempts that failed and are to be retried."),
		buried:       counter("firings_buried_total", "Firings that became dead letters."),
		finishLost:   counter("finishes_lost_total", "Finishes that came after their firing had been rescued."),
		storeErrors:  counter("store_errors_total", "Calls to the store that failed, as the engine and the service counted."),
		running:      gauge("attempts_running", "Attempts running now."),
		attempts:     counter("attempts_total", "Attempts that ended here, by action and outcome.", "action", "outcome"),
		took:         gauge("attempt_duration_seconds", "How long attempts ran, by action.", "action"),
		late:         gauge("lateness_seconds", "How long after its due second the first attempt of a firing began that this replica ran, by shard.", "shard"),
		slots:        gauge("slots", "Attempts that may run here at a time, by action.", "action"),
		slotsUsed:    gauge("slots_used", "Slots in use.", "action"),
		slotsOverrun: gauge("slots_overrun", "Slots whose attempt does not end, long past its deadline.", "action"),
		offset:       gauge("clock_offset_seconds", "This machine's clock minus the store's."),
		clockWrong:   gauge("clock_wrong", "1 if this machine's clock is not the fleet's."),
		leading:      gauge("shard_leading", "1 for a shard that this replica leads; the sum over replicas is 1.", "shard"),
		term:         gauge("shard_term", "Term of the shard's newest lease.", "shard"),
		loopSilent:   gauge("shard_loop_silent_seconds", "Time since the loop of a shard that this replica leads came round.", "shard"),
		canaries:     counter("canaries_finished_total", "Canaries that came all the way on this replica.", "shard"),
		canaryAt:     gauge("canary_last_finished_timestamp_seconds", "When a canary of the shard last came all the way on this replica; take the greatest over replicas.", "shard"),
		canaryTook:   gauge("canary_duration_seconds", "From the due second of that canary to the answer of its finish.", "shard"),
		canaryLate:   gauge("canary_overdue_seconds", "How long ago the canary of a shard that this replica leads was due that is not claimed.", "shard"),
		glance:       gauge("store_read", "1 if the metrics of the shards below could be read from the store; they are left out if not."),
		leader:       gauge("shard_has_leader", "1 if some replica leads the shard, as the store shows it.", "shard"),
		plans:        gauge("shard_plans", "Plans stored, the canary included.", "shard"),
		overdue:      gauge("shard_overdue_plans", "Plans due before now that are not claimed.", "shard"),
		oldest:       gauge("shard_oldest_overdue_seconds", "How long ago the oldest of them was due.", "shard"),
		backlog:      gauge("shard_backlog_firings", "Firings that are claimed and have not ended.", "shard"),
		queued:       gauge("shard_queued_firings", "Firings that wait for a worker, by action.", "shard", "action"),
		held:         gauge("shard_running_firings", "Firings in the hands of workers, by action.", "shard", "action"),
		waiting:      gauge("shard_waiting_firings", "Firings that wait for a time: retries and deferrals.", "shard"),
		dead:         gauge("shard_dead_letters", "Dead letters that are kept.", "shard"),
		quarantined:  gauge("shard_quarantined", "What cannot be decoded and is kept aside.", "shard"),

		connections:    gauge("connections_open", "Connections of clients, by interface.", "interface"),
		connected:      counter("connections_total", "Connections accepted, by interface.", "interface"),
		requesting:     gauge("requests_in_flight", "Requests being answered, by interface.", "interface"),
		requests:       counter("requests_total", "Requests answered, by interface.", "interface"),
		requestsFailed: counter("request_errors_total", "Of these, requests that failed unexpectedly.", "interface"),
	}
}

// NewRegistry returns a registry with what Go and the process tell of themselves.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// NewCollector returns a collector of all metrics but the store's latency (TimeStore).
// The Watch must have its engine.
func NewCollector(w *Watch, info *rpc.Info, version string) *Collector {
	return &Collector{
		watch: w, engine: w.engine, counters: w.service.Counters(), info: info, version: version, m: describe(),
	}
}

// Describe sends nothing: what there is depends on shards and actions.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(to chan<- prometheus.Metric) {
	s := sender{to}
	c.process(s)
	c.counts(s)
	c.meters(s)
	c.traffic(s)
	c.deployment(s)
}

// sender sends values of metrics.
type sender struct{ to chan<- prometheus.Metric }

func (s sender) float(m metric, v float64, labels ...string) {
	s.to <- prometheus.MustNewConstMetric(m.desc, m.kind, v, labels...)
}

func (s sender) count(m metric, v int64, labels ...string) { s.float(m, float64(v), labels...) }

func (s sender) flag(m metric, v bool, labels ...string) {
	n := 0.0
	if v {
		n = 1
	}
	s.float(m, n, labels...)
}

func (s sender) histogram(m metric, h scheduler.Snapshot, labels ...string) {
	buckets := make(map[float64]uint64, len(h.Buckets))
	for bound, n := range h.Buckets {
		buckets[bound.Seconds()] = n
	}
	s.to <- prometheus.MustNewConstHistogram(m.desc, h.Count, h.Sum.Seconds(), buckets, labels...)
}

// process is how this replica is.
func (c *Collector) process(s sender) {
	s.count(c.m.build, 1, c.version, runtime.Version())
	s.flag(c.m.ready, len(c.watch.Problems()) == 0)
	h := c.watch.now.Load()
	if h == nil {
		return
	}
	s.flag(c.m.draining, h.Stopping || c.watch.draining.Load())
	s.float(c.m.storeSilent, h.StoreSilent.Seconds())
	s.float(c.m.tickSilent, h.TickSilent.Seconds())
	s.float(c.m.offset, h.ClockOffset.Seconds())
	s.flag(c.m.clockWrong, h.ClockWrong)
	for _, sl := range h.Slots {
		if sl.Action == scheduler.CanaryAction {
			continue
		}
		s.count(c.m.slots, int64(sl.Slots), sl.Action)
		s.count(c.m.slotsUsed, int64(sl.Used), sl.Action)
		s.count(c.m.slotsOverrun, int64(sl.Overrun), sl.Action)
	}
	for _, sh := range h.Shards {
		id := strconv.Itoa(sh.Shard)
		s.flag(c.m.leading, sh.Leads, id)
		s.count(c.m.canaries, sh.Canaries, id)
		if !sh.CanaryFinished.IsZero() {
			s.float(c.m.canaryAt, float64(sh.CanaryFinished.UnixMilli())/1000, id)
			s.float(c.m.canaryTook, sh.CanaryTook.Seconds(), id)
		}
		if sh.Leads {
			s.float(c.m.loopSilent, sh.Silent.Seconds(), id)
			s.float(c.m.canaryLate, sh.CanaryLate.Seconds(), id)
		}
	}
}

// counts is what the engine and the service have counted.
func (c *Collector) counts(s sender) {
	n := c.counters
	timeouts := n.TimeoutsCreated.Load()
	s.count(c.m.plansCreated, timeouts, "timeout")
	s.count(c.m.plansCreated, max(n.Created.Load()-timeouts, 0), "calendar")
	s.count(c.m.claims, n.Claimed.Load(), "claimed")
	for answer, name := range map[scheduler.Claimed]string{
		scheduler.ClaimChanged: "changed", scheduler.ClaimGone: "gone", scheduler.ClaimBad: "bad",
		scheduler.ClaimNotYet: "not_yet", scheduler.ClaimFull: "full",
	} {
		s.count(c.m.claims, n.NotClaimed[answer].Load(), name)
	}
	for _, of := range []struct {
		m metric
		n int64
	}{
		{c.m.plansRemoved, n.Removed.Load()},
		{c.m.ticks, n.Ticks.Load()},
		{c.m.missed, n.MissedTicks.Load()},
		{c.m.steps, n.ClockSteps.Load()},
		{c.m.passesFailed, n.TickErrors.Load()},
		{c.m.collapsed, n.Collapsed.Load()},
		{c.m.fenced, n.Fenced.Load()},
		{c.m.cleared, n.Cleared.Load()},
		{c.m.promoted, n.Promoted.Load()},
		{c.m.rescued, n.Rescued.Load()},
		{c.m.returned, n.Returned.Load()},
		{c.m.deferred, n.Deferred.Load()},
		{c.m.retried, n.Retried.Load()},
		{c.m.buried, n.Buried.Load()},
		{c.m.finishLost, n.FinishLost.Load()},
		{c.m.storeErrors, n.StoreErrors.Load()},
		{c.m.running, n.Executing.Load()},
	} {
		s.count(of.m, of.n)
	}
}

// meters is what the engine has counted by shard and by action.
func (c *Collector) meters(s sender) {
	m := c.engine.Meters()
	for shard, late := range m.Late {
		s.histogram(c.m.late, late, strconv.Itoa(shard))
	}
	for action, of := range m.Actions {
		s.histogram(c.m.took, of.Took, action)
		for outcome, n := range of.Outcomes {
			s.count(c.m.attempts, n, action, string(outcome))
		}
	}
}

// traffic is what clients do.
func (c *Collector) traffic(s sender) {
	for of, t := range c.info.Traffic() {
		s.count(c.m.connections, t.Open, of)
		s.count(c.m.connected, t.Accepted, of)
		s.count(c.m.requesting, t.Answering, of)
		s.count(c.m.requests, t.Answered, of)
		s.count(c.m.requestsFailed, t.Failed, of)
	}
}

// deployment is what the store shows, left out if it cannot be asked.
func (c *Collector) deployment(s sender) {
	ctx, cancel := context.WithTimeout(context.Background(), glanceTimeout)
	defer cancel()
	seen, _ := c.watch.glance(ctx, glanceFresh)
	fresh := seen.err == nil && !seen.at.IsZero() && time.Since(seen.at) <= glanceFresh+glanceTimeout
	s.flag(c.m.glance, fresh)
	if !fresh {
		return
	}
	for _, sh := range seen.Shards {
		id := strconv.Itoa(sh.Shard)
		s.flag(c.m.leader, sh.Leader != "", id)
		s.count(c.m.term, int64(sh.Term), id)
		s.count(c.m.plans, sh.Plans, id)
		s.count(c.m.overdue, sh.Overdue, id)
		oldest := 0.0
		if sh.Overdue > 0 && sh.OldestDue != 0 {
			oldest = max(time.Since(time.Unix(sh.OldestDue, 0)).Seconds(), 0)
		}
		s.float(c.m.oldest, oldest, id)
		s.count(c.m.backlog, sh.Backlog(), id)
		s.count(c.m.waiting, sh.Retries, id)
		s.count(c.m.dead, sh.Dead, id)
		s.count(c.m.quarantined, sh.Quarantined, id)
		for action, n := range c.byAction(sh.Queued) {
			s.count(c.m.queued, n, id, action)
		}
		for action, n := range c.byAction(sh.Running) {
			s.count(c.m.held, n, id, action)
		}
	}
}

// byAction has every action that plans may use, so that a series does not come and
// go, and the others, whose names a store may be full of, as one.
func (c *Collector) byAction(counts map[string]int64) map[string]int64 {
	all := map[string]int64{scheduler.CanaryAction: 0}
	for _, action := range c.watch.service.Actions() {
		all[action] = 0
	}
	for action, n := range counts {
		if _, known := all[action]; !known {
			action = "other"
		}
		all[action] += n
	}
	return all
}
