package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

// A key costs 130 bytes in index, a sorted set, and 25 in a run. A run is up to runKeys
// keys that follow each other, in order, joined by line feeds, which no key has, as one
// member of packed, another sorted set: by its first key it stands in order, too, and no
// two runs overlap.
//
// Creates, claims and removals know nothing of runs: a new key goes into index, and is
// taken out of it. The leader moves keys from index into runs at its leisure (pack), of
// plans that are not due soon, once there are many. Of who finds a key of a plan not in
// index, it may be in a run: then it goes into unpack, a list, and the leader takes it out
// of its run (unpack), if the plan is gone, or if it stands in index as well, being
// created anew. Until then a listing comes upon it in vain, or twice.
//
// Only the leader moves keys and changes runs, under its lease (pack.lua), and what it
// read is still so when it does; so that a plan stands in index or in a run at any moment,
// and is listed. It does one step after the other, and one whose answer
// does not come has ended before the next (swap): it would not see all that has changed.
const (
	runKeys  = 16
	runBytes = 1024 // of a run of more than one key

	packBatch = 500                  // keys at a time
	packBytes = 32 << 10             // of these keys; longer ones hold up Redis longer
	packRest  = 4                    // how many times as long as a step takes the leader then rests
	packLeast = 5 * time.Millisecond // but this long at least
	packLook  = time.Second          // between looks at whether there is anything to do
	packBound = 2 * time.Second      // of a step
	packVain  = 20                   // how many times as long as it took a sweep is rested from that packed few of the keys
	packFew   = 8                    // less than one in so many
	packSince = 2                    // the schema that knows of runs
	runEnd    = "\x0b"               // follows the line feed: runs before key + runEnd begin with key, or before it
)

// packOptions say when keys are packed.
type packOptions struct {
	over  int           // if more than these are in index
	after time.Duration // those whose plans are due later than in this time
	pause time.Duration // and so long after index was last gone through
}

var packDefaults = packOptions{over: 10_000, after: 10 * time.Minute, pause: 30 * time.Second}

// packs stands for these in programs that tests build: the linker sets it to
// "over-after-pause", the times in seconds.
var packs string

func (o *Options) packOptions() packOptions {
	switch {
	case o.pack != nil:
		return *o.pack
	case packs == "":
		return packDefaults
	}
	var p packOptions
	var after, pause int
	if n, err := fmt.Sscanf(packs, "%d-%d-%d", &p.over, &after, &pause); n != 3 {
		panic(fmt.Sprintf("redisstore.packs is %q: %v", packs, err)) // a build that makes no sense
	}
	p.after, p.pause = time.Duration(after)*time.Second, time.Duration(pause)*time.Second
	return p
}

// packing is how far the leader of a shard has come.
type packing struct {
	underWay atomic.Bool
	looked   atomic.Int64 // when it was last looked whether there is anything to do, since the store was opened
	again    atomic.Int64 // and from when on index may be gone through again
	failed   atomic.Bool  // the last time, and it was said
}

// packSoon packs and unpacks beside its caller, under the lease, if there is anything to
// do. Its caller is inside the store.
func (s *Store) packSoon(k *shardKeys, lease scheduler.Lease) {
	if k.packing.underWay.Load() {
		return
	}
	now := int64(time.Since(s.opened))
	if last := k.packing.looked.Load(); last != 0 && now-last < int64(packLook) {
		return
	}
	if !k.packing.underWay.CompareAndSwap(false, true) {
		return
	}
	k.packing.looked.Store(now)
	s.tasks.Go(func() {
		defer k.packing.underWay.Store(false)
		err := s.packAll(s.life, k, lease)
		_, answered := rueidis.IsRedisErr(err) // else Redis is away, which others say
		switch {
		case err == nil || !answered:
			k.packing.failed.Store(false)
		case !k.packing.failed.Swap(true):
			s.log.Warn().Err(err).Int("shard", k.id).Msg("the index of plans cannot be packed: it takes more memory than it need")
		}
	})
}

