package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/snower/forsun/cmd/redisflags"
	"github.com/snower/forsun/redisstore"
	"github.com/snower/forsun/scheduler"
)

// Drivers.
const (
	driverMem   = "mem"
	driverRedis = "redis"
)

// prefixFlag is the one flag of forsund that a benchmark has not: it works under a prefix of
// its own, which it removes.
const prefixFlag = "driver-redis-prefix"

// eraseTimeout bounds removing what a benchmark has left.
const eraseTimeout = 2 * time.Minute

// openTimeout bounds waiting for a Redis that does not answer.
const openTimeout = 5 * time.Second

// redisFlags are forsund's flags for a store on Redis.
func redisFlags() (all []cli.Flag) {
	for _, f := range redisflags.Flags() {
		switch {
		case f.Name == prefixFlag:
		case f.Value == "":
			all = append(all, &cli.BoolFlag{Name: f.Name, Usage: f.Usage})
		default:
			all = append(all, &cli.StringFlag{Name: f.Name, Value: f.Fallback, Usage: f.Usage})
		}
	}
	return all
}

// setRedis reads the flags.
func (o *options) setRedis(c *cli.Context) error {
	for _, f := range redisflags.Flags() {
		var value string
		switch {
		case f.Name == prefixFlag:
			value = o.redisPrefix
		case f.Value == "":
			value = fmt.Sprint(c.Bool(f.Name))
		default:
			value = c.String(f.Name)
		}
		if value == "" && !c.IsSet(f.Name) {
			continue
		}
		if err := f.Set(&o.redis, value); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return o.redis.Check()
}

func (o *options) openRedis(ctx context.Context) (*redisstore.Store, error) {
	so, err := o.redis.Options()
	if err != nil {
		return nil, err
	}
	so.Log = o.log().Level(zerolog.ErrorLevel) // that the server keeps nothing is no news here
	so.Replica = "bench-" + o.role
	ctx, cancel := context.WithTimeout(ctx, openTimeout) // a benchmark does not wait for a server
	defer cancel()
	store, err := redisstore.Open(ctx, so)
	o.opened = o.opened || err == nil
	return store, err
}

// erase removes what a benchmark has left in Redis, also if it was interrupted.
func (o *options) erase(ctx context.Context) error {
	if !o.opened {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), eraseTimeout)
	defer cancel()
	store, err := o.openRedis(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	return store.Erase(ctx)
}

// packedFor is how long Redis' memory is watched for it to become less.
const packedFor = 15 * time.Second

// packed waits until the leaders have packed the index, which shows in Redis' memory alone,
// and returns how much that is.
func (o *options) packed(ctx context.Context, store scheduler.Store) (least int64, err error) {
	const little, every = 64 << 10, 500 * time.Millisecond
	bar := o.bar(int(packedFor/every), "packing, until Redis' memory stays")
	defer bar.Exit()
	for same := 0; same < int(packedFor/every); same++ {
		bytes, err := o.memory(ctx, store)
		if err != nil {
			return least, err
		}
		if least == 0 || bytes < least-little {
			least, same = bytes, 0
		}
		bar.Set(same)
		select {
		case <-ctx.Done():
			return least, context.Cause(ctx)
		case <-time.After(every):
		}
	}
	return least, nil
}

// memory is what Redis uses, 0 of another store.
func (o *options) memory(ctx context.Context, store scheduler.Store) (int64, error) {
	if s, ok := store.(*redisstore.Store); ok {
		return s.Memory(ctx)
	}
	return 0, nil
}
