package main

import (
	"context"
	"encoding/binary"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
)

// asynqWorkers is how many tasks asynq runs at a time. More are no faster: each of its
// workers takes one task a command.
const asynqWorkers = 64

// newAsynq is hibiken/asynq as its documents have it, looking for what is due each second
// (its default is 5 s).
func newAsynq() *contestant {
	return &contestant{
		name: "asynq", note: "64 workers, looks for due tasks every second",
		works: []string{create, burst, steady200, steady2000},
		ready: func() error { _, err := exec.LookPath("redis-server"); return err },
		once:  runAsynq,
	}
}

func runAsynq(ctx context.Context, t task) (f figures, err error) {
	server, err := startRedis(ctx)
	if err != nil {
		return f, err
	}
	defer server.stop()
	opt := asynq.RedisClientOpt{Addr: server.addr, PoolSize: asynqWorkers + 8}
	client := asynq.NewClient(opt)
	defer client.Close()

	fill := func(clients int, due func(i int) time.Time) error {
		return spread(ctx, clients, t.jobs, func(i int) error {
			body := make([]byte, payloadBytes)
			binary.BigEndian.PutUint64(body, uint64(i))
			_, err := client.EnqueueContext(ctx, asynq.NewTask("bench", body), asynq.ProcessAt(due(i)))
			return err
		})
	}
	if t.work == create {
		far := time.Now().Add(8 * time.Hour)
		return timed(t, func() error { return fill(createClients, func(int) time.Time { return far }) })
	}
	return server.drained(ctx, t, usualSpeed, func(first int64) error {
		return fill(64, func(i int) time.Time { return time.Unix(t.due(first, i), 0) })
	}, func(first int64) (f figures, err error) {
		r := newRuns(t, first)
		workers := asynq.NewServer(opt, asynq.Config{
			Concurrency: asynqWorkers, DelayedTaskCheckInterval: time.Second, LogLevel: asynq.FatalLevel, ShutdownTimeout: time.Second,
		})
		if err := workers.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
			r.note(int(binary.BigEndian.Uint64(task.Payload())))
			return nil
		})); err != nil {
			return f, err
		}
		defer workers.Shutdown()
		if err := r.wait(ctx); err != nil {
			return f, err
		}
		return r.figures(r.onTheSecond), nil
	})
}

// spread calls do for 0 to n-1 from several goroutines, until one fails.
func spread(ctx context.Context, goroutines, n int, do func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// timed is the figures of storing a task's jobs.
func timed(t task, fill func() error) (f figures, err error) {
	begun := time.Now()
	err = fill()
	f.Seconds = time.Since(begun).Seconds()
	f.PerSecond = float64(t.jobs) / f.Seconds
	return f, err
}
