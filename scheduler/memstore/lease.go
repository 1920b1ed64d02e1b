package memstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/snower/forsun/scheduler"
)

const (
	// leaseTTL is how long a lease lasts that is not renewed; leaseMargin is how
	// much earlier its holder stops to trust it. See DESIGN 7.
	leaseTTL    = 2500 * time.Millisecond
	leaseMargin = 250 * time.Millisecond
	// replicaTTL is how long a replica that no longer announces itself is shown.
	replicaTTL = 30 * time.Second
)

// leases is the one lease there is. It lives in memory, since nobody outlives the
// process who could hold it; the term is stored.
type leases struct {
	mu       sync.Mutex
	term     uint64
	value    string // "" if vacant
	replica  string
	until    time.Time // monotonic
	replicas map[string]scheduler.Replica
}

func (l *leases) init() { l.replicas = make(map[string]scheduler.Replica) }

// current tells whether a lease is held now. l.mu is held.
func (l *leases) current() bool { return l.value != "" && time.Now().Before(l.until) }

// check fails with ErrFenced if x is not the current lease.
func (l *leases) check(x scheduler.Lease) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if x.Shard != shardID || x.Value == "" || x.Value != l.value || !l.current() {
		return scheduler.ErrFenced
	}
	return nil
}

// ShardIDs returns 0, the only shard.
func (s *Store) ShardIDs() []int { return []int{shardID} }

// Campaign bids for the lease.
func (s *Store) Campaign(ctx context.Context, shard int, replica string) (scheduler.Lease, error) {
	if shard != shardID {
		return scheduler.Lease{}, fmt.Errorf("campaign: %w: there is no shard %d, only %d", scheduler.ErrStore, shard, shardID)
	}
	start := time.Now()
	var got scheduler.Lease
	_, err := s.submit(&request{ctx: ctx, sync: true, run: func(t *txn) error {
		l := &s.leases
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.current() {
			return scheduler.ErrLeaseHeld
		}
		l.term++
		l.value, l.replica = leaseValue(l.term, replica), replica
		// Its holder counts from its own start, which was earlier.
		l.until = time.Now().Add(leaseTTL)
		t.set([]byte(metaTerm), binary.AppendUvarint(nil, l.term))
		got = scheduler.Lease{Shard: shardID, Term: l.term, Value: l.value, Until: start.Add(leaseTTL - leaseMargin)}
		return nil
	}})
	if err != nil {
		return scheduler.Lease{}, fmt.Errorf("campaign, shard %d: %w", shard, err)
	}
	return got, nil
}

func leaseValue(term uint64, replica string) string {
	var b [8]byte
	rand.Read(b[:]) // never fails: see crypto/rand
	return strconv.FormatUint(term, 10) + ":" + replica + ":" + hex.EncodeToString(b[:])
}

// Renew prolongs the lease.
func (s *Store) Renew(ctx context.Context, x scheduler.Lease) (scheduler.Lease, error) {
	start := time.Now()
	leave, err := s.enter(ctx)
	if err != nil {
		return scheduler.Lease{}, err
	}
	defer leave()
	l := &s.leases
	l.mu.Lock()
	defer l.mu.Unlock()
	if x.Shard != shardID || x.Value == "" || x.Value != l.value || !l.current() {
		return scheduler.Lease{}, fmt.Errorf("renew, shard %d: %w", x.Shard, scheduler.ErrFenced)
	}
	l.until = time.Now().Add(leaseTTL)
	x.Until = start.Add(leaseTTL - leaseMargin)
	return x, nil
}

// Resign gives the lease up.
func (s *Store) Resign(ctx context.Context, x scheduler.Lease) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	l := &s.leases
	l.mu.Lock()
	resigned := x.Shard == shardID && x.Value != "" && x.Value == l.value
	if resigned {
		l.value, l.replica = "", ""
	}
	l.mu.Unlock()
	if resigned {
		s.watch.vacant()
	}
	return nil
}

// Announce publishes a replica and returns those seen lately, by id. It never
// fails with ErrReplicaTaken: the directory's lock keeps other processes out.
func (s *Store) Announce(ctx context.Context, r scheduler.Replica) ([]scheduler.Replica, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	l := &s.leases
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Seen = s.opts.Now()
	r.Leads = slices.Clone(r.Leads)
	l.replicas[r.ID] = r
	return l.live(r.Seen), nil
}

// Replicas returns those seen lately, by id: this process, under every id it
// announced itself.
func (s *Store) Replicas(ctx context.Context) ([]scheduler.Replica, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	l := &s.leases
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.live(s.opts.Now()), nil
}

// live returns the replicas seen lately and forgets the others. l.mu is held.
func (l *leases) live(now time.Time) (all []scheduler.Replica) {
	for id, r := range l.replicas {
		if now.Sub(r.Seen) > replicaTTL {
			delete(l.replicas, id)
			continue
		}
		r.Leads = slices.Clone(r.Leads)
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b scheduler.Replica) int { return compare(a.ID, b.ID) })
	return all
}

// Now is the store's clock.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return time.Time{}, err
	}
	defer leave()
	return s.opts.Now(), nil
}
