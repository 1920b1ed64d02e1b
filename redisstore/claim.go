package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

// place is an entry of a schedule. A sorted set has floating-point scores: seconds
// beyond what they hold exactly are never stored, see codec.go.
type place struct {
	key    string
	second int64
}

func (p place) String() string { return strconv.FormatInt(p.second, 10) + ":" + p.key }

func parsePlaceOf(cursor string) (p place, err error) {
	second, key, ok := strings.Cut(cursor, ":")
	p.key = key
	if p.second, err = strconv.ParseInt(second, 10, 64); !ok || err != nil {
		return p, fmt.Errorf("%w: %s", errCursor, scheduler.Shorten(cursor, 64))
	}
	return p, nil
}

func score(second int64) string {
	switch {
	case second < minDue:
		return "-inf"
	case second > maxDue:
		return strconv.Itoa(maxDue)
	}
	return strconv.FormatInt(second, 10)
}

// duePlans bounds a page of due plans.
const duePlans = 4 * batchPlans

// duePage is a page of an action's schedule.
type duePage struct {
	keys  []string // oldest first; fewer than the limit if there are no more
	edits string   // as it was then, or before: what is read of plans after it is no older
}

// dueKeys reads a page of an action's schedule, behind after if it is not "". It is for who
// claims each page after it was read; dueKeysBehind is for others.
func (s *Store) dueKeys(ctx context.Context, k *shardKeys, action string, from, to int64, after string, limit int) (p duePage, err error) {
	schedule := k.schedule(action)
	read := func(min, max string, limit int) rueidis.Completed {
		return s.client.B().Zrange().Key(schedule).Min(min).Max(max).Byscore().Limit(0, int64(limit)).Build()
	}
	edits := s.client.B().Get().Key(k.edits).Build()
	if after == "" {
		results := s.client.DoMulti(ctx, edits, read(score(from), score(to), limit))
		if p.edits, err = results[0].ToString(); err != nil && !rueidis.IsRedisNil(err) {
			return p, err
		}
		p.keys, err = results[1].AsStrSlice()
		return p, err
	}
	at, err := parsePlaceOf(after)
	if err != nil || at.second > to {
		return p, err
	}
	// Mostly the page before is about to be claimed, or has just been: then this one is
	// among the first twice as many of that second, or behind what claims of the page before
	// that are still under way. due.lua needs no luck, but Lua makes a string of each key.
	second, most := score(at.second), 2*limit+claimsAtOnce*batchPlans
	results := s.client.DoMulti(ctx, edits, read(second, second, most))
	if p.edits, err = results[0].ToString(); err != nil && !rueidis.IsRedisNil(err) {
		return p, err
	}
	all, err := results[1].AsStrSlice()
	if err != nil {
		return p, err
	}
	behind, _ := slices.BinarySearch(all, at.key+"\x00") // in the order of a sorted set
	p.keys = all[behind:min(behind+limit, len(all))]
	switch {
	case len(p.keys) == limit:
		return p, nil
	case len(all) == most:
		return s.dueKeysBehind(ctx, k, action, to, at, limit)
	}
	// That is all of the second.
	others, err := s.client.Do(ctx, read("("+second, score(to), limit-len(p.keys))).AsStrSlice()
	p.keys = append(p.keys, others...)
	return p, err
}

// dueKeysBehind runs due.lua.
func (s *Store) dueKeysBehind(ctx context.Context, k *shardKeys, action string, to int64, after place, limit int) (p duePage, err error) {
	r, err := s.run(ctx, invocation{
		script: s.scripts.due, keys: []string{k.schedule(action), k.edits},
		args: []string{score(to), strconv.Itoa(limit), strconv.FormatInt(after.second, 10), after.key},
	})
	if err != nil {
		return p, err
	}
	all := make([]string, len(r.values))
	for i := range r.values {
		if all[i], err = r.values[i].ToString(); err != nil {
			return p, fmt.Errorf("%w: %w", errReply, err)
		}
	}
	if len(all) == 0 {
		return p, errReply
	}
	return duePage{keys: all[1:], edits: all[0]}, nil
}

