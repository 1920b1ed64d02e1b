package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

const (
	// connectEvery is how soon Redis is tried again that does not answer.
	connectEvery = 500 * time.Millisecond
	// sayEvery is how often it is said that it still does not.
	sayEvery = 10 * time.Second
	// oldestRedis is the version that brought script flags.
	oldestRedis = 7
)

// link is what a Store has of its connection to Redis.
type link struct {
	events rueidis.Client // for the channel

	topology atomic.Pointer[topology] // of a Cluster
	slots    map[int]int64            // of a Cluster, by shard
	moved    chan struct{}            // the topology is not what it was
	nodes    nodes

	// state counts the calls under way, and is negative once the store is closed.
	state   atomic.Int64
	leave   func()        // s.left, made once
	idle    chan struct{} // closed when it is closed and no call is under way
	idleNow sync.Once
	misfit  atomic.Pointer[error] // the layout is not ours: why
	stuck   stuckWatch

	able      schemaRange
	effective atomic.Pointer[inEffect] // nil: the layout was not read yet
	raisingMu sync.Mutex
	raising   raising

	announced announced
	server    serverSeen

	stop  context.CancelFunc // of what follows
	life  context.Context    // ends with Close
	tasks sync.WaitGroup     // background goroutines
}

// closedState is far below any number of calls.
const closedState = -1 << 40

// Open connects to Redis. While it does not answer Open waits, until ctx ends, and
// says so; it fails at once if Redis answers and will not do: too old, wrong login, a
// part of a Cluster where none was meant, another layout (scheduler.ErrLayout).
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("options of the Redis store: %w", err)
	}
	o.Shards = slices.Clone(o.Shards)
	s := &Store{opts: o, log: o.Log}
	s.prepare()
	s.link.leave, s.idle, s.moved = s.left, make(chan struct{}), make(chan struct{}, 1)
	s.life, s.stop = context.WithCancel(context.Background())
	if err := s.open(ctx); err != nil {
		s.stop()
		s.closeClients()
		return nil, fmt.Errorf("open Redis store %s: %w%s", o.where(), err, o.remedy(err))
	}
	s.warn(ctx)
	if o.Cluster {
		s.tasks.Go(func() { s.followTopology(s.life) })
	}
	return s, nil
}

// where names the deployment for messages.
func (o *Options) where() string {
	all := strings.Join(o.Addresses, ",")
	switch {
	case o.Cluster:
		return "cluster " + all
	case o.Sentinel.Master != "":
		return "master " + o.Sentinel.Master + " of sentinels " + all
	}
	return all + "/" + strconv.Itoa(o.DB)
}

// remedy names the flags that decide about an answer of Redis, for Redis does not.
func (o *Options) remedy(err error) string {
	var e *rueidis.RedisError
	if !errors.As(err, &e) {
		return ""
	}
	starts := func(with string) bool { return strings.HasPrefix(e.Error(), with) }
	of := ""
	if o.Sentinel.Master != "" {
		of = "; of the sentinels: --driver-redis-sentinel-user and --driver-redis-sentinel-password"
	}
	switch {
	case starts("NOAUTH"):
		return " (it wants a login: --driver-redis-password or --driver-redis-password-file, and --driver-redis-user" + of + ")"
	case starts("WRONGPASS"), starts("AUTH"):
		return " (the login is that of --driver-redis-user and --driver-redis-password" + of + ")"
	case starts("NOPERM"):
		return " (this user needs more: the README, \"A fleet on Redis\", says what)"
	case starts("DB index"), starts("invalid DB index"):
		return " (--driver-redis-db)"
	}
	return ""
}

