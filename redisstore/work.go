package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

// takeFirings bounds one run of take.lua, and what is read of plans at once.
const takeFirings = 200

// takeID names a take of this process: it sorts by time, and is never given again,
// not even after Redis lost its newest writes.
func (s *Store) takeID() string {
	n := strconv.FormatUint(s.takes.Add(1), 36)
	return fmt.Sprintf("%s-%012s", s.instance, n)
}

// Take hands queued firings to a worker: see scheduler.WorkStore.
func (s *Store) Take(ctx context.Context, q scheduler.TakeRequest) (fs []*scheduler.Firing, more bool, err error) {
	leave, err := s.enter()
	if err != nil {
		return nil, false, err
	}
	defer leave()
	k, err := s.shard(q.Shard)
	if err != nil {
		return nil, false, err
	}
	actions := make([]string, 0, len(q.Slots))
	for action, n := range q.Slots {
		if n > 0 {
			actions = append(actions, action)
		}
	}
	if len(actions) == 0 {
		return nil, false, nil
	}
	t, err := s.take(ctx, k, q, actions)
	more = t.bounded || len(t.large) > 0
	if err == nil && len(t.large) > 0 {
		err = s.spread(ctx, k, t.large)
		if t.empty() && err == nil {
			t, err = s.take(ctx, k, q, actions)
		} else if !t.empty() && err != nil {
			s.log.Warn().Err(err).Int("shard", k.id).Msg("a bundle with more firings than there are slots could not be taken apart")
			err = nil
		}
	}
	if err != nil {
		return nil, false, storeError("take firings", err)
	}
	// If they cannot be read they are in the worker's hands all the same: its sweeper
	// hands them back.
	single, bad, err := s.readFirings(ctx, k, t.entries)
	if err != nil {
		return nil, false, storeError("take firings", err)
	}
	fs = single[:0]
	for i, f := range single {
		if f != nil {
			f.Shard, f.Receipt = k.id, t.receipts[i]+"/"+sizeOf(t.entries[i])
			fs = append(fs, f)
		} else {
			s.quarantineTaken(ctx, k, q.Worker, t.receipts[i], t.entries[i], bad[i])
		}
	}
	bundled, err := s.readBundles(ctx, k, q.Worker, t.bundles)
	if err != nil {
		return nil, false, storeError("take firings", err)
	}
	return append(fs, bundled...), more, nil
}

// taken is what one run of take.lua brought.
type taken struct {
	entries, receipts []string
	bundles           []takenBundle
	large             map[string]string // by action: its next bundle, if that has more firings than are wanted
	bounded           bool              // there may be more, for the slots that are left
}

func (t *taken) empty() bool { return len(t.entries)+len(t.bundles) == 0 }

type takenBundle struct{ action, take string }

// take runs take.lua.
func (s *Store) take(ctx context.Context, k *shardKeys, q scheduler.TakeRequest, actions []string) (t taken, err error) {
	id := s.takeID()
	keys := append(make([]string, 0, 1+4*len(actions)), k.workers)
	args := append(make([]string, 0, 3+len(actions)), q.Worker, id, strconv.Itoa(takeFirings))
	for _, action := range actions {
		keys = append(keys, k.firings(action), k.held(action, q.Worker), k.bundleQueue(action), k.bundles(action, q.Worker))
		args = append(args, strconv.Itoa(q.Slots[action]))
	}
	r, err := s.run(ctx, invocation{script: s.scripts.take, keys: keys, args: args})
	if err != nil {
		return t, err
	}
	if len(r.values) != 1+3*len(actions) {
		return t, errReply
	}
	bounded, err := number(r.values[0])
	if err != nil {
		return t, err
	}
	t.bounded = bounded == 1
	for i, action := range actions {
		stored, err1 := r.values[1+3*i].AsStrSlice()
		takes, err2 := r.values[2+3*i].AsStrSlice()
		large, err3 := r.values[3+3*i].AsStrSlice()
		if err := errors.Join(err1, err2, err3); err != nil {
			return t, fmt.Errorf("%w: %w", errReply, err)
		}
		for _, e := range stored {
			t.entries = append(t.entries, e)
			t.receipts = append(t.receipts, nameOf(action)+"/"+id+"-"+strconv.Itoa(len(t.entries)))
		}
		for _, take := range takes {
			t.bundles = append(t.bundles, takenBundle{action, take})
		}
		if len(large) > 0 {
			if t.large == nil {
				t.large = make(map[string]string)
			}
			t.large[action] = large[0]
		}
	}
	return t, nil
}

