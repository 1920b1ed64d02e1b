package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

// A firing is two things in Redis. firing:<id> is the plan, as it stood before the
// claim: claim.lua renames the plan to it, or copies it, so that what a plan carries
// never passes through a script. An entry is what wanders from queue to worker and
// on; the scripts read and write it by position:
//
//	0af3…(32 digits) 241 1764192000 0 1 1 7 1764192060 3 1 some key
//	id, bytes of the plan, due second, missed, attempt, delivery, changes, next due
//	second (0: none), firings of the plan with this one, status of the plan, key
//
// changes is the shard's counter at the claim: a change of the plan since then has a
// greater number (see changed); -1 stands for a firing that was redriven and belongs
// to no plan any more.

var errFiring = errors.New("not a firing")

// firingEntry is what an entry says.
type firingEntry struct {
	id      string
	size    int
	firing  scheduler.Firing // without its plan
	next    int64
	fired   int
	status  scheduler.Status
	key     string
	changes int64
}

// entryNumbers is how many numbers stand between id and key.
const entryNumbers = 9

// parseEntry reads an entry.
func parseEntry(stored string) (e firingEntry, err error) {
	id, rest, ok := strings.Cut(stored, " ")
	if !ok || len(id) != 32 {
		return e, fmt.Errorf("%w: no id where it should stand", errFiring)
	}
	var numbers [entryNumbers]int64
	for i := range numbers {
		var text string
		if text, rest, ok = strings.Cut(rest, " "); !ok {
			return e, fmt.Errorf("%w: it ends after %d numbers", errFiring, i)
		}
		if numbers[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			return e, fmt.Errorf("%w: number %d is %s", errFiring, i+1, scheduler.Shorten(text, 64))
		}
	}
	return firingEntry{
		id: id, size: int(numbers[0]), changes: numbers[5], next: numbers[6], fired: int(numbers[7]), status: scheduler.Status(numbers[8]), key: rest,
		firing: scheduler.Firing{Due: numbers[1], Missed: int(numbers[2]), Attempt: int(numbers[3]), Delivery: int(numbers[4])},
	}, nil
}

// with returns the firing of an entry with its plan, as it was claimed.
func (e *firingEntry) with(stored string) (*scheduler.Firing, error) {
	p, err := decodePlan(e.key, stored)
	if err != nil {
		return nil, err
	}
	p.Due, p.Fired, p.LastDue, p.Status = e.next, e.fired, e.firing.Due, e.status
	f := e.firing
	f.Plan = p
	return &f, nil
}

// readFirings reads the plans of entries and makes firings of them; nil and the
// reason where that cannot be done.
func (s *Store) readFirings(ctx context.Context, k *shardKeys, entries []string) (fs []*scheduler.Firing, bad []error, err error) {
	fs, bad = make([]*scheduler.Firing, len(entries)), make([]error, len(entries))
	parsed := make([]firingEntry, len(entries))
	for from := 0; from < len(entries); {
		var keys []string
		to, size := from, 0
		for ; to < len(entries) && len(keys) < takeFirings && size < batchBytes; to++ {
			if parsed[to], bad[to] = parseEntry(entries[to]); bad[to] == nil {
				keys = append(keys, k.firing(parsed[to].id))
				size += parsed[to].size
			}
		}
		if len(keys) > 0 {
			plans, err := s.client.Do(ctx, s.client.B().Mget().Key(keys...).Build()).ToArray()
			if err != nil {
				return nil, nil, err
			}
			if len(plans) != len(keys) {
				return nil, nil, errReply
			}
			for i := from; i < to; i++ {
				if bad[i] == nil {
					fs[i], bad[i] = firingOf(&parsed[i], plans[0])
					plans = plans[1:]
				}
			}
		}
		from = to
	}
	return fs, bad, nil
}

func firingOf(e *firingEntry, plan rueidis.RedisMessage) (*scheduler.Firing, error) {
	stored, err := plan.ToString()
	if err != nil {
		return nil, fmt.Errorf("%w: there is no plan for it", errFiring)
	}
	return e.with(stored)
}

// A receipt is <action>/<take>-<n>/<bytes of the plan>; the middle is the field under
// which the worker's hash has the entry.
func takenAction(receipt string) (action, field string, ok bool) {
	name, field, ok := strings.Cut(receipt, "/")
	field, _, _ = strings.Cut(field, "/")
	return actionNamed(name), field, ok
}

// receiptSize returns the bytes of the plan; -1 if the receipt does not say.
func receiptSize(receipt string) int {
	n, err := strconv.Atoi(receipt[strings.LastIndexByte(receipt, '/')+1:])
	if err != nil {
		return -1
	}
	return n
}

// sizeOf returns the bytes of the plan as an entry gives them.
func sizeOf(entry string) string {
	_, rest, _ := strings.Cut(entry, " ")
	size, _, _ := strings.Cut(rest, " ")
	return size
}

// collect deletes what is garbage. What it leaves for want of an
// answer the shard's leader collects.
func (s *Store) collect(ctx context.Context, k *shardKeys) {
	for range 100 {
		ids, err := s.client.Do(ctx, s.client.B().Lrange().Key(k.garbage).Start(0).Stop(batchPlans-1).Build()).AsStrSlice()
		if err != nil || len(ids) == 0 {
			return
		}
		keys := []string{k.garbage}
		for _, id := range ids {
			if strings.HasPrefix(id, "attempts:") {
				keys = append(keys, k.tag+id)
			} else {
				keys = append(keys, k.firing(id))
			}
		}
		if _, err := s.run(ctx, invocation{script: s.scripts.collect, keys: keys, args: ids}); err != nil || len(ids) < batchPlans {
			return
		}
	}
}
