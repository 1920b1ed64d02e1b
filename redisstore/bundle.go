package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

// A bundle is firings of one action that were claimed together, and go together to one
// worker: bundle:<take>, whose take ends in +<how many firings>. In bundles:<action>:<worker>
// stand, under the take, changes at the claim, and under <take>:done a byte for each that is
// finished: 33 for the first, 34 for the second. The last that is finished takes all away. A
// field # counts the unfinished ones of all bundles. What no slot of the claiming replica was
// free for stands in the list bundles:<action> until a worker takes it. Nothing else is done to
// a bundle as a whole: whoever wants a firing for anything else (to retry it, to hand it
// back, to rescue it, to take it alone) first makes of the bundle what claim.lua would have
// made (unbundle.lua, spread.lua).
//
// A bundle holds of each firing a line of three lengths in bytes, and what has those
// lengths: the entry up to changes, the entry from there, the plan (see firing.go).

// bundleBytes bounds a bundle: what is longer is claimed by claim.lua.
const bundleBytes = 64 << 10

var errBundle = errors.New("not a bundle")

// appendBundled appends a firing that is claimed of plan to a bundle.
func appendBundled(b, head, tail []byte, plan string) []byte {
	b = strconv.AppendInt(b, int64(len(head)), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(tail)), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(plan)), 10)
	b = append(b, '\n')
	b = append(b, head...)
	b = append(b, tail...)
	return append(b, plan...)
}

// bundled is a firing of a bundle.
type bundled struct {
	id         string
	size       int // of its plan
	head, tail string
	plan       string
}

// entry is what the firing would be in the queue, claimed at changes.
func (f *bundled) entry(changes string) string { return f.head + changes + f.tail }

// parseBundle reads what stands in a bundle.
func parseBundle(stored string) (all []bundled, err error) {
	rest, ok := stored, true
	for ok && rest != "" {
		var line string
		var lengths [3]int
		line, rest, ok = strings.Cut(rest, "\n")
		for i := range lengths {
			var text string
			text, line, _ = strings.Cut(line, " ")
			if lengths[i], err = strconv.Atoi(text); err != nil || lengths[i] < 0 || lengths[i] > len(rest) {
				return nil, fmt.Errorf("%w: firing %d: length %s", errBundle, len(all)+1, scheduler.Shorten(text, 64))
			}
		}
		mid := lengths[0]
		stop := mid + lengths[1]
		n := stop + lengths[2]
		if n > len(rest) || lengths[0] < 32 {
			return nil, fmt.Errorf("%w: firing %d is %d bytes long, of %d", errBundle, len(all)+1, n, len(rest))
		}
		all = append(all, bundled{id: rest[:32], size: lengths[2], head: rest[:mid], tail: rest[mid:stop], plan: rest[stop:n]})
		rest = rest[n:]
	}
	if !ok {
		return nil, fmt.Errorf("%w: it ends in the midst of a line", errBundle)
	}
	return all, nil
}

// doneByte stands for the n-th firing of a bundle, from 1 to batchPlans, which is 100.
func doneByte(n int) byte { return byte(32 + n) }

// bundleOf is the take of a bundle that a receipt's field names a firing of, and the
// firing's number; ok is false for what is held by itself.
func bundleOf(field string) (take string, n int, ok bool) {
	i := strings.LastIndexByte(field, '-')
	if i < 0 || !strings.Contains(field[:i], "+") {
		return "", 0, false
	}
	n, err := strconv.Atoi(field[i+1:])
	return field[:i], n, err == nil && n >= 1 && n <= batchPlans
}

// sizeOfBundle is how many firings a bundle has that waits for a worker.
func sizeOfBundle(waiting string) int64 {
	take, _, _ := strings.Cut(waiting, " ")
	n, err := strconv.ParseInt(take[strings.LastIndexByte(take, '+')+1:], 10, 64)
	if err != nil {
		return 0 // someone wrote it there
	}
	return n
}

// readBundle reads what stands in a bundle: whole, or an error of errBundle; nothing if
// it is not there.
func (s *Store) readBundle(ctx context.Context, k *shardKeys, take string) ([]bundled, error) {
	return parseRead(take, s.client.Do(ctx, s.client.B().Get().Key(k.bundle(take)).Build()))
}

func parseRead(take string, r rueidis.RedisResult) ([]bundled, error) {
	stored, err := r.ToString()
	if rueidis.IsRedisNil(err) {
		return nil, nil
	}
	if e, ok := rueidis.IsRedisErr(err); ok && strings.HasPrefix(e.Error(), "WRONGTYPE") {
		return nil, fmt.Errorf("%w: %w", errBundle, err)
	} else if err != nil {
		return nil, err
	}
	firings, err := parseBundle(stored)
	if n := take[strings.LastIndexByte(take, '+')+1:]; err == nil && n != strconv.Itoa(len(firings)) {
		return nil, fmt.Errorf("%w: it has %d firings, not %s", errBundle, len(firings), n)
	}
	return firings, err
}

// bundlesAtOnce bounds how many bundles, of up to bundleBytes, are read at once.
const bundlesAtOnce = batchBytes / bundleBytes

// readBundles makes firings of bundles that a worker took. One that cannot be read, or has a
// firing that cannot, is unbundled, and what is bad put into quarantine.
func (s *Store) readBundles(ctx context.Context, k *shardKeys, worker string, bundles []takenBundle) (fs []*scheduler.Firing, err error) {
	for some := range slices.Chunk(bundles, bundlesAtOnce) {
		commands := make([]rueidis.Completed, len(some))
		for i, b := range some {
			commands[i] = s.client.B().Get().Key(k.bundle(b.take)).Build()
		}
		for i, r := range s.client.DoMulti(ctx, commands...) {
			all, err := parseRead(some[i].take, r)
			if err != nil && !errors.Is(err, errBundle) {
				return nil, err
			}
			good, err := s.bundleFirings(ctx, k, worker, some[i], all)
			if err != nil {
				return nil, err
			}
			fs = append(fs, good...)
		}
	}
	return fs, nil
}