// quarantineTaken is quarantineFiring for one of many that were taken: if it fails, the
// worker's sweeper hands that one back.
func (s *Store) quarantineTaken(ctx context.Context, k *shardKeys, worker, receipt, stored string, why error) {
	if err := s.quarantineFiring(ctx, k, worker, receipt, stored, why); err != nil {
		s.log.Warn().Err(err).Int("shard", k.id).Str("receipt", receipt).Msg("a firing that cannot be decoded could not be put into quarantine")
	}
}

// quarantineFiring moves what cannot be decoded out of the worker's hands.
func (s *Store) quarantineFiring(ctx context.Context, k *shardKeys, worker, receipt, stored string, why error) error {
	action, field, ok := takenAction(receipt)
	if !ok {
		return errReply
	}
	s.log.Error().Err(why).Int("shard", k.id).Str("receipt", receipt).Msg("a firing cannot be decoded; it was put into quarantine")
	e, _ := parseEntry(stored)
	_, err := s.run(ctx, invocation{script: s.scripts.quarantine, keys: []string{k.held(action, worker), k.backlog, k.quarantine, k.firing(e.id)}, args: []string{field, nameOf(action), "firing " + receipt, why.Error()}})
	return err
}

// finishBatch bounds one run of finish.lua, beside batchBytes.
const finishBatch = 100

// finishFits is how many of the first finishes one run may end, at least one. It reads
// the plans of those that die.
func finishFits(fs []scheduler.Finish, where []int) int {
	size := 0
	for n, i := range where {
		if fs[i].Verdict == scheduler.Bury {
			size += max(receiptSize(fs[i].Firing.Receipt), 0)
		}
		if n == finishBatch || n > 0 && size > batchBytes {
			return n
		}
	}
	return len(where)
}

// Finish ends deliveries: see scheduler.WorkStore. Those of one action that fit a
// run of the script end together; what a lost connection leaves unknown is sent
// again by the caller, as it is, and answered NotHeld where it was done.
func (s *Store) Finish(ctx context.Context, shard int, worker string, fs []scheduler.Finish) ([]scheduler.Finished, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	k, err := s.shard(shard)
	if err != nil {
		return nil, err
	}
	answers := make([]scheduler.Finished, len(fs))
	byAction := make(map[string][]int)
	for i := range fs {
		action, _, ok := takenAction(fs[i].Firing.Receipt)
		if !ok {
			answers[i] = scheduler.FinishedNotHeld
			continue
		}
		byAction[action] = append(byAction[action], i)
	}
	var batches []finishing
	for action, where := range byAction {
		for len(where) > 0 {
			batch := where[:finishFits(fs, where)]
			batches = append(batches, finishing{action, batch, allDone(fs, batch)})
			where = where[len(batch):]
		}
	}
	for len(batches) > 0 {
		if err := s.unbundleFor(ctx, k, worker, fs, batches); err != nil {
			return nil, storeError("finish", err)
		}
		calls := make([]invocation, len(batches))
		for i, b := range batches {
			if b.done {
				calls[i] = s.doneInvocation(k, worker, b.action, fs, b.batch)
			} else {
				calls[i] = s.finishInvocation(k, worker, b.action, fs, b.batch)
			}
		}
		replies, errs := s.runMany(ctx, calls)
		again := batches[:0:0]
		for i, b := range batches {
			switch {
			case errs[i] != nil:
				return nil, storeError("finish", errs[i])
			case b.done && replies[i].status == statusNotAll:
				again = append(again, finishing{b.action, b.batch, false})
			case !b.done: // else all answers are what they are already
				if err := finishAnswers(replies[i], b.batch, answers); err != nil {
					return nil, err
				}
			}
		}
		batches = again
	}
	return answers, nil
}