// Due reads due plans of a shard: see scheduler.ClaimStore.
func (s *Store) Due(ctx context.Context, q scheduler.DueQuery) (page scheduler.DuePage, err error) {
	leave, err := s.enter()
	if err != nil {
		return page, err
	}
	defer leave()
	k, err := s.shard(q.Shard)
	if err != nil {
		return page, err
	}
	limit := min(q.Limit, duePlans)
	began := k.read.mark()
	due, err := s.dueKeys(ctx, k, q.Action, q.From, q.To, q.After, limit)
	if err != nil || len(due.keys) == 0 {
		return page, storeError("read due plans", err)
	}
	keys := due.keys
	chunk := make([]listed, len(keys))
	for i, key := range keys {
		chunk[i] = listed{k, key}
	}
	stored, err := s.readChunk(ctx, chunk)
	if err != nil {
		return page, storeError("read due plans", err)
	}
	page.Plans = make([]*scheduler.Plan, 0, len(stored))
	var wrong []mending
	last := place{keys[len(stored)-1], q.To}
	for i, v := range stored {
		p, m := checkDue(q, keys[i], v)
		if m != nil {
			wrong = append(wrong, *m)
			continue
		}
		page.Plans = append(page.Plans, p)
		own := *p
		k.read.add(&own, v, due.edits, began)
		last.second = p.Due // or nearly, if the last cannot be read
	}
	if len(stored) < len(keys) || len(keys) == limit {
		page.Next = last.String()
	}
	for _, m := range wrong {
		cleared, err := s.mend(ctx, k, m)
		if err != nil {
			return page, storeError("clear schedule", err)
		}
		page.Cleared += cleared
	}
	return page, nil
}

// mending is what is wrong with an entry of a schedule.
type mending struct {
	action, key string // the entry
	read        string // the plan as it was read
	bad         string // why it cannot be decoded
	due         int64  // what it says itself
	actually    string
}

// checkDue decodes a plan and says what is wrong with its being where it was found.
func checkDue(q scheduler.DueQuery, key, stored string) (*scheduler.Plan, *mending) {
	if stored == "" {
		return nil, &mending{action: q.Action, key: key, actually: q.Action}
	}
	p, err := decodePlan(key, stored)
	switch {
	case err != nil:
		return nil, &mending{action: q.Action, key: key, read: stored, bad: err.Error(), actually: q.Action}
	case p.Action != q.Action || p.Due < q.From || p.Due > q.To:
		return nil, &mending{action: q.Action, key: key, read: stored, due: p.Due, actually: p.Action}
	}
	return p, nil
}

// mend runs mend.lua.
func (s *Store) mend(ctx context.Context, k *shardKeys, m mending) (cleared int, err error) {
	r, err := s.run(ctx, invocation{script: s.scripts.mend, keys: []string{k.plan(m.key), k.schedule(m.action), k.index, k.quarantine, k.schedule(m.actually), k.edits, k.unpack}, args: []string{m.key, m.read, m.bad, strconv.FormatInt(m.due, 10), s.takeID()}})
	if err != nil {
		return 0, err
	}
	n, err := firstNumber(r)
	if err != nil || len(r.values) < 2 {
		return int(n), err
	}
	why, err := r.values[1].ToString()
	s.log.Error().Int("shard", k.id).Str("key", m.key).Str("reason", why).Msg("a plan cannot be decoded; it was put into quarantine")
	return int(n), err
}

// Claim takes a batch: see scheduler.ClaimStore. One run of the script takes at
// most 100 plans and about 512 KiB; claimsAtOnce claims are under way per replica and node.
func (s *Store) Claim(ctx context.Context, b scheduler.ClaimBatch) (reply scheduler.ClaimReply, err error) {
	leave, err := s.enter()
	if err != nil {
		return reply, err
	}
	defer leave()
	k, err := s.shard(b.Lease.Shard)
	if err != nil {
		return reply, err
	}
	unlock, err := s.claimGate(ctx, k.id)
	if err != nil {
		return reply, storeError("claim", err)
	}
	defer unlock()
	plans := k.read.take(b.Claims)
	same, full := true, k.wasFull(b.Action) // same: as far as is known, nothing but claims was done to the plans
	if err := s.sizes(ctx, k, b.Claims, plans); err != nil {
		return reply, storeError("claim", err)
	}
	reply.Answers = make([]scheduler.ClaimAnswer, len(b.Claims))
	for from := 0; from < len(b.Claims); {
		n := together(b.Claims[from:], plans[from:])
		some := &claiming{k: k, batch: &b, claims: b.Claims[from : from+n], plans: plans[from : from+n], answers: reply.Answers[from : from+n]}
		some.handOut = min(b.Slots-len(reply.Firings), n)
		bundle, fit := same && !full && !scheduler.Bug("two-steps"), bundleFits(plans[from:from+n])
		switch {
		case some.handOut > 0:
			n = some.handOut // what all can be handed out of is cheaper
			if bundle = bundle && fit > 0; bundle {
				n = min(n, fit)
			}
			some.handOut = n
		case bundle && min(n, fit) >= queuedLeast:
			n = min(n, fit, queuedMost)
		default:
			bundle = false
		}
		some.claims, some.plans, some.answers = some.claims[:n], some.plans[:n], some.answers[:n]
		if bundle {
			same, err = s.claimBundle(ctx, some)
			if err == nil && same {
				reply.Firings, from = append(reply.Firings, some.firings...), from+n
				continue
			}
		}
		if err == nil {
			err = s.claimSome(ctx, some)
		}
		if err != nil {
			reply.Answers = reply.Answers[:from]
			return reply, err
		}
		reply.Firings = append(reply.Firings, some.firings...)
		from += n
		if some.answers[n-1].Result == scheduler.ClaimFull {
			k.full.Store(b.Action, time.Now())
		}
	}
	return reply, nil
}

