package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-redsync/redsync/v4"
	lock "github.com/go-redsync/redsync/v4/redis"
)

// leaseConn is what redsync sees of Redis for the lease of one shard: a pool of one
// connection, and that connection. redsync's own adapter would do SET NX, which
// is refused when Redis is out of memory, just when firing would free some,
// and knows nothing of terms.
type leaseConn struct {
	s    *Store
	keys *shardKeys
	ctx  context.Context // of one call
}

var _ lock.Conn = leaseConn{}

// Get returns the connection for a call.
func (c leaseConn) pool() lock.Pool { return leasePool(c) }

type leasePool leaseConn

func (p leasePool) Get(ctx context.Context) (lock.Conn, error) {
	return leaseConn{s: p.s, keys: p.keys, ctx: ctx}, nil
}

// mutex is redsync's view of a lease: of value, or to be got with it.
func (s *Store) mutex(k *shardKeys, value string) *redsync.Mutex {
	return redsync.New(leaseConn{s: s, keys: k}.pool()).NewMutex(k.leader,
		redsync.WithExpiry(s.opts.LeaseTTL),
		// redsync trusts a lease until the start of the attempt + expiry − this part.
		redsync.WithDriftFactor(leaseMargin),
		redsync.WithTimeoutFactor(bidTimeout),
		redsync.WithGenValueFunc(func() (string, error) { return value, nil }),
		redsync.WithValue(value),
	)
}

// SetNX takes the lease if it is vacant and the term in value is the newest.
func (c leaseConn) SetNX(_, value string, expiry time.Duration) (bool, error) {
	term, _ := parseLease(value)
	r, err := c.s.run(c.ctx, invocation{
		script: scriptElect,
		keys:   []string{c.keys.leader, c.keys.term},
		args:   []string{value, strconv.FormatUint(term, 10), strconv.FormatInt(expiry.Milliseconds(), 10)},
	})
	return err == nil && r.status == 0, err
}

// Eval runs one of redsync's scripts, whether Redis has it or not.
func (c leaseConn) Eval(script *lock.Script, keysAndArgs ...any) (any, error) {
	words := make([]string, len(keysAndArgs))
	for i, w := range keysAndArgs {
		words[i] = fmt.Sprint(w)
	}
	keys, args := words[:script.KeyCount], words[script.KeyCount:]
	b := c.s.client.B()
	result := c.s.client.Do(c.ctx, b.Evalsha().Sha1(script.Hash).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build())
	if isNoScript(result.Error()) {
		result = c.s.client.Do(c.ctx, b.Eval().Script(script.Src).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build())
	}
	return result.AsInt64()
}

// Close has nothing to close.
func (c leaseConn) Close() error { return nil }

// What follows redsync does not use for what is asked of it here.

var errNotUsed = errors.New("not used for leases")

func (c leaseConn) Get(string) (string, error)         { return "", errNotUsed }
func (c leaseConn) Set(string, string) (bool, error)   { return false, errNotUsed }
func (c leaseConn) PTTL(string) (time.Duration, error) { return 0, errNotUsed }
func (c leaseConn) ScriptLoad(*lock.Script) error      { return errNotUsed }

// lockError is why redsync did not get, or not keep, a lease: nil if somebody else
// has it.
func lockError(err error) error {
	var taken *redsync.ErrTaken
	if errors.As(err, &taken) {
		return nil
	}
	// What Redis, or the way to it, said is within.
	var within *redsync.RedisError
	if errors.As(err, &within) {
		return within.Err
	}
	return err
}