// unbundleFor unbundles what finish.lua is to end.
func (s *Store) unbundleFor(ctx context.Context, k *shardKeys, worker string, fs []scheduler.Finish, batches []finishing) error {
	for _, b := range batches {
		if b.done {
			continue
		}
		var takes []string
		for _, i := range b.batch {
			_, field, _ := takenAction(fs[i].Firing.Receipt)
			if take, _, ok := bundleOf(field); ok && !slices.Contains(takes, take) {
				takes = append(takes, take)
			}
		}
		if err := s.unbundle(ctx, k, b.action, worker, takes); err != nil {
			return err
		}
	}
	return nil
}

// finishing is deliveries of one action that end in one run of a script.
type finishing struct {
	action string
	batch  []int
	done   bool // by done.lua
}

// allDone says whether done.lua will do.
func allDone(fs []scheduler.Finish, batch []int) bool {
	seen := make(map[string]struct{}, len(batch))
	for _, i := range batch {
		f := &fs[i]
		if _, twice := seen[f.Firing.Receipt]; twice || f.Verdict != scheduler.Done || f.Attempt == nil || receiptSize(f.Firing.Receipt) < 0 {
			return false
		}
		seen[f.Firing.Receipt] = struct{}{}
	}
	return true
}

func (s *Store) doneInvocation(k *shardKeys, worker, action string, fs []scheduler.Finish, batch []int) invocation {
	keys := make([]string, 0, 7+2*len(batch))
	id := s.takeID()
	keys = append(keys, k.held(action, worker), k.backlog, k.history, k.historySizes, k.bundles(action, worker), k.garbage, k.attempts(id))
	args := make([]string, 10, 10+2*len(batch))
	var plans, revisions, takes []string
	bundles := make(map[string][]byte)
	var records []byte
	size := 0
	for _, i := range batch {
		f := &fs[i]
		_, field, _ := takenAction(f.Firing.Receipt)
		if take, n, ok := bundleOf(field); ok {
			if bundles[take] == nil {
				takes = append(takes, take)
			}
			bundles[take] = append(bundles[take], doneByte(n))
		} else {
			keys, args = append(keys, k.firing(string(f.Attempt.Firing))), append(args, field)
		}
		size += receiptSize(f.Firing.Receipt)
		if p := f.Firing.Plan; p.Due != 0 {
			plans, revisions = append(plans, k.plan(p.Key)), append(revisions, p.Revision.String())
		}
		if s.opts.HistoryCount > 0 {
			if records == nil { // mostly they are alike
				records = make([]byte, 0, min(len(batch)*attemptRoom(f.Attempt), 64<<10))
			}
			if len(records) > 0 {
				records = append(records, '\n')
			}
			records = appendAttempt(records, f.Attempt, false)
		}
	}
	copy(args, []string{
		nameOf(action), strconv.Itoa(size), strconv.Itoa(s.opts.HistoryCount), strconv.FormatInt(s.opts.HistoryBytes, 10),
		strconv.FormatInt(s.historyAge().Milliseconds(), 10), strconv.Itoa(len(records)), strconv.Itoa(len(keys) - 7), strconv.Itoa(len(takes)), strconv.Itoa(len(batch) - len(keys) + 7), id,
	})
	for _, take := range takes {
		keys, args = append(keys, k.bundle(take)), append(args, take, string(bundles[take]))
	}
	run := invocation{script: s.scripts.done, keys: append(keys, plans...), args: append(args, revisions...)}
	if len(records) > 0 {
		run.before = &staged{k.attempts(id), rueidis.BinaryString(records)}
	}
	return run
}

