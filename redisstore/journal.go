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

const (
	// journalPage is how many entries of a stream are read at a time.
	journalPage = 20
	// journalLook bounds how many items one page looks through when it is filtered.
	journalLook = 10_000
)

// journalItem is an attempt or a dead letter at its place in a shard's stream.
type journalItem struct {
	ms      int64 // of the entry
	shard   int
	id      string // of the entry
	index   int    // in the entry
	attempt scheduler.Attempt
	dead    scheduler.DeadLetter
}

func (i *journalItem) place() string { return i.id + "." + strconv.Itoa(i.index) }

// journal reads the streams of all shards as one, newest first.
type journal struct {
	s      *Store
	stream func(*shardKeys) string
	items  func(shard int, entry rueidis.XRangeEntry) []journalItem // of an entry, oldest first
	shards []journalShard
}

// journalShard is how far one shard has been read.
type journalShard struct {
	keys   *shardKeys
	place  string        // the first item that was not delivered, "" at the beginning
	buffer []journalItem // read, newest first
	end    bool
}

const journalEnd = "end"

// openJournal begins at a cursor: the place in each shard, "0=1764192000000-0.12,3=end".
func (s *Store) openJournal(cursor string, stream func(*shardKeys) string, items func(int, rueidis.XRangeEntry) []journalItem) (*journal, error) {
	j := &journal{s: s, stream: stream, items: items}
	places := make(map[string]string)
	if cursor != "" {
		for part := range strings.SplitSeq(cursor, ",") {
			id, place, ok := strings.Cut(part, "=")
			if _, _, err := parsePlace(place); !ok || err != nil && place != journalEnd {
				return nil, fmt.Errorf("%w: %s", errCursor, scheduler.Shorten(cursor, 64))
			}
			places[id] = place
		}
	}
	for _, id := range s.ids {
		place := places[strconv.Itoa(id)]
		j.shards = append(j.shards, journalShard{keys: s.shards[id], place: place, end: place == journalEnd})
	}
	return j, nil
}

// parsePlace reads <ms>-<n>.<index>.
func parsePlace(place string) (id string, index int, err error) {
	id, rest, ok := strings.Cut(place, ".")
	if !ok || strings.Trim(id, "0123456789-") != "" || id == "" {
		return "", 0, errCursor
	}
	index, err = strconv.Atoi(rest)
	return id, index, err
}

// next returns the newest item that is left, nil after the last.
func (j *journal) next(ctx context.Context) (*journalItem, error) {
	var newest *journalShard
	for i := range j.shards {
		sh := &j.shards[i]
		if err := j.fill(ctx, sh); err != nil {
			return nil, err
		}
		if len(sh.buffer) > 0 && (newest == nil || sh.buffer[0].ms > newest.buffer[0].ms) {
			newest = sh
		}
	}
	if newest == nil {
		return nil, nil
	}
	item := &newest.buffer[0]
	newest.buffer = newest.buffer[1:]
	newest.place = item.place()
	return item, nil
}

// fill reads on in a shard if nothing of it is left.
func (j *journal) fill(ctx context.Context, sh *journalShard) error {
	for len(sh.buffer) == 0 && !sh.end {
		from, before := "+", -1
		if sh.place != "" {
			var err error
			if from, before, err = parsePlace(sh.place); err != nil {
				return err
			}
		}
		c := j.s.client
		entries, err := c.Do(ctx, c.B().Xrevrange().Key(j.stream(sh.keys)).End(from).Start("-").Count(journalPage).Build()).AsXRange()
		if err != nil {
			return err
		}
		if err := j.s.readAttempts(ctx, sh.keys, entries); err != nil {
			return err
		}
		sh.end = len(entries) < journalPage
		for _, e := range entries {
			items := j.items(sh.keys.id, e)
			if e.ID == from && before >= 0 {
				items = items[:min(before, len(items))]
			}
			slices.Reverse(items)
			sh.buffer = append(sh.buffer, items...)
			sh.place = e.ID + ".0" // if none of it is an item, go on behind it
		}
	}
	return nil
}

