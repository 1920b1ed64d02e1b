package redisstore

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

const (
	// replicaTTL is how long a replica is shown that no longer announces itself, by
	// Redis' clock.
	replicaTTL = 15 * time.Second
	// departTimeout bounds what a replica says to Redis when it stops.
	departTimeout = time.Second
	// startedFormat sorts as text.
	startedFormat = "2006-01-02T15:04:05.000000000Z"
)

var (
	scriptAnnounce = loadScript("announce")
	scriptReplicas = loadScript("replicas")
	scriptDepart   = loadScript("depart")
)

// entry is a replica as it stands in Redis: see announce.lua, which writes the first
// two fields.
type entry struct {
	SeenMS   int64     `json:"seen_ms"`
	Started  time.Time `json:"started"`
	Address  string    `json:"address"`
	Version  string    `json:"version"`
	OffsetNS int64     `json:"offset_ns"`
	Leads    []int     `json:"leads"`
	Eager    bool      `json:"eager"`
	Actions  []string  `json:"actions"`
	Schema   int       `json:"schema"` // the newest it can work with; 0, before there was another: 1
}

// said is what is written after the first two fields.
type said struct {
	Address  string `json:"address"`
	Version  string `json:"version"`
	OffsetNS int64  `json:"offset_ns"`
	Leads    []int  `json:"leads"`
	Eager    bool   `json:"eager"`

	Actions []string `json:"actions,omitempty"`
	Schema  int      `json:"schema"`
}

// announced is what this process is known by, by id.
type announced struct {
	mu  sync.Mutex
	all map[string]ownEntry
}

type ownEntry struct {
	started string
	seen    int64 // by Redis' clock, ms
	at      time.Time
}

func (a *announced) get(id string) (ownEntry, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e, ok := a.all[id]
	return e, ok
}

func (a *announced) put(id string, e ownEntry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = make(map[string]ownEntry)
	}
	a.all[id] = e
}

// Announce publishes a replica and returns those seen lately, by id. On the way it
// looks whether Redis is what it was: its layout, its process, its clock.
func (s *Store) Announce(ctx context.Context, r scheduler.Replica) ([]scheduler.Replica, error) {
	all, err := s.announce(ctx, r)
	return all, storeError("announce replica "+r.ID, err)
}

func (s *Store) announce(ctx context.Context, r scheduler.Replica) ([]scheduler.Replica, error) {
	leave, err := s.enterAnyLayout()
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := s.watchLayout(ctx); err != nil {
		return nil, err
	}
	s.lookAtServers(ctx)
	rest, err := json.Marshal(said{r.Address, r.Version, int64(r.Offset), slices.Clone(r.Leads), r.Eager, r.Actions, s.able.newest})
	if err != nil {
		return nil, err
	}
	started, known := r.Started.UTC().Format(startedFormat), "0"
	before, ok := s.announced.get(r.ID)
	if ok && before.started == started {
		known = "1"
	}
	sent := time.Now()
	answer, err := s.run(ctx, invocation{
		script: scriptAnnounce,
		keys:   []string{s.keys.replicas()},
		args:   []string{r.ID, started, string(rest[1 : len(rest)-1]), strconv.FormatInt(replicaTTL.Milliseconds(), 10), known},
	})
	if err != nil {
		return nil, err
	}
	if answer.status != 0 {
		return nil, scheduler.ErrReplicaTaken
	}
	now, err := answer.numbers(1)
	if err != nil {
		return nil, fmt.Errorf("script announce: %w", err)
	}
	s.announced.put(r.ID, ownEntry{started: started, seen: now[0], at: sent})
	if known == "1" {
		s.lookAtClock(before, now[0])
	}
	all, least, err := readReplicas(answer.values[1:], now[0])
	if err != nil {
		return nil, err
	}
	if err := s.raise(ctx, least); err != nil {
		s.log.Debug().Err(err).Msg("will be tried again")
	}
	return all, nil
}

// clockSet is how far Redis' clock may be from where it was expected before it was
// set, and did not only drift.
const clockSet = 5 * time.Second

// lookAtClock notices that Redis' clock, which is at now, was set since this replica was
// seen before.
func (s *Store) lookAtClock(before ownEntry, now int64) {
	since := time.Duration(now-before.seen) * time.Millisecond
	if step := since - time.Since(before.at); step.Abs() > clockSet {
		// Others may have taken this replica off the list for it.
		s.log.Warn().Dur("by_ms", step).Msg("the clock of Redis was set")
	}
}

// Replicas returns those seen lately, by id.
func (s *Store) Replicas(ctx context.Context) ([]scheduler.Replica, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	answer, err := s.run(ctx, invocation{script: scriptReplicas, keys: []string{s.keys.replicas()}})
	if err != nil {
		return nil, storeError("list replicas", err)
	}
	now, err := answer.numbers(1)
	if err != nil {
		return nil, storeError("list replicas", err)
	}
	all, _, err := readReplicas(answer.values[1:], now[0])
	return all, storeError("list replicas", err)
}

// readReplicas reads id, entry, … and leaves out who was not seen lately. least is the
// schema that all of them can work with.
func readReplicas(values []rueidis.RedisMessage, now int64) (all []scheduler.Replica, least int, err error) {
	least = math.MaxInt
	for i := 0; i+1 < len(values); i += 2 {
		id, err := values[i].ToString()
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %w", errReply, err)
		}
		text, err := values[i+1].ToString()
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %w", errReply, err)
		}
		var e entry
		// What is no entry is nobody's.
		if json.Unmarshal([]byte(text), &e) != nil || (time.Duration(now-e.SeenMS)*time.Millisecond).Abs() > replicaTTL {
			continue
		}
		least = min(least, max(e.Schema, 1))
		all = append(all, scheduler.Replica{
			ID: id, Address: e.Address, Version: e.Version, Offset: time.Duration(e.OffsetNS), Leads: e.Leads, Eager: e.Eager, Actions: e.Actions,
			Started: e.Started, Seen: time.UnixMilli(e.SeenMS),
		})
	}
	slices.SortFunc(all, func(a, b scheduler.Replica) int { return strings.Compare(a.ID, b.ID) })
	return all, least, nil
}

// depart takes what this process announced off the list: others need not wait until it
// is not seen any more.
func (s *Store) depart() {
	ctx, cancel := context.WithTimeout(context.Background(), departTimeout)
	defer cancel()
	s.announced.mu.Lock()
	defer s.announced.mu.Unlock()
	for id, e := range s.announced.all {
		if _, err := s.run(ctx, invocation{script: scriptDepart, keys: []string{s.keys.replicas()}, args: []string{id, e.started}}); err != nil {
			s.log.Debug().Err(err).Str("replica", id).Msg("cannot take this replica off the list; it will be gone from it soon")
		}
	}
}
