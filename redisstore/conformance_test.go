package redisstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

var prefixes atomic.Int64

func testOptions(addr ...string) Options {
	o := DefaultOptions()
	o.Addresses, o.Prefix = addr, fmt.Sprintf("test%d", prefixes.Add(1))
	return o
}

// TestConformance runs the suite on one server, for one shard and for several,
// while the server forgets its scripts every second.
func TestConformance(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	flushScripts(t, server.Addr)
	for name, shards := range map[string][]int{"OneShard": {0}, "ManyShards": {0, 3, 7}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, storetest.Factory{Open: func(t *testing.T) storetest.Harness {
				o := testOptions(server.Addr)
				o.Shards = shards
				return harness(t, o)
			}})
		})
	}
}

// TestConformanceCluster runs it on a Cluster of three masters, which forget
// theirs, too.
func TestConformanceCluster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, 0)
	flushScripts(t, c.Addrs()...)
	storetest.Run(t, storetest.Factory{Open: func(t *testing.T) storetest.Harness {
		o := testOptions(c.Addrs()...)
		o.Cluster, o.Shards = true, []int{0, 1, 2, 3}
		return harness(t, o)
	}})
}

// flushScripts has servers forget their scripts every second, until the test ends.
func flushScripts(t *testing.T, addrs ...string) {
	t.Helper()
	done := make(chan struct{})
	var wg sync.WaitGroup
	t.Cleanup(func() { close(done); wg.Wait() })
	wg.Go(func() {
		for {
			for _, addr := range addrs {
				if _, err := redistest.Try(addr, "SCRIPT", "FLUSH", "SYNC"); err != nil {
					t.Errorf("SCRIPT FLUSH on %s: %v", addr, err)
				}
			}
			select {
			case <-done:
				return
			case <-time.After(time.Second):
			}
		}
	})
}

func harness(t *testing.T, o Options) storetest.Harness {
	t.Helper()
	open := func() *Store {
		s, err := Open(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	s := open()
	h := storetest.Harness{Store: s, Peer: open()}
	h.Reopen = func() scheduler.Store { s.Close(); s = open(); return s }
	h.Corrupt = func(p *scheduler.Plan) {
		key := s.shardOf(p.Key).plan(p.Key)
		garbage := []string{"garbage", `{"revision":"` + p.Revision.String() + `","next_time":17 `}[prefixes.Add(1)%2]
		if err := s.client.Do(context.Background(), s.client.B().Set().Key(key).Value(garbage).Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	h.Orphan = func(p *scheduler.Plan) {
		if err := s.client.Do(context.Background(), s.client.B().Del().Key(s.shardOf(p.Key).plan(p.Key)).Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	return h
}