// cursor is where the next page begins; "" after the last item.
func (j *journal) cursor() string {
	parts := make([]string, 0, len(j.shards))
	done := true
	for _, sh := range j.shards {
		place := sh.place
		switch {
		case len(sh.buffer) > 0:
			done = false
			first := sh.buffer[0]
			place = first.id + "." + strconv.Itoa(first.index+1)
		case sh.end:
			place = journalEnd
		default:
			done = false
		}
		if place == "" {
			continue
		}
		parts = append(parts, strconv.Itoa(sh.keys.id)+"="+place)
	}
	if done {
		return ""
	}
	return strings.Join(parts, ",")
}

// page reads up to limit items that keep accepts.
func (j *journal) page(ctx context.Context, limit int, keep func(*journalItem) bool) (items []*journalItem, next string, err error) {
	for looked := 0; len(items) < limit && looked < journalLook; looked++ {
		item, err := j.next(ctx)
		if err != nil {
			return nil, "", err
		}
		if item == nil {
			return items, "", nil
		}
		if keep(item) {
			items = append(items, item)
		}
	}
	return items, j.cursor(), nil
}

// History returns finished attempts: see scheduler.Journal.
func (s *Store) History(ctx context.Context, q scheduler.JournalQuery) (attempts []scheduler.Attempt, next string, err error) {
	leave, err := s.enter()
	if err != nil {
		return nil, "", err
	}
	defer leave()
	j, err := s.openJournal(q.Cursor, func(k *shardKeys) string { return k.history }, s.historyItems)
	if err != nil {
		return nil, "", err
	}
	items, next, err := j.page(ctx, q.Limit, func(i *journalItem) bool {
		return i.attempt.Firing != "" && (q.Key == "" || i.attempt.Key == q.Key)
	})
	if err != nil {
		return nil, "", storeError("read history", err)
	}
	for _, i := range items {
		i.attempt.Sequence = strconv.Itoa(i.shard) + "=" + i.place()
		attempts = append(attempts, i.attempt)
	}
	return attempts, next, nil
}

// readAttempts reads what stands beside entries of the history. What was dropped
// meanwhile is left out.
func (s *Store) readAttempts(ctx context.Context, k *shardKeys, entries []rueidis.XRangeEntry) error {
	for _, e := range entries {
		id, ok := e.FieldValues["in"]
		if !ok {
			continue
		}
		lines, err := s.client.Do(ctx, s.client.B().Get().Key(k.attempts(id)).Build()).ToString()
		switch _, other := rueidis.IsRedisErr(err); {
		case err == nil:
			e.FieldValues["attempts"] = lines
		case !other:
			return err
		}
	}
	return nil
}

// historyItems reads an entry of the history; a line that is none is left out.
func (s *Store) historyItems(shard int, e rueidis.XRangeEntry) (items []journalItem) {
	ms := entryMillis(e.ID)
	if e.FieldValues["attempts"] == "" {
		return nil
	}
	for line := range strings.SplitSeq(e.FieldValues["attempts"], "\n") {
		a, err := decodeAttempt(line)
		if err != nil {
			s.log.Warn().Err(err).Int("shard", shard).Str("entry", e.ID).Msg("a line of the history cannot be decoded; it is left out")
			a = scheduler.Attempt{} // no firing: see History
		}
		items = append(items, journalItem{ms: ms, shard: shard, id: e.ID, index: len(items), attempt: a})
	}
	return items
}

// entryMillis is when an entry of a stream was made, by Redis' clock.
func entryMillis(id string) int64 {
	ms, _, _ := strings.Cut(id, "-")
	n, _ := strconv.ParseInt(ms, 10, 64)
	return n
}

// DeadLetters returns dead letters: see scheduler.Journal. Their ids are
// <shard>:<entry>.
func (s *Store) DeadLetters(ctx context.Context, q scheduler.JournalQuery) (dead []scheduler.DeadLetter, next string, err error) {
	leave, err := s.enter()
	if err != nil {
		return nil, "", err
	}
	defer leave()
	j, err := s.openJournal(q.Cursor, func(k *shardKeys) string { return k.dead }, s.deadItems)
	if err != nil {
		return nil, "", err
	}
	items, next, err := j.page(ctx, q.Limit, func(i *journalItem) bool {
		return i.dead.Firing != nil && (q.Key == "" || i.dead.Firing.Plan.Key == q.Key)
	})
	if err != nil {
		return nil, "", storeError("read dead letters", err)
	}
	for _, i := range items {
		dead = append(dead, i.dead)
	}
	return dead, next, nil
}