// fullFor is how long after an action's backlog was full no bundle is stored for it: the
// script would refuse it, and it would stay there for stagedFor.
const fullFor = time.Second

func (s *shardKeys) wasFull(action string) bool {
	at, ok := s.full.Load(action)
	return ok && time.Since(at.(time.Time)) < fullFor
}

// bundleFits is how many of the first plans one bundle may hold.
func bundleFits(plans []readPlan) (n int) {
	for bytes := 0; n < len(plans); n++ {
		if bytes += plans[n].size; bytes > bundleBytes {
			break
		}
	}
	return n
}

// claiming is claims that one run of the script takes.
type claiming struct {
	k       *shardKeys
	batch   *scheduler.ClaimBatch
	claims  []scheduler.Claim
	plans   []readPlan
	answers []scheduler.ClaimAnswer
	handOut int // how many firings the worker is handed

	firings []*scheduler.Firing // handed out
}

// Bundles that wait for a worker: fewer firings are queued one by one, and more do not
// find as many free slots at once.
const (
	queuedLeast = 8
	queuedMost  = 50
)

// together returns how many of the first claims one run of the script takes: of
// different plans, since it reads all before it writes any, and no more than what
// other clients of Redis can wait for.
func together(claims []scheduler.Claim, plans []readPlan) int {
	n := min(len(claims), batchPlans)
	different := true // as those are that are due at one second, in the order of their keys
	for i := 1; different && i < n; i++ {
		different = claims[i-1].Due == claims[i].Due && claims[i-1].Key < claims[i].Key
	}
	var seen map[string]struct{}
	if !different {
		seen = make(map[string]struct{}, n)
	}
	bytes := 0
	for i := range claims[:n] {
		if bytes >= batchBytes {
			return i
		}
		bytes += plans[i].size
		if different {
			continue
		}
		if _, ok := seen[claims[i].Key]; ok {
			return i
		}
		seen[claims[i].Key] = struct{}{}
	}
	return n
}

// claimSome runs claim.lua and fills in the answers.
func (s *Store) claimSome(ctx context.Context, c *claiming) error {
	k, b := c.k, c.batch
	worker := cmp.Or(b.Worker, "nobody") // whom no slot is given
	keys := make([]string, 0, 11+2*len(c.claims))
	keys = append(keys, k.leader, k.schedule(b.Action), k.index, k.firings(b.Action), k.backlog, k.changes, k.quarantine, k.workers, k.held(b.Action, worker), k.edits, k.unpack)
	args := make([]string, 13, 13+4*len(c.claims))
	sent := make([]int, 0, len(c.claims))
	latest, bytes := int64(minDue), 0
	for i := range c.claims {
		claim := &c.claims[i]
		if !possible(claim) {
			c.answers[i] = scheduler.ClaimAnswer{Result: scheduler.ClaimBad}
			continue
		}
		id := string(scheduler.NewFiringID(claim.Key, claim.Revision, claim.FireDue))
		fire := clamp(claim.FireDue)
		keys = append(keys, k.plan(claim.Key), k.firing(id))
		args = append(args, claim.Key, planHead(claim.Revision, claim.Due), string(appendEntryHead(nil, id, c.plans[i].size, fire, claim.Missed)), strconv.FormatInt(claim.Next, 10))
		sent = append(sent, i)
		latest, bytes = max(latest, fire), bytes+c.plans[i].size
		if p := c.plans[i].plan; p == nil || p.Revision != claim.Revision || p.Due != claim.Due || p.Action != b.Action {
			c.handOut = 0 // what it is to run is not known here
		}
	}
	if len(sent) == 0 {
		return nil
	}
	take := s.takeID()
	copy(args, []string{
		b.Lease.Value, strconv.FormatInt(clamp(b.Cutoff), 10), strconv.FormatInt(b.Skew.Milliseconds(), 10),
		strconv.Itoa(b.Backlog.Entries), strconv.FormatInt(b.Backlog.Bytes, 10), nameOf(b.Action),
		strconv.FormatInt(latest, 10), strconv.Itoa(bytes), s.channel, k.work(b.Action), worker, take, strconv.Itoa(c.handOut),
	})
	r, err := s.run(ctx, invocation{script: s.scripts.claim, keys: keys, args: args})
	scheduler.Failpoint("before-claim-reply")
	if err != nil {
		return storeError("claim", err)
	}
	if r.status == statusFenced {
		return scheduler.ErrFenced
	}
	if err := claimAnswers(r, sent, c.answers); err != nil {
		return err
	}
	if err := s.secondStep(ctx, c, take); err != nil {
		return storeError("claim", err)
	}
	if was, err := r.values[1].ToString(); err == nil {
		k.read.claimed(was, take, c.claims)
	}
	c.take(take, sent)
	return nil
}

