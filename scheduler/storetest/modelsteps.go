package storetest

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/snower/forsun/scheduler"
)

// stepClaim reads what is due and claims it, some of it wrongly.
func (m *model) stepClaim(t *rapid.T) {
	shard := rapid.SampledFrom(m.store.ShardIDs()).Draw(t, "shard")
	action := rapid.SampledFrom(modelActions()).Draw(t, "action")
	page, err := m.store.Due(m.ctx, scheduler.DueQuery{
		Shard: shard, Action: action, To: m.now(), Limit: rapid.IntRange(1, 4).Draw(t, "limit"),
	})
	if err != nil {
		m.Fatalf("Due: %v", err)
	}
	m.compareDue(shard, action, page.Plans)
	ours := func(f *modelFiring) bool { return f.Shard == shard && f.action == action }
	b := m.batch(shard, action)
	b.Backlog.Entries = rapid.SampledFrom([]int{0, 0, 0, 1, 2, 4}).Draw(t, "backlog")
	var faults []scheduler.Claimed
	for i, p := range page.Plans {
		c := claimOf(p, p.Due+rapid.Int64Range(1, 5).Draw(t, "step"))
		fault := scheduler.ClaimedOK
		switch rapid.SampledFrom([]string{"good", "good", "good", "last", "missed", "bad", "revision", "due", "gone", "action", "cutoff"}).Draw(t, "claim") {
		case "last":
			c.Next = 0
		case "missed":
			c.FireDue, c.Missed, c.Next = p.Due+5, 6, p.Due+6
		case "bad":
			c.Next, fault = p.Due, scheduler.ClaimBad
		case "revision":
			c.Revision, fault = c.Revision^1<<63, scheduler.ClaimChanged
		case "due":
			c.Due, fault = c.Due-1, scheduler.ClaimChanged
		case "gone":
			c.Key, fault = fmt.Sprintf("gone %d", i), scheduler.ClaimGone
		case "action":
			for _, key := range slices.Sorted(maps.Keys(m.plans)) {
				if q := m.plans[key]; q.Action != action && m.shard(q.Plan) == shard {
					c, fault = claimOf(q.Plan, 0), scheduler.ClaimGone
				}
			}
		case "cutoff":
			if i == 0 && len(page.Plans) == 1 { // the cutoff is the batch's
				b.Cutoff, fault = p.Due-1, scheduler.ClaimNotYet
			}
		}
		b.Claims, faults = append(b.Claims, c), append(faults, fault)
	}
	if rapid.Bool().Draw(t, "hands out") {
		b.Worker, b.Slots = rapid.SampledFrom(modelWorkers()).Draw(t, "worker"), rapid.IntRange(1, 4).Draw(t, "slots")
	}
	reply, err := m.store.Claim(m.ctx, b)
	if err != nil || len(reply.Answers) != len(b.Claims) || len(reply.Firings) > b.Slots {
		m.Fatalf("Claim of %d for %d slots: %d answers, %d firings, %v", len(b.Claims), b.Slots, len(reply.Answers), len(reply.Firings), err)
	}
	for i, a := range reply.Answers {
		c, fault := b.Claims[i], faults[i]
		unfinished := len(m.where(queued, ours)) + len(m.where(running, ours)) + len(m.where(waiting, ours))
		full := b.Backlog.Entries > 0 && unfinished >= b.Backlog.Entries
		switch {
		case fault != scheduler.ClaimedOK:
			if a.Result != fault && !(full && a.Result == scheduler.ClaimFull) {
				m.Fatalf("claim %+v: answer %d, want %d", c, a.Result, fault)
			}
		case full:
			m.wantAnswer("over the backlog", a, scheduler.ClaimFull)
		default:
			m.wantAnswer(fmt.Sprintf("%+v", c), a, scheduler.ClaimedOK)
			m.claimed(shard, c)
		}
	}
	for _, g := range reply.Firings {
		i := slices.IndexFunc(m.firings, func(f *modelFiring) bool { return f.state == queued && f.ID() == g.ID() && f.Shard == shard })
		if i < 0 {
			m.Fatalf("a claim handed out %s, which it did not claim", describe([]*scheduler.Firing{g}))
		}
		f := m.firings[i]
		m.compareFiring(f, g)
		if m.known[g.Receipt] {
			m.Fatalf("the receipt %q was handed out before", g.Receipt)
		}
		m.known[g.Receipt] = true
		f.Firing, f.state, f.worker = g, running, b.Worker
	}
}

// claimed is what a good claim does.
func (m *model) claimed(shard int, c scheduler.Claim) {
	p := m.plans[c.Key]
	p.LastDue, p.Due, p.Fired = c.FireDue, c.Next, p.Fired+1
	f := &modelFiring{action: p.Action, Firing: &scheduler.Firing{
		Plan: p.Clone(), Due: c.FireDue, Missed: c.Missed, Attempt: 1, Delivery: 1, Shard: shard,
	}}
	m.firings = append(m.firings, f)
	m.enqueue(f, true)
	if c.Next == 0 {
		delete(m.plans, c.Key)
	}
}