// bundleFirings makes firings of what a bundle holds: of nothing, if it is not there or
// cannot be read.
func (s *Store) bundleFirings(ctx context.Context, k *shardKeys, worker string, b takenBundle, all []bundled) (fs []*scheduler.Firing, err error) {
	bad := make(map[int]error)
	for i := range all {
		f, err := all[i].firing()
		if err != nil {
			bad[i] = err
			continue
		}
		f.Shard, f.Receipt = k.id, b.receipt(i)+"/"+strconv.Itoa(all[i].size)
		fs = append(fs, f)
	}
	if len(all) > 0 && len(bad) == 0 {
		return fs, nil
	}
	if err := s.unbundle(ctx, k, b.action, worker, []string{b.take}); err != nil {
		return nil, err
	}
	for i, why := range bad {
		s.quarantineTaken(ctx, k, worker, b.receipt(i), all[i].entry("0"), why)
	}
	return fs, nil
}

// receipt is that of its firing i, but for the size.
func (b takenBundle) receipt(i int) string {
	return nameOf(b.action) + "/" + b.take + "-" + strconv.Itoa(i+1)
}

// firing decodes a firing of a bundle.
func (f *bundled) firing() (*scheduler.Firing, error) {
	e, err := parseEntry(f.entry("0")) // changes is for the scripts
	if err != nil {
		return nil, err
	}
	return e.with(f.plan)
}

// spread runs spread.lua for the next bundles that wait for a worker, by action.
func (s *Store) spread(ctx context.Context, k *shardKeys, waiting map[string]string) error {
	for action, first := range waiting {
		take, bad := first, "bad" // someone wrote it there
		if parts := strings.Split(first, " "); len(parts) == 3 {
			_, err1 := strconv.ParseUint(parts[1], 10, 63)
			_, err2 := strconv.ParseInt(parts[2], 10, 64)
			take = parts[0]
			if err1 == nil && err2 == nil {
				bad = ""
			}
		}
		if err := s.unmake(ctx, k, take, s.scripts.spread, []string{k.bundleQueue(action), k.firings(action)}, first, bad); err != nil {
			return err
		}
	}
	return nil
}

// unbundle runs unbundle.lua for bundles of a worker. One that is not there is not
// missed.
func (s *Store) unbundle(ctx context.Context, k *shardKeys, action, worker string, takes []string) error {
	for _, take := range takes {
		if err := s.unmake(ctx, k, take, s.scripts.unbundle, []string{k.bundles(action, worker), k.held(action, worker)}, take, ""); err != nil {
			return err
		}
	}
	return nil
}

// unmake runs a script that makes of a bundle what claim.lua would have made: from and to
// are the keys where it stands and where its firings are to be, name what it is called in
// from; with bad it goes into quarantine.
func (s *Store) unmake(ctx context.Context, k *shardKeys, take string, script *script, fromTo []string, name, bad string) error {
	for {
		keys := append(slices.Clone(fromTo), k.bundle(take), k.quarantine)
		firings, err := s.readBundle(ctx, k, take)
		if errors.Is(err, errBundle) {
			bad = "bad"
		} else if err != nil {
			return err
		}
		for i := range firings {
			keys = append(keys, k.firing(firings[i].id))
		}
		r, err := s.run(ctx, invocation{script: script, keys: keys, args: []string{name, bad}})
		if err != nil {
			return err
		}
		n, err := firstNumber(r)
		if err != nil {
			return err
		}
		if n == 2 {
			s.log.Error().Int("shard", k.id).Str("key", k.bundle(take)).Msg("firings were lost: someone deleted a bundle, or made another of it")
		}
		if n != 3 {
			return nil
		}
	}
}

// unbundleAll unbundles everything that a worker holds of an action.
func (s *Store) unbundleAll(ctx context.Context, k *shardKeys, action, worker string) error {
	fields, err := s.client.Do(ctx, s.client.B().Hkeys().Key(k.bundles(action, worker)).Build()).AsStrSlice()
	if err != nil {
		return err
	}
	return s.unbundle(ctx, k, action, worker, slices.DeleteFunc(fields, func(f string) bool { return f == bundleCount || strings.HasSuffix(f, bundleDone) }))
}

const (
	bundleCount = "#"
	bundleDone  = ":done"
)

// heldInBundles returns the receipts, but for their action, of what is unfinished of the
// bundles in the fields of bundles:<action>:<worker>.
func (s *Store) heldInBundles(ctx context.Context, k *shardKeys, fields map[string]string) (receipts []string, err error) {
	for take := range fields {
		if take == bundleCount || strings.HasSuffix(take, bundleDone) {
			continue
		}
		firings, err := s.readBundle(ctx, k, take) // none if it was finished meanwhile
		if err != nil && !errors.Is(err, errBundle) {
			return nil, err
		}
		if err != nil {
			continue // whoever wants a firing of it, finds that out
		}
		done := fields[take+bundleDone]
		for i, f := range firings {
			if strings.IndexByte(done, doneByte(i+1)) < 0 {
				receipts = append(receipts, take+"-"+strconv.Itoa(i+1)+"/"+strconv.Itoa(f.size))
			}
		}
	}
	return receipts, nil
}