// packAll takes out of runs what is to be, and goes through index once, if there is enough
// in it and that was not done lately.
func (s *Store) packAll(ctx context.Context, k *shardKeys, lease scheduler.Lease) error {
	p := &packer{s: s, k: k, lease: lease, opts: s.opts.packOptions()}
	waiting, keys, err := p.look(ctx)
	if err != nil {
		return err
	}
	var began time.Time // the sweep
	for {
		if waiting > 0 {
			if err := p.step(ctx, p.unpack); err != nil {
				return err
			}
		}
		sweep := p.cursor != "" || s.effect().schema >= packSince && keys > p.opts.over && int64(time.Since(s.opened)) >= k.packing.again.Load()
		switch {
		case sweep && waiting < 2*packBatch: // else they come faster than they go
			if p.cursor == "" {
				began, p.looked, p.moved = time.Now(), 0, 0
			}
			if err := p.step(ctx, p.pack); err != nil {
				return err
			}
			if p.cursor == "" {
				rest := p.opts.pause
				if p.moved < p.looked/packFew { // most plans come again and again, soon
					rest = max(rest, packVain*time.Since(began))
				}
				k.packing.again.Store(int64(time.Since(s.opened) + rest))
			}
		case waiting == 0:
			return nil
		}
		if waiting, keys, err = p.look(ctx); err != nil {
			return err
		}
	}
}

// packer is the leader of a shard while it packs.
type packer struct {
	s      *Store
	k      *shardKeys
	lease  scheduler.Lease
	opts   packOptions
	cursor string // the key that is packed already in this sweep, and all before it; "": none

	looked, moved int // keys, in this sweep
}

// look says how many keys wait to be taken out of runs, and how many are in index.
func (p *packer) look(ctx context.Context) (waiting, keys int, err error) {
	ctx, cancel := context.WithTimeout(ctx, packBound)
	defer cancel()
	b := p.s.client.B
	results := p.s.client.DoMulti(ctx, b().Llen().Key(p.k.unpack).Build(), b().Zcard().Key(p.k.index).Build())
	n, err := results[0].AsInt64()
	if err != nil {
		return 0, 0, err
	}
	m, err := results[1].AsInt64()
	return int(n), int(m), err
}

// step runs one, bounded, and then rests.
func (p *packer) step(ctx context.Context, run func(context.Context) error) error {
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, packBound)
	err := run(bounded)
	cancel()
	if err != nil {
		return err
	}
	return sleep(ctx, max(packRest*time.Since(began), packLeast))
}

// pack moves the keys behind the cursor into runs, and the cursor behind them. Where keys
// come and go so fast that none of the tries fits, they stay for another sweep.
func (p *packer) pack(ctx context.Context) error {
	const tries = 3
	next := ""
	lower := "-"
	if p.cursor != "" {
		lower = "(" + p.cursor
	}
	for range tries {
		keys, err := p.s.client.Do(ctx, p.s.client.B().Zrange().Key(p.k.index).Min(lower).Max("+").Bylex().Limit(0, packBatch).Build()).AsStrSlice()
		if err != nil {
			return err
		}
		next = ""
		if n := fitting(keys); n == packBatch || n < len(keys) {
			keys, next = keys[:n], keys[n-1]
		}
		looked := len(keys)
		if keys, err = p.notSoon(ctx, keys); err != nil {
			return err
		}
		done := true
		if len(keys) > 0 {
			if done, err = p.join(ctx, keys); err != nil {
				return err
			}
		}
		if done {
			p.looked, p.moved = p.looked+looked, p.moved+len(keys)
			break
		}
	}
	p.cursor = next
	return nil
}

// fitting is how many of the keys, the first ones, are moved in one step.
func fitting(keys []string) int {
	size := 0
	for i, key := range keys {
		if size += len(key); i > 0 && size > packBytes {
			return i
		}
	}
	return len(keys)
}

// notSoon are the keys whose plans are not due soon.
func (p *packer) notSoon(ctx context.Context, keys []string) ([]string, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	var commands []rueidis.Completed
	for _, action := range p.s.actions() {
		commands = append(commands, p.s.client.B().Zmscore().Key(p.k.schedule(action)).Member(keys...).Build())
	}
	soon := float64(time.Now().Add(p.opts.after).Unix())
	late := make([]bool, len(keys))
	for _, r := range p.s.client.DoMulti(ctx, commands...) {
		scores, err := r.ToArray()
		if err != nil {
			return nil, err
		}
		if len(scores) != len(keys) {
			return nil, errReply
		}
		for i := range scores {
			if scores[i].IsNil() {
				continue
			}
			second, err := scores[i].AsFloat64()
			if err != nil {
				return nil, err
			}
			late[i] = second >= soon
		}
	}
	some := keys[:0]
	for i, key := range keys {
		if late[i] {
			some = append(some, key)
		}
	}
	return some, nil
}