func (s *Store) finishInvocation(k *shardKeys, worker, action string, fs []scheduler.Finish, batch []int) invocation {
	keys := make([]string, 0, 12+2*len(batch))
	keys = append(keys, k.held(action, worker), k.firings(action), k.retries, k.deferred, k.backlog, k.changed, k.changedOld, k.dead, k.history, k.historySizes, k.quarantine, k.garbage)
	args := make([]string, 0, 7+8*len(batch))
	args = append(args, nameOf(action), s.channel, k.work(action), strconv.Itoa(s.opts.DeadCount),
		strconv.Itoa(s.opts.HistoryCount), strconv.FormatInt(s.opts.HistoryBytes, 10), strconv.FormatInt(s.historyAge().Milliseconds(), 10))
	index := func(key string) string {
		if key == "" {
			return "0"
		}
		keys = append(keys, key)
		return strconv.Itoa(len(keys))
	}
	for _, i := range batch {
		f := &fs[i]
		_, field, _ := takenAction(f.Firing.Receipt)
		if f.Verdict == scheduler.Return { // it may have a receipt only
			args = append(args, "T", field, "", "0", "0", "", "", "")
			continue
		}
		var verdict, named, ask, record, id string
		p := f.Firing.Plan
		if f.Attempt != nil {
			id = string(f.Attempt.Firing)
			if s.opts.HistoryCount > 0 {
				record = encodeAttempt(f.Attempt, f.Verdict == scheduler.Retry)
			}
		} else {
			id = string(f.Firing.ID())
		}
		switch f.Verdict {
		case scheduler.Done:
			verdict = "D"
		case scheduler.Retry:
			verdict, named, ask = "R", k.retry(p.Key), strconv.FormatInt(f.At.UnixMilli(), 10)
		case scheduler.Defer:
			verdict, ask = "F", strconv.FormatInt(f.At.UnixMilli(), 10)
			if f.Firing.Attempt > 1 {
				named = k.retry(p.Key)
			}
		case scheduler.Bury:
			verdict = "B"
			if f.Attempt != nil {
				ask = f.Attempt.Error
			}
		}
		if (f.Verdict == scheduler.Done || f.Verdict == scheduler.Bury) && p.Due != 0 { // else the claim took the plan away
			named = k.plan(p.Key)
		}
		args = append(args, verdict, field, p.Key, index(k.firing(id)), index(named), p.Revision.String(), record, ask)
	}
	return invocation{script: s.scripts.finish, keys: keys, args: args}
}

// historyAge is the age at which attempts are dropped.
func (s *Store) historyAge() time.Duration {
	if s.opts.HistoryAge == 0 {
		return math.MaxInt64
	}
	return s.opts.HistoryAge
}

// finishAnswers reads the answer of finish.lua.
func finishAnswers(r reply, where []int, answers []scheduler.Finished) error {
	if len(r.values) != 1 {
		return errReply
	}
	letters, err := r.values[0].ToString()
	if err != nil || len(letters) != len(where) {
		return fmt.Errorf("%w: %d answers to %d finishes: %w", errReply, len(letters), len(where), err)
	}
	for j, i := range where {
		switch letters[j] {
		case 'O':
			answers[i] = scheduler.FinishedOK
		case 'C':
			answers[i] = scheduler.FinishedCancelled
		case 'N':
			answers[i] = scheduler.FinishedNotHeld
		case 'B':
			answers[i] = scheduler.FinishedBad
		default:
			return fmt.Errorf("%w: answer %q", errReply, letters[j])
		}
	}
	return nil
}