// stepTake takes for some of the actions.
func (m *model) stepTake(t *rapid.T) {
	shard := rapid.SampledFrom(m.store.ShardIDs()).Draw(t, "shard")
	worker := rapid.SampledFrom(modelWorkers()).Draw(t, "worker")
	slots := map[string]int{}
	for _, action := range modelActions() {
		slots[action] = rapid.IntRange(0, 4).Draw(t, "slots")
	}
	fs := m.takeAll(scheduler.TakeRequest{Shard: shard, Worker: worker, Slots: slots})
	for _, action := range modelActions() {
		queue := m.where(queued, func(f *modelFiring) bool { return f.Shard == shard && f.action == action })
		ordered := slices.DeleteFunc(slices.Clone(queue), func(f *modelFiring) bool { return f.order < 0 })
		slices.SortFunc(ordered, byOrder)
		var n int
		for _, g := range fs {
			if g.Plan.Action != action {
				continue
			}
			n++
			i := slices.IndexFunc(queue, func(f *modelFiring) bool { return f.ID() == g.ID() })
			if i < 0 || queue[i].state != queued {
				m.Fatalf("Take gave %s, which is not queued", describe([]*scheduler.Firing{g}))
			}
			f := queue[i]
			if f.order >= 0 {
				if ordered[0] != f {
					m.Fatalf("Take gave %s before the older firing of %q at %d", describe([]*scheduler.Firing{g}), ordered[0].Plan.Key, ordered[0].Due)
				}
				ordered = ordered[1:]
			}
			if f.lost {
				f.Delivery, f.lost = g.Delivery, false
			}
			m.compareFiring(f, g)
			if m.known[g.Receipt] {
				m.Fatalf("the receipt %q was handed out before", g.Receipt)
			}
			m.known[g.Receipt] = true
			f.Firing, f.state, f.worker = g, running, worker
		}
		if want := min(slots[action], len(queue)); n != want {
			m.Fatalf("Take with %d slots of %s gave %d of %d", slots[action], action, n, len(queue))
		}
	}
}

// stepFinish ends some of what a worker holds in a shard.
func (m *model) stepFinish(t *rapid.T) {
	held := m.where(running, nil)
	if len(held) == 0 {
		t.Skip("nothing runs")
	}
	one := rapid.SampledFrom(held).Draw(t, "firing")
	shard, worker := one.Shard, one.worker
	held = m.where(running, func(f *modelFiring) bool { return f.Shard == shard && f.worker == worker })
	held = held[:rapid.IntRange(1, min(3, len(held))).Draw(t, "deliveries")]
	if rapid.IntRange(0, 9).Draw(t, "thief") == 0 {
		e := m.ending(one.Firing, scheduler.Done, time.Time{})
		m.wantFinished("another worker's finish", m.send(shard, "thief", e), scheduler.FinishedNotHeld)
		return
	}
	var batch []scheduler.Finish
	for _, f := range held {
		v := rapid.SampledFrom([]scheduler.Verdict{scheduler.Done, scheduler.Retry, scheduler.Retry, scheduler.Bury, scheduler.Defer, scheduler.Return}).Draw(t, "verdict")
		m.retryAt++
		at := time.UnixMilli(m.retryAt)
		if rapid.IntRange(0, 4).Draw(t, "future") == 0 {
			at = at.Add(100_000 * time.Second)
		}
		batch = append(batch, m.ending(f.Firing, v, at))
	}
	answers, err := m.store.Finish(m.ctx, shard, worker, batch)
	if err != nil || len(answers) != len(batch) {
		m.Fatalf("Finish of %d: %d answers, %v", len(batch), len(answers), err)
	}
	for i, a := range answers {
		m.sent = append(m.sent, modelFinish{shard, worker, batch[i]})
		m.finished(held[i], batch[i], a)
	}
}

// finished is what the end of a delivery does.
func (m *model) finished(f *modelFiring, e scheduler.Finish, a scheduler.Finished) {
	m.Helper()
	want := scheduler.FinishedOK
	if e.Verdict == scheduler.Retry && f.fate == changed {
		want = scheduler.FinishedCancelled
	}
	m.wantFinished(fmt.Sprintf("verdict %d on %q at %d", e.Verdict, f.Plan.Key, f.Due), a, want)
	outcome := scheduler.Outcome("")
	if e.Attempt != nil {
		outcome = e.Attempt.Outcome
	}
	if want == scheduler.FinishedCancelled {
		outcome = scheduler.Cancelled
	}
	if outcome != "" {
		m.record[fmt.Sprint(f.Plan.Key, " ", outcome)]++
	}
	p := m.plans[f.Plan.Key]
	if p != nil && p.Revision != f.Plan.Revision {
		p = nil
	}
	g := *f.Firing // what was sent keeps its numbers
	f.Firing = &g
	switch {
	case e.Verdict == scheduler.Done || want == scheduler.FinishedCancelled:
		m.drop(f)
	case e.Verdict == scheduler.Bury:
		f.state = dead
	case e.Verdict == scheduler.Return:
		m.enqueue(f, false)
	case e.Verdict == scheduler.Defer:
		f.state, f.at, f.deferred = waiting, e.At, true
	default:
		f.state, f.at, f.deferred = waiting, e.At, false
		f.Attempt, f.Delivery = f.Attempt+1, 1
	}
	if p == nil {
		return
	}
	switch outcome {
	case scheduler.Succeeded:
		p.Status, p.lost = scheduler.StatusSucceeded, false
	case scheduler.Dead:
		p.Status, p.lost = scheduler.StatusFailed, false
	}
}

