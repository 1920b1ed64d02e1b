package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
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

// BenchmarkCreate creates plans one a call over 16 connections, with a client
// that costs as little as one can, since it shares the cores with the server.
func BenchmarkCreate(b *testing.B) { benchCalls(b, 1, createCall) }

func createCall(n int64) (send, want []byte) {
	r := benchRequest(n)
	params := slices.Concat([]byte{13, 0, 10, 11, 11, 0, 0, 0, 1}, str(0, "body")[3:], str(0, r.Params["body"])[3:])
	return call("createTimeout", uint32(n), str(1, r.Key), i16(2, 32000), str(9, r.Action), params),
		append(answered(2, "createTimeout", uint32(n)), 12, 0, 0)
}

// BenchmarkCreatePipelined is BenchmarkCreate with 16 calls under way on each connection.
func BenchmarkCreatePipelined(b *testing.B) { benchCalls(b, 16, createCall) }

// BenchmarkPing is BenchmarkCreate with nothing to do: the most calls there can be.
func BenchmarkPing(b *testing.B) {
	benchCalls(b, 1, func(n int64) (send, want []byte) {
		return call("ping", uint32(n)), append(answered(2, "ping", uint32(n)), 6, 0, 0)
	})
}

// benchCalls makes b.N calls over 16 connections, depth at a time on each, whose answers
// must begin as given and, if there are several, be as long as the first.
func benchCalls(b *testing.B, depth int64, nth func(n int64) (send, want []byte)) {
	addr := newBenchServer(b)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range 16 {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			size := 0 // of an answer
			reply := make([]byte, 8192)
			for {
				n := next.Add(depth) - depth
				if n >= int64(b.N) {
					return
				}
				var send []byte
				var wants [][]byte
				for i := range depth {
					one, want := nth(n + i)
					send, wants = append(send, one...), append(wants, want)
				}
				c.Write(send)
				got := 0
				for got == 0 || depth > 1 && (size == 0 || got < size*int(depth)) {
					more, err := c.Read(reply[got:])
					if err != nil {
						b.Error(err)
						return
					}
					if got += more; size == 0 { // the next answer begins as the first does
						if at := bytes.Index(reply[1:got], reply[:4]); at >= 0 {
							size = at + 1
						}
					}
				}
				for i, want := range wants {
					if !bytes.HasPrefix(reply[i*size:], want) {
						b.Errorf("got %q, want %q first", reply[i*size:got], want)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
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

// BenchmarkJSONRequests reads the bodies of bulk creates over HTTP, 1,000 plans each.
func BenchmarkJSONRequests(b *testing.B) {
	const plans = 1_000
	var list []map[string]any
	for i := range plans {
		list = append(list, map[string]any{
			"key": fmt.Sprintf("bench:%010d", i), "action": "http", "second": 3600, "count": 1,
			"params": map[string]string{"url": "http://127.0.0.1:8000/hook?id=12345", "method": "POST", "body": "0123456789"},
		})
	}
	body, err := json.Marshal(list)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if requests, err := jsonRequests(body, true); err != nil || len(requests) != plans {
			b.Fatal(len(requests), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/plans, "ns/plan")
}