// open tries until Redis answers.
func (s *Store) open(ctx context.Context) error {
	var said time.Time
	for {
		err := s.tryOpen(ctx)
		if err == nil {
			if !said.IsZero() {
				s.log.Info().Str("redis", s.opts.where()).Msg("Redis answers")
			}
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		if isFinal(err) {
			return err
		}
		if time.Since(said) >= sayEvery {
			said = time.Now()
			s.log.Warn().Err(err).Str("redis", s.opts.where()).Msg("Redis does not answer; waiting for it")
		}
		if sleep(ctx, connectEvery) != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// tryOpen goes as far as it gets; what stands is not done again.
func (s *Store) tryOpen(ctx context.Context) error {
	if s.client == nil {
		c, err := connect(s.opts.clientOption())
		if err != nil {
			return err
		}
		s.client = &client{c, s.opts.Cluster}
	}
	if err := s.checkServer(ctx); err != nil {
		return err
	}
	if s.opts.Cluster {
		if err := s.learnTopology(ctx); err != nil {
			return err
		}
		s.slots = make(map[int]int64)
		for id, k := range s.shards {
			s.slots[id] = slotOf(s.client, k.leader)
		}
	}
	if _, err := s.checkLayout(ctx); err != nil {
		return err
	}
	if s.events == nil {
		c, err := connect(s.opts.eventsOption())
		if err != nil {
			return err
		}
		s.events = c
	}
	return nil
}

// finalError is an answer that will be the same the next time.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// isFinal tells whether to wait is no use.
func isFinal(err error) bool {
	var f finalError
	if errors.As(err, &f) || errors.Is(err, scheduler.ErrLayout) {
		return true
	}
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	if errors.As(err, &certificate) || errors.As(err, &record) {
		return true
	}
	var e *rueidis.RedisError
	if !errors.As(err, &e) {
		return false
	}
	// The library takes off "ERR ".
	for _, answer := range []string{"WRONGPASS", "NOAUTH", "NOPERM", "WRONGTYPE", "AUTH", "DB index", "invalid DB index", "This instance has cluster support disabled"} {
		if strings.HasPrefix(e.Error(), answer) {
			return true
		}
	}
	return false
}

// checkServer asks Redis what it is. HELLO is allowed to everyone, INFO is not.
func (s *Store) checkServer(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	fields, err := s.client.Do(bounded, s.client.B().Arbitrary("HELLO").Build()).AsMap()
	if err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	text := func(name string) string {
		m := fields[name]
		v, _ := m.ToString()
		return v
	}
	version, mode := text("version"), text("mode")
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err != nil || n < oldestRedis {
		return finalError{fmt.Errorf("its version is %q, needed is %d.0 or later", version, oldestRedis)}
	}
	switch {
	case mode == "sentinel":
		return finalError{errors.New("it is a sentinel: the name of the master is needed, too")}
	case s.opts.Cluster && mode != "cluster":
		return finalError{errors.New("it is not part of a Cluster")}
	case !s.opts.Cluster && mode == "cluster":
		return finalError{errors.New("it is part of a Cluster, and must be connected to as such")}
	case mode == "standalone" && text("role") == "replica":
		return errors.New("it is a replica, which takes no writes: its master is needed, or Sentinel to find it")
	}
	return nil
}

// enter lets a call in; it calls leave when it is done with Redis. The error is
// scheduler.ErrClosed, or scheduler.ErrLayout.
func (s *Store) enter() (leave func(), err error) {
	leave, err = s.enterAnyLayout()
	if err != nil {
		return nil, err
	}
	if why := s.misfit.Load(); why != nil {
		leave()
		return nil, *why
	}
	return leave, nil
}

// enterAnyLayout lets a call in also while the layout is not this replica's.
func (s *Store) enterAnyLayout() (leave func(), err error) {
	if s.state.Add(1) < 0 {
		s.left()
		return nil, scheduler.ErrClosed
	}
	return s.link.leave, nil
}

func (s *Store) left() {
	if s.state.Add(-1) == closedState {
		s.idleNow.Do(func() { close(s.idle) })
	}
}

// ShardIDs returns the ids of the deployment's shards.
func (s *Store) ShardIDs() []int { return slices.Clone(s.ids) }

// Close ends all watching, waits for the calls under way, takes this replica off the
// list, and disconnects. A second call does nothing.
func (s *Store) Close() error {
	for {
		n := s.state.Load()
		if n < 0 {
			return nil
		}
		if s.state.CompareAndSwap(n, n+closedState) {
			if n == 0 {
				s.idleNow.Do(func() { close(s.idle) })
			}
			break
		}
	}
	s.stop()
	<-s.idle
	s.tasks.Wait()
	s.depart()
	s.closeClients()
	return nil
}

func (s *Store) closeClients() {
	if s.client != nil {
		s.client.Close()
	}
	if s.events != nil {
		s.events.Close()
	}
}
