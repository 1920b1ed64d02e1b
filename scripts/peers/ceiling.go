package main

import (
	"context"
	_ "embed"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

var (
	//go:embed lua/claim_stream.lua
	claimStream string
	//go:embed lua/claim_lease.lua
	claimLease string
)

const (
	ceilingBatch = 100
	ceilingDepth = 4 // commands on their way to the server, so that it never waits
)

// newCeiling is what one Redis can do at all: the least that a claim, a queue and an
// acknowledgement are, on plain data, in batches, with no plan, no lease, no retry, no
// history and nobody else. Its way is a stream, or a sorted set of what is leased.
func newCeiling(way string) *contestant {
	return &contestant{
		name: "ceiling (" + way + ")", note: "scripts of 100 jobs: claim, enqueue, acknowledge, and nothing else",
		works: []string{burst},
		ready: func() error { _, err := exec.LookPath("redis-server"); return err },
		once: func(ctx context.Context, t task) (figures, error) {
			server, err := startRedis(ctx)
			if err != nil {
				return figures{}, err
			}
			defer server.stop()
			client := redis.NewClient(&redis.Options{Addr: server.addr, PoolSize: 4, ReadTimeout: 30 * time.Second, DisableIdentity: true})
			defer client.Close()
			return server.drained(ctx, t, usualSpeed, func(first int64) error {
				return ceilingFill(ctx, client, t.jobs, first)
			}, func(first int64) (figures, error) {
				time.Sleep(time.Until(time.Unix(first, 0)))
				begun := time.Now()
				var err error
				if way == "stream" {
					err = drainStream(ctx, client, t.jobs, first)
				} else {
					err = drainLease(ctx, client, t.jobs, first)
				}
				took := time.Since(begun).Seconds()
				return figures{Fired: t.jobs, Seconds: took, PerSecond: float64(t.jobs) / took}, err
			})
		},
	}
}

// ceilingFill stores jobs: when each is due, and what it carries.
func ceilingFill(ctx context.Context, client *redis.Client, n int, due int64) error {
	for from := 0; from < n; from += 1000 {
		var members []redis.Z
		var pairs []any
		for i := from; i < min(from+1000, n); i++ {
			key := fmt.Sprintf("job-%012d", i)
			members = append(members, redis.Z{Score: float64(due), Member: key})
			pairs = append(pairs, "plan:"+key, strings.Repeat("x", payloadBytes))
		}
		pipe := client.Pipeline()
		pipe.ZAdd(ctx, "schedule", members...)
		pipe.MSet(ctx, pairs...)
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// claims runs a claim script until nothing is left, ceilingDepth at a time, and hands
// what each claimed to then, which may add to what is sent with the next ones.
func claims(ctx context.Context, client *redis.Client, script string, due int64, then func(*redis.Cmd, redis.Pipeliner) (n int, err error)) error {
	sha, err := client.ScriptLoad(ctx, script).Result()
	if err != nil {
		return err
	}
	pipe := client.Pipeline()
	for left := true; left; {
		sent := make([]*redis.Cmd, ceilingDepth)
		for i := range sent {
			sent[i] = pipe.EvalSha(ctx, sha, []string{"schedule", "queue"}, due, ceilingBatch)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		for _, cmd := range sent {
			n, err := then(cmd, pipe)
			if err != nil {
				return err
			}
			left = n > 0
		}
	}
	_, err = pipe.Exec(ctx)
	return err
}

// drainStream claims into a stream on one connection, and takes and acknowledges on
// another.
func drainStream(ctx context.Context, client *redis.Client, n int, due int64) error {
	if err := client.XGroupCreateMkStream(ctx, "queue", "workers", "0").Err(); err != nil {
		return err
	}
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error {
		return claims(ctx, client, claimStream, due, func(cmd *redis.Cmd, _ redis.Pipeliner) (int, error) { return cmd.Int() })
	})
	both.Go(func() error {
		var ids []string // taken, and to be acknowledged with the next take
		for done := 0; done < n; {
			pipe := client.Pipeline()
			if len(ids) > 0 {
				pipe.XAck(ctx, "queue", "workers", ids...)
			}
			take := pipe.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "workers", Consumer: "w", Streams: []string{"queue", ">"}, Count: ceilingBatch, Block: -1})
			if _, err := pipe.Exec(ctx); err != nil && err != redis.Nil {
				return err
			}
			done += len(ids)
			ids = ids[:0]
			for _, stream := range take.Val() {
				for _, m := range stream.Messages {
					ids = append(ids, m.ID)
				}
			}
		}
		return nil
	})
	return both.Wait()
}

// drainLease is handed the jobs by the claim itself, which leases them, and gives the
// leases back.
func drainLease(ctx context.Context, client *redis.Client, n int, due int64) error {
	done := 0
	err := claims(ctx, client, claimLease, due, func(cmd *redis.Cmd, next redis.Pipeliner) (int, error) {
		jobs, err := cmd.Slice()
		if err != nil || len(jobs) == 0 {
			return 0, err
		}
		done += len(jobs) / 2
		next.ZRem(ctx, "queue", jobs[:len(jobs)/2]...)
		return len(jobs), nil
	})
	if err == nil && done != n {
		err = fmt.Errorf("%d of %d were drained", done, n)
	}
	return err
}
