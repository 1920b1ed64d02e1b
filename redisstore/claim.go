package redisstore

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/snower/forsun/scheduler"
)

// place is an entry of a schedule.
type place struct {
	key    string
	second int64
}

// duePlaces reads the answer of due.lua.
func duePlaces(r reply) ([]place, error) {
	places := make([]place, 0, len(r.values)/2)
	for i := 0; i+1 < len(r.values); i += 2 {
		key, err := r.values[i].ToString()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errReply, err)
		}
		second, err := number(r.values[i+1])
		if err != nil {
			return nil, err
		}
		places = append(places, place{key, second})
	}
	return places, nil
}

// dueArgs are the arguments of due.lua. A sorted set has floating-point scores: seconds
// beyond what they hold exactly are never stored, see codec.go.
func dueArgs(from, to int64, limit int, after string) ([]string, error) {
	args := []string{score(from), score(to), strconv.Itoa(limit)}
	if after != "" {
		second, key, ok := strings.Cut(after, ":")
		if _, err := strconv.ParseInt(second, 10, 64); !ok || err != nil {
			return nil, fmt.Errorf("%w: %s", errCursor, scheduler.Shorten(after, 64))
		}
		args = append(args, second, key)
	}
	return args, nil
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
	limit := min(q.Limit, batchPlans)
	args, err := dueArgs(q.From, q.To, limit, q.After)
	if err != nil {
		return page, err
	}
	r, err := s.run(ctx, invocation{s.scripts.due, []string{k.schedule(q.Action)}, args})
	if err != nil {
		return page, storeError("read due plans", err)
	}
	places, err := duePlaces(r)
	if err != nil {
		return page, storeError("read due plans", err)
	}
	if len(places) == 0 {
		return page, nil
	}
	chunk := make([]listed, len(places))
	for i, p := range places {
		chunk[i] = listed{k, p.key}
	}
	stored, err := s.readChunk(ctx, chunk)
	if err != nil {
		return page, storeError("read due plans", err)
	}
	if last := places[len(stored)-1]; len(stored) < len(places) || len(places) == limit {
		page.Next = strconv.FormatInt(last.second, 10) + ":" + last.key
	}
	page.Plans = make([]*scheduler.Plan, 0, len(stored))
	k.sizes.add(chunk, stored)
	for i, v := range stored {
		p, m := checkDue(q, places[i], v)
		if m == nil {
			page.Plans = append(page.Plans, p)
			continue
		}
		cleared, err := s.mend(ctx, k, *m)
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

// checkDue decodes a plan and compares it with its entry.
func checkDue(q scheduler.DueQuery, at place, stored string) (*scheduler.Plan, *mending) {
	m := &mending{action: q.Action, key: at.key, read: stored, actually: q.Action}
	if stored == "" {
		return nil, m
	}
	p, err := decodePlan(at.key, stored)
	switch {
	case err != nil:
		m.bad = err.Error()
	case p.Action != q.Action || p.Due != at.second:
		m.due, m.actually = p.Due, p.Action
	default:
		return p, nil
	}
	return nil, m
}

// mend runs mend.lua.
func (s *Store) mend(ctx context.Context, k *shardKeys, m mending) (cleared int, err error) {
	r, err := s.run(ctx, invocation{
		s.scripts.mend,
		[]string{k.plan(m.key), k.schedule(m.action), k.index, k.quarantine, k.schedule(m.actually)},
		[]string{m.key, m.read, m.bad, strconv.FormatInt(m.due, 10)},
	})
	if err != nil {
		return 0, err
	}
	n, err := firstNumber(r)
	if n == 1 && m.bad != "" {
		s.log.Error().Int("shard", k.id).Str("key", m.key).Str("reason", m.bad).Msg("a plan cannot be decoded; it was put into quarantine")
	}
	return int(n), err
}

// Claim takes a batch: see scheduler.ClaimStore. One run of the script takes at
// most 100 plans and about 512 KiB; one at a time runs per replica and node.
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
	for left := b.Claims; len(left) > 0; {
		answers, err := s.claimSome(ctx, k, &b, left[:distinct(left)])
		reply.Answers = append(reply.Answers, answers...)
		if err != nil {
			return reply, err
		}
		left = left[len(answers):]
	}
	return reply, nil
}

// distinct returns how many of the first claims are of different plans: the script
// reads all before it writes any.
func distinct(claims []scheduler.Claim) int {
	n := min(len(claims), batchPlans)
	seen := make(map[string]struct{}, n)
	for i, c := range claims[:n] {
		if _, ok := seen[c.Key]; ok {
			return i
		}
		seen[c.Key] = struct{}{}
	}
	return n
}

// claimSome runs claim.lua and returns the answers it gave: of the first claims, at
// least of one.
func (s *Store) claimSome(ctx context.Context, k *shardKeys, b *scheduler.ClaimBatch, claims []scheduler.Claim) ([]scheduler.ClaimAnswer, error) {
	keys := make([]string, 0, 7+2*len(claims))
	keys = append(keys, k.leader, k.schedule(b.Action), k.index, k.firings(b.Action), k.backlog, k.changes, k.quarantine)
	args := make([]string, 0, 9+8*len(claims))
	args = append(args, b.Lease.Value, strconv.FormatInt(clamp(b.Cutoff), 10), strconv.FormatInt(b.Skew.Milliseconds(), 10),
		strconv.Itoa(b.Backlog.Entries), strconv.FormatInt(b.Backlog.Bytes, 10), nameOf(b.Action), strconv.Itoa(batchBytes), s.channel, k.work(b.Action))
	for i := range claims {
		c := &claims[i]
		id := string(scheduler.NewFiringID(c.Key, c.Revision, c.FireDue))
		keys = append(keys, k.plan(c.Key), k.firing(id))
		args = append(args, c.Key, id, c.Revision.String(), strconv.FormatInt(c.Due, 10),
			strconv.FormatInt(clamp(c.FireDue), 10), strconv.Itoa(c.Missed), strconv.FormatInt(clamp(c.Next), 10), strconv.Itoa(k.sizes.take(c.Key)))
	}
	r, err := s.run(ctx, invocation{s.scripts.claim, keys, args})
	if err != nil {
		return nil, storeError("claim", err)
	}
	if r.status == statusFenced {
		return nil, scheduler.ErrFenced
	}
	return claimAnswers(r, len(claims))
}

// clamp keeps a second within what is stored and what a script's numbers hold.
func clamp(second int64) int64 { return min(max(second, minDue), maxDue) }

// claimAnswers reads the answer of claim.lua.
func claimAnswers(r reply, n int) ([]scheduler.ClaimAnswer, error) {
	if len(r.values) < 1 {
		return nil, errReply
	}
	letters, err := r.values[0].ToString()
	if err != nil || len(letters) != n {
		return nil, fmt.Errorf("%w: %d answers to %d claims: %w", errReply, len(letters), n, err)
	}
	answers := make([]scheduler.ClaimAnswer, 0, n)
	waits := r.values[1:]
	for i := range n {
		var a scheduler.ClaimAnswer
		switch letters[i] {
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
				return nil, errReply
			}
			ms, err := number(waits[0])
			if err != nil {
				return nil, err
			}
			a.Wait, waits = time.Duration(ms)*time.Millisecond, waits[1:]
		case 'L':
			return answers, nil
		default:
			return nil, fmt.Errorf("%w: answer %q", errReply, letters[i])
		}
		answers = append(answers, a)
	}
	return answers, nil
}

