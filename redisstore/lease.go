package redisstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

const (
	// leaseMargin is the part of a lease that its holder does not trust: Redis' clock
	// may run faster than its own.
	leaseMargin = 0.1
	// bidTimeout is the part of a lease that an attempt to get it may take: what comes
	// later is hardly worth having.
	bidTimeout = 0.3
	// renewTimeout is the part of a lease that an attempt to renew it may take.
	renewTimeout = 1.0 / 3
	// A lease is stuck that nobody renews for stuckFactor times its life, by at least
	// stuckLooks looks.
	stuckFactor = 3
	stuckLooks  = 5
)

var (
	scriptTerm   = loadScript("term")
	scriptElect  = loadScript("elect")
	scriptResign = loadScript("resign")
	scriptUnseat = loadScript("unseat")
)

// leaseValue makes the value of a new lease.
func leaseValue(term uint64, replica string) string {
	var b [8]byte
	rand.Read(b[:]) // never fails: see crypto/rand
	return strconv.FormatUint(term, 10) + ":" + replica + ":" + hex.EncodeToString(b[:])
}

// parseLease reads term and replica of a lease; 0 and "" of what is none.
func parseLease(value string) (term uint64, replica string) {
	first, last := strings.IndexByte(value, ':'), strings.LastIndexByte(value, ':')
	if first < 0 || last == first {
		return 0, ""
	}
	term, err := strconv.ParseUint(value[:first], 10, 64)
	if err != nil {
		return 0, ""
	}
	return term, value[first+1 : last]
}

// Campaign bids for the lease of a shard.
//
// The term is drawn first, and the lease given only to the newest term (elect.lua):
// of several who bid at once the one that drew last gets it, so that terms never go
// back. Redis keeps the term for ever, so that this holds whatever becomes of leases.
func (s *Store) Campaign(ctx context.Context, shard int, replica string) (scheduler.Lease, error) {
	l, err := s.campaign(ctx, shard, replica)
	return l, storeError("campaign, shard "+strconv.Itoa(shard), err)
}

func (s *Store) campaign(ctx context.Context, shard int, replica string) (none scheduler.Lease, err error) {
	leave, err := s.enter()
	if err != nil {
		return none, err
	}
	defer leave()
	k := s.shards[shard]
	if k == nil {
		return none, fmt.Errorf("%w: there is no such shard", scheduler.ErrStore)
	}
	vacant, left, err := s.lookAtLease(ctx, k)
	if err != nil {
		return none, err
	}
	if !vacant {
		return none, &scheduler.LeaseHeldError{Left: left}
	}
	r, err := s.run(ctx, invocation{script: scriptTerm, keys: []string{k.term}})
	if err != nil {
		return none, err
	}
	numbers, err := r.numbers(1)
	if err != nil {
		return none, err
	}
	term := uint64(numbers[0])
	m := s.mutex(k, leaseValue(term, replica))
	if err := m.TryLockContext(ctx); err != nil {
		if err := lockError(err); err != nil {
			return none, outOfTime(ctx, err)
		}
		return none, scheduler.ErrLeaseHeld
	}
	return scheduler.Lease{Shard: shard, Term: term, Value: m.Value(), Until: m.Until()}, nil
}

// Renew prolongs a lease.
func (s *Store) Renew(ctx context.Context, l scheduler.Lease) (scheduler.Lease, error) {
	next, err := s.renew(ctx, l)
	if err != nil {
		return scheduler.Lease{}, storeError("renew, shard "+strconv.Itoa(l.Shard), err)
	}
	return next, nil
}

func (s *Store) renew(ctx context.Context, l scheduler.Lease) (scheduler.Lease, error) {
	leave, err := s.enter()
	if err != nil {
		return l, err
	}
	defer leave()
	k := s.shards[l.Shard]
	if k == nil || l.Value == "" {
		return l, scheduler.ErrFenced
	}
	bounded, cancel := context.WithTimeout(ctx, time.Duration(float64(s.opts.LeaseTTL)*renewTimeout))
	defer cancel()
	m := s.mutex(k, l.Value)
	if ok, err := m.ExtendContext(bounded); !ok {
		if err := lockError(err); err != nil {
			return l, outOfTime(ctx, err)
		}
		return l, scheduler.ErrFenced
	}
	l.Until = m.Until()
	return l, nil
}