// Held returns what a worker holds: see scheduler.WorkStore.
func (s *Store) Held(ctx context.Context, shard int, worker string, limit int) ([]string, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	k, err := s.shard(shard)
	if err != nil {
		return nil, err
	}
	if err := s.refresh(ctx, k); err != nil {
		return nil, storeError("what a worker holds", err)
	}
	actions := s.actions()
	commands := make([]rueidis.Completed, 0, 2*len(actions))
	for _, action := range actions { // bundles first: out of them firings come into held, never back
		commands = append(commands, s.client.B().Hgetall().Key(k.bundles(action, worker)).Build(), s.client.B().Hgetall().Key(k.held(action, worker)).Build())
	}
	var receipts []string
	results := s.client.DoMulti(ctx, commands...)
	for i, action := range actions {
		bundles, err1 := results[2*i].AsStrMap()
		held, err2 := results[2*i+1].AsStrMap()
		bundled, err3 := s.heldInBundles(ctx, k, bundles)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, storeError("what a worker holds", err)
		}
		for field, e := range held {
			bundled = append(bundled, field+"/"+sizeOf(e))
		}
		slices.Sort(bundled) // what moved between the two looks stands there twice
		for _, receipt := range slices.Compact(bundled) {
			receipts = append(receipts, nameOf(action)+"/"+receipt)
		}
	}
	slices.SortFunc(receipts, byTake)
	return receipts[:min(limit, len(receipts))], nil
}

// byTake sorts receipts by when they were taken.
func byTake(a, b string) int {
	_, a, _ = takenAction(a)
	_, b, _ = takenAction(b)
	i, j := strings.LastIndexByte(a, '-'), strings.LastIndexByte(b, '-')
	if i < 0 || j < 0 || a[:i] != b[:j] {
		return strings.Compare(a, b)
	}
	m, _ := strconv.Atoi(a[i+1:])
	n, _ := strconv.Atoi(b[j+1:])
	return m - n
}

// number reads an integer that a script returned as one, or as text.
func number(m rueidis.RedisMessage) (int64, error) {
	n, err := m.AsInt64()
	if err != nil {
		f, ferr := m.AsFloat64() // a score
		if ferr != nil {
			return 0, fmt.Errorf("%w: %w", errReply, err)
		}
		n = int64(f)
	}
	return n, nil
}

func firstNumber(r reply) (int64, error) {
	if len(r.values) < 1 {
		return 0, errReply
	}
	return number(r.values[0])
}

// shard returns the keys of a shard of this deployment.
func (s *Store) shard(id int) (*shardKeys, error) {
	k := s.shards[id]
	if k == nil {
		return nil, fmt.Errorf("%w: this deployment has no shard %d", scheduler.ErrStore, id)
	}
	return k, nil
}

// settle forgets, now and then, changes of plans that nobody asks for, counts the
// unfinished firings anew, and collects garbage.
func (s *Store) settle(ctx context.Context, k *shardKeys) {
	const every = 5 * time.Second
	if last := k.settled.Load(); time.Since(s.opened)-time.Duration(last) < every || !k.settled.CompareAndSwap(last, int64(time.Since(s.opened))) {
		return
	}
	if _, err := s.run(ctx, invocation{script: s.scripts.settle, keys: []string{k.backlog, k.changed, k.changedOld}}); err != nil && ctx.Err() == nil {
		s.log.Debug().Err(err).Int("shard", k.id).Msg("cannot forget changes of plans")
	}
	if err := s.recount(ctx, k); err != nil && ctx.Err() == nil {
		s.log.Debug().Err(err).Int("shard", k.id).Msg("cannot count unfinished firings")
	}
	s.collect(ctx, k)
}

// recount runs recount.lua.
func (s *Store) recount(ctx context.Context, k *shardKeys) error {
	workers, err := s.client.Do(ctx, s.client.B().Hkeys().Key(k.workers).Build()).AsStrSlice()
	if err != nil {
		return err
	}
	actions := s.actions()
	keys := []string{k.backlog, k.retries, k.workers, k.actions}
	args := []string{strconv.Itoa(len(actions))}
	for _, action := range actions {
		keys, args = append(keys, k.firings(action), k.bundleQueue(action)), append(args, nameOf(action))
	}
	for _, action := range actions {
		for _, w := range workers {
			keys = append(keys, k.held(action, w), k.bundles(action, w))
		}
	}
	r, err := s.run(ctx, invocation{script: s.scripts.recount, keys: keys, args: append(args, workers...)})
	if err != nil {
		return err
	}
	n, err := firstNumber(r)
	if n == 1 {
		s.log.Warn().Int("shard", k.id).Msg("the count of unfinished firings was not right (was a queue deleted by hand?); it is now")
	}
	return err
}