// deadItems reads a dead letter.
func (s *Store) deadItems(shard int, e rueidis.XRangeEntry) []journalItem {
	item := journalItem{ms: entryMillis(e.ID), shard: shard, id: e.ID}
	f, err := deadFiring(e)
	if err != nil {
		s.log.Warn().Err(err).Int("shard", shard).Str("entry", e.ID).Msg("a dead letter cannot be decoded; it is left out")
	} else {
		f.Shard = shard
		item.dead = scheduler.DeadLetter{
			ID: strconv.Itoa(shard) + ":" + e.ID, Firing: f, Error: e.FieldValues["error"], Died: time.UnixMilli(item.ms),
		}
	}
	return []journalItem{item}
}

// deadFiring reads the firing of a dead letter.
func deadFiring(e rueidis.XRangeEntry) (*scheduler.Firing, error) {
	parsed, err := parseEntry(e.FieldValues["entry"])
	if err != nil {
		return nil, err
	}
	return parsed.with(e.FieldValues["plan"])
}

// deadByShard sorts ids of dead letters by shard; what is none is left out.
func (s *Store) deadByShard(ids []string) map[*shardKeys][]string {
	byShard := make(map[*shardKeys][]string)
	seen := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		shard, entry, ok := strings.Cut(id, ":")
		n, err := strconv.Atoi(shard)
		k := s.shards[n]
		if _, twice := seen[id]; twice || !ok || err != nil || k == nil || strings.Trim(entry, "0123456789-") != "" || entry == "" {
			continue
		}
		seen[id] = struct{}{}
		byShard[k] = append(byShard[k], entry)
	}
	return byShard
}

// Redrive queues dead letters again: see scheduler.Journal.
func (s *Store) Redrive(ctx context.Context, ids []string) (n int, err error) {
	leave, err := s.enter()
	if err != nil {
		return 0, err
	}
	defer leave()
	for k, entries := range s.deadByShard(ids) {
		for batch := range slices.Chunk(entries, batchPlans) {
			got, err := s.redriveSome(ctx, k, batch)
			if n += got; err != nil {
				return n, storeError("redrive", err)
			}
		}
	}
	return n, nil
}

func (s *Store) redriveSome(ctx context.Context, k *shardKeys, entries []string) (int, error) {
	c := s.client
	commands := make([]rueidis.Completed, len(entries))
	for i, id := range entries {
		commands[i] = c.B().Xrange().Key(k.dead).Start(id).End(id).Build()
	}
	keys, args, size, moved := []string{k.dead, k.backlog, k.actions}, []string{s.channel, k.work("")}, 0, 0
	flush := func() error {
		if len(keys) == 3 {
			return nil
		}
		r, err := s.run(ctx, invocation{script: s.scripts.redrive, keys: keys, args: args})
		if err != nil {
			return err
		}
		n, err := firstNumber(r)
		moved += int(n)
		keys, args, size = keys[:3], args[:2], 0
		return err
	}
	for i, r := range c.DoMulti(ctx, commands...) {
		found, err := r.AsXRange()
		if err != nil {
			return moved, err
		}
		if len(found) == 0 {
			continue
		}
		f, err := deadFiring(found[0])
		if err != nil {
			continue
		}
		keys, args = append(keys, k.firings(f.Plan.Action), k.firing(string(f.ID()))), append(args, entries[i], nameOf(f.Plan.Action))
		if size += len(found[0].FieldValues["plan"]); size >= batchBytes {
			if err := flush(); err != nil {
				return moved, err
			}
		}
	}
	return moved, flush()
}

// Purge forgets dead letters: see scheduler.Journal.
func (s *Store) Purge(ctx context.Context, ids []string) (n int, err error) {
	leave, err := s.enter()
	if err != nil {
		return 0, err
	}
	defer leave()
	for k, entries := range s.deadByShard(ids) {
		got, err := s.client.Do(ctx, s.client.B().Xdel().Key(k.dead).Id(entries...).Build()).AsInt64()
		if n += int(got); err != nil {
			return n, storeError("purge", err)
		}
	}
	return n, nil
}