// Resign gives a lease up and tells the others. If it is not the current one it
// answers scheduler.ErrFenced.
func (s *Store) Resign(ctx context.Context, l scheduler.Lease) error {
	return storeError("resign, shard "+strconv.Itoa(l.Shard), s.resign(ctx, l))
}

func (s *Store) resign(ctx context.Context, l scheduler.Lease) error {
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	k := s.shards[l.Shard]
	if k == nil || l.Value == "" {
		return scheduler.ErrFenced
	}
	r, err := s.run(ctx, invocation{
		script: scriptResign,
		keys:   []string{k.leader},
		args:   []string{l.Value, s.keys.events(s.opts.DB), vacantEvent(l.Shard)},
	})
	if err == nil && r.status != 0 {
		err = scheduler.ErrFenced
	}
	return err
}

// stuckWatch is what this replica has seen of leases that it does not hold, by
// shard.
type stuckWatch struct {
	mu   sync.Mutex
	seen map[int]*seenLease
}

// seenLease is a lease since it was first seen, or last seen to be renewed. Times
// are monotonic.
type seenLease struct {
	value string
	since time.Time
	ends  time.Time // when it should run out, by the look that said the earliest
	looks int
}

// lookAtLease tells whether a shard's lease is vacant, and how long it lives else. A
// lease that stands still for longer than it can last is made vacant: Redis' clock was
// set back, and until it has caught up nobody would lead. The clock here is this
// process's monotonic one.
func (s *Store) lookAtLease(ctx context.Context, k *shardKeys) (vacant bool, left time.Duration, err error) {
	b := s.client.B()
	answers := s.client.DoMulti(ctx, b.Get().Key(k.leader).Build(), b.Pttl().Key(k.leader).Build())
	value, err := answers[0].ToString()
	if rueidis.IsRedisNil(err) {
		s.stuck.forget(k.id)
		return true, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	ms, err := answers[1].AsInt64()
	if err != nil {
		return false, 0, err
	}
	left = time.Duration(max(ms, 0)) * time.Millisecond // −2: gone meanwhile
	if ms == -1 {                                       // for ever
		left = s.opts.LeaseTTL
	}
	if !s.stuck.look(k.id, value, ms, s.opts.LeaseTTL, time.Now()) {
		return false, left, nil
	}
	r, err := s.run(ctx, invocation{script: scriptUnseat, keys: []string{k.leader}, args: []string{value, strconv.FormatInt(ms, 10)}})
	if err != nil || r.status != 0 {
		return false, left, err
	}
	s.stuck.forget(k.id)
	term, replica := parseLease(value)
	s.log.Warn().Int("shard", k.id).Uint64("term", term).Str("replica", replica).Dur("left_ms", left).
		Msg("a lease that nobody renewed did not run out (was the clock of Redis set back?): taken away")
	return true, 0, nil
}

// look notes a look at a lease with left milliseconds left (−1: for ever), and tells
// whether it is stuck.
//
// What shows that a lease lives is that it ends later than it was to end before: so
// it also shows to a replica that was paused meanwhile, or that looks as often as
// the holder renews.
func (w *stuckWatch) look(shard int, value string, left int64, ttl time.Duration, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	ends := now.Add(time.Duration(left) * time.Millisecond)
	l := w.seen[shard]
	if l == nil || l.value != value || left >= 0 && ends.Sub(l.ends) > ttl/10 {
		if w.seen == nil {
			w.seen = make(map[int]*seenLease)
		}
		w.seen[shard] = &seenLease{value: value, since: now, ends: ends, looks: 1}
		return false
	}
	if ends.Before(l.ends) {
		l.ends = ends
	}
	l.looks++
	return l.looks >= stuckLooks && now.Sub(l.since) >= stuckFactor*ttl
}

func (w *stuckWatch) forget(shard int) {
	w.mu.Lock()
	delete(w.seen, shard)
	w.mu.Unlock()
}