// join moves keys, which are in order, from index into runs. Done is false if some of it
// is another meanwhile: then nothing was done.
func (p *packer) join(ctx context.Context, keys []string) (done bool, err error) {
	of, err := p.runsOf(ctx, keys)
	if err != nil {
		return false, err
	}
	var old, runs []string
	for from := 0; from < len(keys); {
		run, to := of[from], from+1
		for to < len(keys) && of[to] == run {
			to++
		}
		together := slices.Clone(keys[from:to])
		if run != "" {
			old = append(old, run)
			together = append(together, strings.Split(run, "\n")...)
			slices.Sort(together)
			together = slices.Compact(together)
		}
		runs = appendRuns(runs, together)
		from = to
	}
	return p.swap(ctx, 0, nil, keys, old, runs)
}

// unpack takes the first keys that wait for it out of their runs.
func (p *packer) unpack(ctx context.Context) error {
	b := p.s.client.B
	waiting, err := p.s.client.Do(ctx, b().Lrange().Key(p.k.unpack).Start(0).Stop(packBatch-1).Build()).AsStrSlice()
	if err != nil || len(waiting) == 0 {
		return err
	}
	waiting = waiting[:fitting(waiting)]
	keys := slices.Clone(waiting)
	slices.Sort(keys)
	keys = slices.Compact(keys)
	of, err := p.runsOf(ctx, keys)
	if err != nil {
		return err
	}
	commands := make([]rueidis.Completed, 0, len(keys)+1)
	for _, key := range keys {
		commands = append(commands, b().Exists().Key(p.k.plan(key)).Build())
	}
	results := p.s.client.DoMulti(ctx, append(commands, b().Zmscore().Key(p.k.index).Member(keys...).Build())...)
	indexed, err := results[len(keys)].ToArray()
	if err != nil {
		return err
	}
	if len(indexed) != len(keys) {
		return errReply
	}
	var stay, old, runs []string
	for from := 0; from < len(keys); {
		run, to := of[from], from
		rest := strings.Split(run, "\n")
		n := len(rest)
		for ; to < len(keys) && of[to] == run; to++ {
			there, err := results[to].AsInt64()
			if err != nil {
				return err
			}
			switch i, in := slices.BinarySearch(rest, keys[to]); {
			case !in:
			case there == 0 || !indexed[to].IsNil(): // who is created anew meanwhile comes into index
				rest = slices.Delete(rest, i, i+1)
			default: // if that is still so then
				stay = append(stay, keys[to])
			}
		}
		if len(rest) < n {
			old = append(old, run)
			runs = appendRuns(runs, rest)
		}
		from = to
	}
	_, err = p.swap(ctx, len(waiting), stay, nil, old, runs)
	return err
}

// runsOf returns of each key, which are in order, the run that it stands in if it stands
// in one, or would stand in: the last that does not begin behind it; "" if there is none.
func (p *packer) runsOf(ctx context.Context, keys []string) ([]string, error) {
	runs := make([]string, len(keys))
	ask := func(from, to int) error {
		commands := make([]rueidis.Completed, 0, to-from)
		for _, key := range keys[from:to] {
			commands = append(commands, p.s.client.B().Zrange().Key(p.k.packed).Min("("+key+runEnd).Max("-").Bylex().Rev().Limit(0, 1).Build())
		}
		for i, r := range p.s.client.DoMulti(ctx, commands...) {
			found, err := r.AsStrSlice()
			if err != nil {
				return err
			}
			if runs[from+i] = ""; len(found) == 1 {
				runs[from+i] = found[0]
			}
		}
		return nil
	}
	if len(keys) == 0 {
		return runs, nil
	}
	// Keys that come one after the other mostly go behind one run.
	if err := errors.Join(ask(0, 1), ask(len(keys)-1, len(keys))); err != nil {
		return nil, err
	}
	if runs[0] != runs[len(keys)-1] {
		return runs, ask(0, len(keys))
	}
	for i := range runs {
		runs[i] = runs[0]
	}
	return runs, nil
}