// possible tells whether a claim can be meant at all.
func possible(c *scheduler.Claim) bool {
	return c.FireDue >= c.Due && (c.Next == 0 || c.Next > c.Due && c.Next > c.FireDue) && c.Next <= maxDue
}

// claimBundle runs handout.lua for claims whose firings all go to the worker that asks,
// or all wait for one, of plans that are what they were when they were read. Done is false
// if it cannot be done that way: then nothing was.
func (s *Store) claimBundle(ctx context.Context, c *claiming) (done bool, err error) {
	take := s.takeID() + "+" + strconv.Itoa(len(c.claims))
	call, ok := s.handout(c, take)
	if ok {
		call.args[handoutEdits], ok = c.k.read.assume(take, c.claims, c.plans)
	}
	if !ok {
		return false, nil
	}
	r, err := s.run(ctx, call)
	scheduler.Failpoint("before-claim-reply")
	switch {
	case err != nil: // whether it ran edits will tell
		return false, storeError("claim", err)
	case r.status == statusFenced:
		return false, scheduler.ErrFenced
	case r.status != 0:
		c.k.read.refused(take)
		return false, nil
	}
	all := make([]int, len(c.claims))
	for i := range all {
		all[i], c.answers[i] = i, scheduler.ClaimAnswer{Result: scheduler.ClaimedOK}
	}
	c.take(take, all)
	return true, nil
}

// handout is the run of handout.lua that claims c as a bundle, but for edits; ok is false
// if they cannot be claimed so.
func (s *Store) handout(c *claiming, take string) (call invocation, ok bool) {
	k, b := c.k, c.batch
	worker, bundles := "", k.bundleQueue(b.Action)
	if c.handOut > 0 {
		if worker, bundles = b.Worker, k.bundles(b.Action, b.Worker); worker == "" {
			return call, false
		}
	}
	keys := make([]string, 0, handoutKeys+len(c.claims))
	keys = append(keys, k.leader, k.schedule(b.Action), k.index, k.backlog, k.changes, k.edits, k.workers, bundles, k.unpack, k.bundle(take))
	args := make([]string, handoutArgs, handoutArgs+2*len(c.claims))
	var on, onKeys []string // of the plans that go on
	latest, bytes := int64(minDue), 0
	for i := range c.claims {
		bytes += c.plans[i].size
	}
	bundle := make([]byte, 0, bytes+160*len(c.claims))
	var head, tail []byte     // of one firing's line
	inRow := true             // the plans that end stand in the schedule in this order
	var last *scheduler.Claim // of those
	for i := range c.claims { // of different plans: see together
		claim, read := &c.claims[i], &c.plans[i]
		p := read.plan
		if p == nil || read.state == nil || !possible(claim) || p.Revision != claim.Revision || p.Due != claim.Due || p.Action != b.Action {
			return call, false
		}
		if !hasPlanHead(read.stored, claim.Revision, claim.Due) {
			return call, false
		}
		fire := clamp(claim.FireDue)
		latest = max(latest, fire)
		id := string(scheduler.NewFiringID(claim.Key, claim.Revision, claim.FireDue))
		head = append(appendEntryHead(head[:0], id, read.size, fire, claim.Missed), ' ')
		tail = strconv.AppendInt(append(tail[:0], ' '), claim.Next, 10)
		tail = strconv.AppendInt(append(tail, ' '), int64(p.Fired)+1, 10)
		tail = strconv.AppendInt(append(tail, ' '), int64(p.Status), 10)
		tail = append(append(tail, ' '), claim.Key...)
		bundle = appendBundled(bundle, head, tail, read.stored)
		if claim.Next == 0 {
			keys, args = append(keys, k.plan(claim.Key)), append(args, claim.Key)
			inRow = inRow && (last == nil || last.Due < claim.Due || last.Due == claim.Due && last.Key < claim.Key)
			last = claim
			continue
		}
		if len(read.stored) < headLongLen || !strings.HasPrefix(read.stored[headShortLen:], `"current_count":`) {
			return call, false // not as this program writes it: claim.lua makes room for what changes
		}
		next := fmt.Sprintf(headLong, planHead(claim.Revision, claim.Next), p.Fired+1, fire, 0)
		onKeys = append(onKeys, k.plan(claim.Key))
		on = append(on, claim.Key, strconv.FormatInt(claim.Next, 10), read.stored[:headStatusAt], next[:headStatusAt])
	}
	ends := len(args) - handoutArgs
	row := "0"
	if inRow && ends > 1 {
		row = "1"
	}
	copy(args, []string{
		b.Lease.Value, strconv.FormatInt(clamp(b.Cutoff), 10), strconv.FormatInt(b.Skew.Milliseconds(), 10),
		strconv.Itoa(b.Backlog.Entries), strconv.FormatInt(b.Backlog.Bytes, 10), nameOf(b.Action),
		strconv.FormatInt(latest, 10), strconv.Itoa(bytes), worker, take, "", s.channel, k.work(b.Action), strconv.Itoa(ends), row,
	})
	return invocation{script: s.scripts.handout, keys: append(keys, onKeys...), args: append(args, on...), before: &staged{k.bundle(take), rueidis.BinaryString(bundle)}}, true
}

