package rpc

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/snower/forsun/rpc/client"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/memstore"
)

// newBenchServer serves an embedded store on disk, synced.
func newBenchServer(b *testing.B) string {
	opts := memstore.DefaultOptions()
	opts.Dir = b.TempDir()
	store, err := memstore.Open(opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	return serve(b, NewServer(newService(b, store), DefaultOptions()))
}

func benchRequest(n int64) scheduler.Request {
	return scheduler.Request{
		Key: fmt.Sprintf("bench:%010d", n), Action: "noop",
		Params:   map[string]string{"body": "0123456789012345678901234567890123456789012345678901234567890123456789"},
		Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 86400, Count: 1},
	}
}

// BenchmarkCreate creates plans one a call over 16 Thrift connections.
func BenchmarkCreate(b *testing.B) {
	addr := newBenchServer(b)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range 16 {
		wg.Go(func() {
			c := client.New(client.DefaultOptions(addr))
			defer c.Close()
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				if _, err := c.Create(context.Background(), benchRequest(n)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "plans/s")
}

// BenchmarkCreateMany creates plans 1000 a call over 4 connections.
func BenchmarkCreateMany(b *testing.B) {
	addr := newBenchServer(b)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range 4 {
		wg.Go(func() {
			c := client.New(client.DefaultOptions(addr))
			defer c.Close()
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				many := make([]scheduler.Request, 1000)
				for i := range many {
					many[i] = benchRequest(n*1000 + int64(i))
				}
				if _, err := c.CreateMany(context.Background(), many); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "plans/s")
}