// appendRuns appends runs of keys, which are in order.
func appendRuns(runs, keys []string) []string {
	for n := (len(keys) + runKeys - 1) / runKeys; n > 0; n-- { // as long as each other
		some := keys[:(len(keys)+n-1)/n]
		keys = keys[len(some):]
		for len(some) > 0 {
			size, i := len(some[0]), 1
			for ; i < len(some) && size+1+len(some[i]) <= runBytes; i++ {
				size += 1 + len(some[i])
			}
			runs = append(runs, strings.Join(some[:i], "\n"))
			some = some[i:]
		}
	}
	return runs
}

// swap runs pack.lua. With an error it has run, or will not any more: what of ctx is left
// is waited for.
func (p *packer) swap(ctx context.Context, unpacked int, stay, keys, old, runs []string) (done bool, err error) {
	declared := append(make([]string, 0, 4+len(stay)), p.k.leader, p.k.index, p.k.packed, p.k.unpack)
	for _, key := range stay {
		declared = append(declared, p.k.plan(key))
	}
	deadline, err := p.s.redisDeadlineAt(ctx, p.k.id)
	if err != nil {
		return false, err
	}
	args := append(make([]string, 0, 5+len(stay)+len(keys)+len(old)+len(runs)), strconv.FormatInt(deadline, 10),
		p.lease.Value, strconv.Itoa(unpacked), strconv.Itoa(len(keys)), strconv.Itoa(len(old)))
	args = slices.Concat(args, stay, keys, old, runs)
	r, err := p.s.run(ctx, invocation{script: p.s.scripts.pack, keys: declared, args: args})
	switch {
	case err != nil:
		if deadline != 0 && !p.s.surelyNotSent(err) {
			<-ctx.Done()
		}
		return false, err
	case r.status == statusFenced:
		return false, scheduler.ErrFenced
	case r.status == statusLate:
		p.s.forgetTime(p.k.id) // if Redis' clock was set; else ctx ends
		return false, nil
	}
	n, err := firstNumber(r)
	return n == 1, err
}

// listCommands read a page of the keys of a shard that begin with prefix, those behind
// after if that is not "": of index, the last run that begins before, and the runs that
// follow. Each is of one key, so that it is answered while a Cluster's slot moves, too.
//
// They go out together, index first: a key that leaves it meanwhile is seen twice. One
// would have to leave its run meanwhile to be missed, which takes that it is put into index
// and then a whole step of the leader's, between two commands of one pipeline.
func (s *Store) listCommands(k *shardKeys, prefix, after string, limit int) []rueidis.Completed {
	from, lower := prefix, "["+prefix
	if after != "" {
		from, lower = after, "("+after
	}
	upper := "[" + prefix + "\xff" // no UTF-8 begins with ff
	b := s.client.B
	return []rueidis.Completed{
		b().Zrange().Key(k.index).Min(lower).Max(upper).Bylex().Limit(0, int64(limit)).Build(),
		b().Zrange().Key(k.packed).Min("("+from+runEnd).Max("-").Bylex().Rev().Limit(0, 1).Build(),
		b().Zrange().Key(k.packed).Min("["+from+runEnd).Max(upper).Bylex().Limit(0, int64(runsFor(limit))).Build(),
	}
}

// runsFor is how many runs are read for so many keys.
func runsFor(limit int) int { return limit/runKeys + 1 }

// parseListed reads the answers: keys in order, of which some may have no plan any more.
// If there may be others, end is the last key before which all are here.
func parseListed(answers []rueidis.RedisResult, prefix, after string, limit int) (keys []string, end string, err error) {
	var parts [3][]string
	for i := range parts {
		if parts[i], err = answers[i].AsStrSlice(); err != nil {
			return nil, "", err
		}
	}
	keys = parts[0]
	if len(keys) == limit {
		end = keys[limit-1]
	}
	runs := slices.Concat(parts[1], parts[2])
	if len(runs) == 0 {
		return keys, end, nil
	}
	for _, run := range runs {
		for key := range strings.SplitSeq(run, "\n") {
			if key > after && strings.HasPrefix(key, prefix) {
				keys = append(keys, key)
			}
		}
	}
	if len(parts[2]) == runsFor(limit) {
		last := runs[len(runs)-1]
		if last = last[strings.LastIndexByte(last, '\n')+1:]; end == "" || last < end {
			end = last
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), end, nil
}