// How many keys and arguments of handout.lua come before those of each plan, and which of
// these say what edits is to be.
const (
	handoutKeys  = 10
	handoutArgs  = 15
	handoutEdits = 10
)

// take makes the firings that were handed out: the first that were claimed. Nothing
// of them need be read again: the claim compared the plan with what it was when it
// was read.
func (c *claiming) take(take string, sent []int) {
	for _, i := range sent {
		if len(c.firings) >= c.handOut {
			return
		}
		if c.answers[i].Result != scheduler.ClaimedOK {
			continue
		}
		p, claim := c.plans[i].plan, &c.claims[i]
		p.Due, p.LastDue = claim.Next, claim.FireDue
		p.Fired++
		n := strconv.Itoa(len(c.firings) + 1)
		c.firings = append(c.firings, &scheduler.Firing{
			Plan: p, Due: claim.FireDue, Missed: claim.Missed, Attempt: 1, Delivery: 1, Shard: c.k.id,
			Receipt: nameOf(c.batch.Action) + "/" + take + "-" + n + "/" + strconv.Itoa(c.plans[i].size),
		})
	}
}

// appendEntryHead appends the beginning of an entry: see firing.go.
func appendEntryHead(b []byte, id string, size int, due int64, missed int) []byte {
	b = append(b, id...)
	b = strconv.AppendInt(append(b, ' '), int64(size), 10)
	b = strconv.AppendInt(append(b, ' '), due, 10)
	b = strconv.AppendInt(append(b, ' '), int64(missed), 10)
	return append(b, " 1 1"...)
}

// clamp keeps a second within what is stored and what a script's numbers hold.
func clamp(second int64) int64 { return min(max(second, minDue), maxDue) }

// claimAnswers reads the answer of claim.lua to the claims that were sent.
func claimAnswers(r reply, sent []int, answers []scheduler.ClaimAnswer) error {
	if len(r.values) < 2 {
		return errReply
	}
	letters, err := r.values[0].ToString()
	if err != nil || len(letters) != len(sent) {
		return fmt.Errorf("%w: %d answers to %d claims: %w", errReply, len(letters), len(sent), err)
	}
	waits := r.values[2:]
	for j, i := range sent {
		a := &answers[i]
		switch letters[j] {
		case 'C':
			a.Result = scheduler.ClaimedOK
		case 'H':
			a.Result = scheduler.ClaimChanged
		case 'G':
			a.Result = scheduler.ClaimGone
		case 'B':
			a.Result = scheduler.ClaimBad
		case 'F':
			a.Result = scheduler.ClaimFull
		case 'N':
			a.Result = scheduler.ClaimNotYet
			if len(waits) == 0 {
				return errReply
			}
			ms, err := number(waits[0])
			if err != nil {
				return err
			}
			a.Wait, waits = time.Duration(ms)*time.Millisecond, waits[1:]
		default:
			return fmt.Errorf("%w: answer %q", errReply, letters[j])
		}
	}
	return nil
}