// Shards returns the state of every shard: see scheduler.Observer.
func (s *Store) Shards(ctx context.Context, now time.Time) ([]scheduler.ShardState, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := s.refreshAll(ctx); err != nil {
		return nil, storeError("state of shards", err)
	}
	states := make([]scheduler.ShardState, 0, len(s.ids))
	for _, id := range s.ids {
		state, err := s.shardState(ctx, s.shards[id], now)
		if err != nil {
			return nil, storeError("state of shard "+strconv.Itoa(id), err)
		}
		states = append(states, state)
	}
	slices.SortFunc(states, func(a, b scheduler.ShardState) int { return cmp.Compare(a.Shard, b.Shard) })
	return states, nil
}

// shardState asks for the numbers of one shard.
func (s *Store) shardState(ctx context.Context, k *shardKeys, now time.Time) (scheduler.ShardState, error) {
	state := scheduler.ShardState{Shard: k.id, Queued: map[string]int64{}, Running: map[string]int64{}}
	c := s.client
	first := c.DoMulti(ctx,
		c.B().Get().Key(k.leader).Build(), c.B().Zcard().Key(k.retries).Build(),
		c.B().Xlen().Key(k.dead).Build(), c.B().Hlen().Key(k.quarantine).Build(), c.B().Hkeys().Key(k.workers).Build())
	lease, err := first[0].ToString()
	if err != nil && !rueidis.IsRedisNil(err) {
		return state, err
	}
	if term, rest, ok := strings.Cut(lease, ":"); ok {
		state.Term, _ = strconv.ParseUint(term, 10, 64)
		if i := strings.LastIndexByte(rest, ':'); i >= 0 {
			state.Leader = rest[:i]
		}
	}
	for i, to := range []*int64{&state.Retries, &state.Dead, &state.Quarantined} {
		if *to, err = first[1+i].AsInt64(); err != nil {
			return state, err
		}
	}
	workers, err := first[4].AsStrSlice()
	if err != nil {
		return state, err
	}
	actions := s.actions()
	before := "(" + strconv.FormatInt(now.Unix(), 10)
	var commands []rueidis.Completed
	for _, action := range actions {
		commands = append(commands, c.B().Zcard().Key(k.schedule(action)).Build(),
			c.B().Zcount().Key(k.schedule(action)).Min("-inf").Max(before).Build(),
			c.B().Zrange().Key(k.schedule(action)).Min("0").Max("0").Withscores().Build(),
			c.B().Llen().Key(k.firings(action)).Build(),
			c.B().Lrange().Key(k.bundleQueue(action)).Start(0).Stop(-1).Build())
		for _, w := range workers {
			commands = append(commands, c.B().Hlen().Key(k.held(action, w)).Build(), c.B().Hget().Key(k.bundles(action, w)).Field(bundleCount).Build())
		}
	}
	if len(commands) == 0 {
		return state, nil
	}
	results := c.DoMulti(ctx, commands...)
	for _, action := range actions {
		plans, err := results[0].AsInt64()
		if err != nil {
			return state, err
		}
		state.Plans += plans // each stands in one schedule
		overdue, err := results[1].AsInt64()
		if err != nil {
			return state, err
		}
		oldest, err := results[2].AsZScores()
		if err != nil {
			return state, err
		}
		if overdue > 0 && len(oldest) > 0 {
			state.Overdue += overdue
			if due := int64(oldest[0].Score); state.OldestDue == 0 || due < state.OldestDue {
				state.OldestDue = due
			}
		}
		queued, err := results[3].AsInt64()
		if err != nil {
			return state, err
		}
		waiting, err := results[4].AsStrSlice()
		if err != nil {
			return state, err
		}
		for _, bundle := range waiting {
			queued += sizeOfBundle(bundle)
		}
		if queued > 0 {
			state.Queued[action] = queued
		}
		for _, r := range results[5 : 5+2*len(workers)] {
			n, err := r.AsInt64()
			if err != nil && !rueidis.IsRedisNil(err) {
				return state, err
			}
			if n > 0 {
				state.Running[action] += n
			}
		}
		results = results[5+2*len(workers):]
	}
	return state, nil
}