// stepFinishAgain sends a finish again that was answered.
func (m *model) stepFinishAgain(t *rapid.T) {
	if len(m.sent) == 0 {
		t.Skip("nothing was sent")
	}
	s := rapid.SampledFrom(m.sent).Draw(t, "finish")
	m.wantFinished("a finish sent again", m.send(s.shard, s.worker, s.finish), scheduler.FinishedNotHeld)
}

// stepPromote queues retries again.
func (m *model) stepPromote(t *rapid.T) {
	shard := rapid.SampledFrom(m.store.ShardIDs()).Draw(t, "shard")
	limit := rapid.IntRange(1, 4).Draw(t, "limit")
	now := m.clock()
	line := m.where(waiting, func(f *modelFiring) bool { return f.Shard == shard })
	slices.SortFunc(line, func(a, b *modelFiring) int { return a.at.Compare(b.at) })
	var want int
	for want < min(limit, len(line)) && !line[want].at.After(now) {
		want++
	}
	n, next := m.promote(shard, limit)
	if n != want {
		m.Fatalf("Promote with limit %d queued %d, want %d", limit, n, want)
	}
	for _, f := range line[:n] {
		m.enqueue(f, true)
	}
	if line = line[n:]; len(line) == 0 != next.IsZero() {
		m.Fatalf("Promote says the next is due at %v, %d are left", next, len(line))
	}
	if len(line) > 0 && next.Sub(line[0].at).Abs() > time.Millisecond {
		m.Fatalf("Promote says the next is due at %v, want %v", next, line[0].at)
	}
}

// stepRescue takes over what a worker holds, or tries to while it beats.
func (m *model) stepRescue(t *rapid.T) {
	held := m.where(running, nil)
	if len(held) == 0 {
		t.Skip("nothing runs")
	}
	one := rapid.SampledFrom(held).Draw(t, "firing")
	shard, worker := one.Shard, one.worker
	held = m.compareHeld(shard, worker)
	h, ok := m.holder(shard, worker)
	if !ok {
		m.Fatalf("Holders does not show %s, which holds %d", worker, len(held))
	}
	beats := rapid.IntRange(0, 3).Draw(t, "beats") == 0
	if beats {
		m.beat(worker)
	}
	maxDeliveries, limit := rapid.IntRange(1, 3).Draw(t, "deliveries"), rapid.IntRange(1, 5).Draw(t, "limit")
	n, err := m.store.Rescue(m.ctx, m.lease(shard), h, maxDeliveries, limit)
	if err != nil {
		m.Fatalf("Rescue: %v", err)
	}
	want := min(limit, len(held))
	if beats {
		want = 0
	}
	if n != want {
		m.Fatalf("Rescue with limit %d of %d, beats %v, moved %d, want %d", limit, len(held), beats, n, want)
	}
	still := map[string]bool{}
	for _, receipt := range m.held(shard, worker) {
		still[receipt] = true
	}
	for _, f := range held {
		switch {
		case still[f.Receipt]:
		case f.Delivery >= maxDeliveries:
			f.state, f.lost = dead, true
			if p := m.plans[f.Plan.Key]; p != nil && p.Revision == f.Plan.Revision {
				p.lost = true
			}
		default:
			g := *f.Firing
			g.Attempt, g.Delivery = g.Attempt+1, g.Delivery+1
			f.Firing = &g
			m.enqueue(f, false)
		}
	}
	m.compareHeld(shard, worker)
}

// stepRedrive queues dead letters again, or purges them.
func (m *model) stepRedrive(t *rapid.T) {
	letters := m.where(dead, nil)
	if len(letters) == 0 {
		t.Skip("no dead letter")
	}
	one := rapid.SampledFrom(letters).Draw(t, "letter")
	key, all := one.Plan.Key, rapid.Bool().Draw(t, "all of its key")
	selected := m.where(dead, func(f *modelFiring) bool { return f == one || all && f.Plan.Key == key })
	var ids []string
	for _, d := range m.dead(key) {
		if slices.ContainsFunc(selected, func(f *modelFiring) bool { return f.ID() == d.Firing.ID() }) {
			ids = append(ids, d.ID)
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "purge") == 0 {
		if n := m.purge(ids...); n != len(selected) {
			m.Fatalf("Purge(%q) = %d, want %d", ids, n, len(selected))
		}
		for _, f := range selected {
			m.drop(f)
		}
		return
	}
	if n := m.redrive(ids...); n != len(selected) {
		m.Fatalf("Redrive(%q) = %d, want %d", ids, n, len(selected))
	}
	for _, f := range selected {
		g := *f.Firing
		g.Attempt, g.Delivery = 1, 1
		f.Firing, f.fate = &g, free
		m.enqueue(f, false)
	}
}
