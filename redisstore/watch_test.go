package redisstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
)

// watching runs Watch and returns what it tells, and how it ended.
func watching(t *testing.T, ctx context.Context, s *Store) (events chan scheduler.Event, ended chan error) {
	t.Helper()
	events, ended = make(chan scheduler.Event, 100), make(chan error, 1)
	go func() { ended <- s.Watch(ctx, func(e scheduler.Event) { events <- e }) }()
	wantEvent(t, events, scheduler.Event{Kind: scheduler.EventAll})
	return events, ended
}

func wantEvent(t *testing.T, events chan scheduler.Event, want scheduler.Event) {
	t.Helper()
	select {
	case got := <-events:
		if got != want {
			t.Errorf("event %+v, want %+v", got, want)
		}
	case <-time.After(5 * time.Second):
		t.Fatalf("no event, want %+v", want)
	}
}

func wantEnd(t *testing.T, ended chan error, within time.Duration, want error) {
	t.Helper()
	select {
	case err := <-ended:
		if !errors.Is(err, want) {
			t.Errorf("Watch ended with %v, want %v", err, want)
		}
	case <-time.After(within):
		t.Fatalf("Watch has not ended after %v", within)
	}
}

func TestWatch(t *testing.T) {
	for _, resp2 := range []bool{false, true} {
		name := "RESP3"
		if resp2 {
			name = "RESP2"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			o := optionsFor(t, server.Addr)
			o.resp2, o.Shards, o.DB = resp2, []int{0, 1}, 2
			s, peer := openStore(t, o), openStore(t, o)
			ctx, cancel := context.WithCancel(testContext(t))
			defer cancel()
			events, ended := watching(t, ctx, s)
			again, _ := watching(t, ctx, peer)

			l := campaign(t, peer, "b", 5*time.Second)
			if err := peer.Resign(ctx, l); err != nil {
				t.Fatal(err)
			}
			wantEvent(t, events, scheduler.Event{Kind: scheduler.EventVacant})
			wantEvent(t, again, scheduler.Event{Kind: scheduler.EventVacant})
			for message, want := range map[string]scheduler.Event{
				"w 1 http":       {Kind: scheduler.EventWork, Shard: 1, Action: "http"},
				"w 0":            {Kind: scheduler.EventWork},
				"p 1 1764190000": {Kind: scheduler.EventPlan, Shard: 1, Due: 1764190000},
				"z 1":            {}, // of a newer version
				"p 1 x":          {},
				"p 1":            {},
				"v 1 more":       {},
				"":               {},
				"v":              {},
				"v 1":            {Kind: scheduler.EventVacant, Shard: 1},
			} {
				redistest.Do(t, server.Addr, "PUBLISH", s.keys.events(2), message)
				if want != (scheduler.Event{}) || message == "w 0" {
					wantEvent(t, events, want)
				}
			}
			redistest.Do(t, server.Addr, "PUBLISH", s.keys.events(0), "v 1") // of another database
			select {
			case e := <-events:
				t.Errorf("an event too many: %+v", e)
			case <-time.After(50 * time.Millisecond):
			}
			cancel()
			wantEnd(t, ended, 2*time.Second, context.Canceled)
		})
	}
}

func TestWatchEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr)
	s := openStore(t, optionsFor(t, proxy.Addr))
	ctx := testContext(t)
	_, ended := watching(t, ctx, s)
	proxy.Cut()
	wantEnd(t, ended, 2*time.Second, scheduler.ErrStore)
	if err := s.Watch(ctx, func(scheduler.Event) {}); !errors.Is(err, scheduler.ErrStore) {
		t.Errorf("Watch without network: %v, want ErrStore", err)
	}
	proxy.Heal()
	events, ended := watching(t, ctx, s)
	redistest.Do(t, server.Addr, "PUBLISH", s.keys.events(0), "v 0")
	wantEvent(t, events, scheduler.Event{Kind: scheduler.EventVacant})

	proxy.Hole() // nothing comes any more, and nothing says so
	wantEnd(t, ended, 8*time.Second, scheduler.ErrStore)
	proxy.Heal()
	_, ended = watching(t, ctx, s)
	go s.Close()
	wantEnd(t, ended, 2*time.Second, scheduler.ErrClosed)
}