// Promote queues retries again: see scheduler.ClaimStore.
func (s *Store) Promote(ctx context.Context, q scheduler.PromoteRequest) (n int, next time.Time, err error) {
	leave, err := s.enter()
	if err != nil {
		return 0, next, err
	}
	defer leave()
	k, err := s.shard(q.Lease.Shard)
	if err != nil {
		return 0, next, err
	}
	for n < q.Limit {
		// One more than is wanted: it tells when the next is due.
		found, err := s.client.Do(ctx, s.client.B().Zrange().Key(k.retries).Min("-inf").Max("+inf").Byscore().
			Limit(0, int64(min(q.Limit-n, batchPlans)+1)).Withscores().Build()).AsZScores()
		if err != nil {
			return n, next, storeError("promote retries", err)
		}
		s.forgetChanges(ctx, k)
		if len(found) == 0 {
			return n, time.Time{}, nil
		}
		var members []string
		for _, z := range found[:min(len(found), q.Limit-n, batchPlans)] {
			if int64(math.Ceil(z.Score)) <= q.Now.UnixMilli() {
				members = append(members, z.Member)
			}
		}
		if len(members) == 0 {
			return n, time.UnixMilli(int64(found[0].Score)), nil
		}
		got, at, err := s.promoteSome(ctx, k, q, members)
		if n += got; err != nil {
			return n, at, err
		}
		if next = at; got < len(members) {
			break // not yet by Redis' clock, or somebody else's
		}
	}
	return n, next, nil
}

// promoteSome runs promote.lua.
func (s *Store) promoteSome(ctx context.Context, k *shardKeys, q scheduler.PromoteRequest, members []string) (n int, next time.Time, err error) {
	keys := []string{k.leader, k.retries, k.deferred}
	args := []string{q.Lease.Value, strconv.FormatInt(q.Now.UnixMilli(), 10), strconv.FormatInt(q.Skew.Milliseconds(), 10), s.channel, k.work("")}
	for _, member := range members {
		w, ok := parseWaiting(member)
		if !ok { // no script of ours made it: it is dropped for want of a firing
			w.deferred = true
		}
		where := k.deferred
		if !w.deferred {
			where = k.retry(w.key)
		}
		keys, args = append(keys, k.firings(w.action), where), append(args, member)
	}
	r, err := s.run(ctx, invocation{s.scripts.promote, keys, args})
	if err != nil {
		return 0, next, storeError("promote retries", err)
	}
	if r.status == statusFenced {
		return 0, next, scheduler.ErrFenced
	}
	if len(r.values) != 2 {
		return 0, next, errReply
	}
	count, err := number(r.values[0])
	if err != nil {
		return 0, next, err
	}
	if at, err := number(r.values[1]); err == nil {
		next = time.UnixMilli(at)
	}
	return int(count), next, nil
}

// planSizes remembers how large plans are between their reading and their claim, so
// that Redis need not be asked again. What is forgotten is asked for.
type planSizes struct {
	mu    sync.Mutex
	bytes map[string]int
}

// maxSizes bounds what is remembered of a shard: more than is ever read ahead.
const maxSizes = 50_000

func (p *planSizes) add(plans []listed, stored []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bytes == nil || len(p.bytes) > maxSizes {
		p.bytes = make(map[string]int)
	}
	for i, v := range stored {
		p.bytes[plans[i].key] = len(v)
	}
}

// take returns the size of a plan and forgets it; 0 if it is not known.
func (p *planSizes) take(key string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.bytes[key]
	delete(p.bytes, key)
	return n
}
