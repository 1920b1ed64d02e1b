package redisstore

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

// What is said on the channel: a letter, a shard, and with "w" an action (none:
// any), with "p" a due second. Who publishes "w" and "p" are the scripts that
// make them.
func vacantEvent(shard int) string { return "v " + strconv.Itoa(shard) }

// parseEvent reads a message; false of one that this version does not know.
func parseEvent(message string) (e scheduler.Event, ok bool) {
	kind, rest, _ := strings.Cut(message, " ")
	number, rest, more := strings.Cut(rest, " ")
	shard, err := strconv.Atoi(number)
	if err != nil {
		return e, false
	}
	e.Shard = shard
	switch kind {
	case "w":
		e.Kind, e.Action = scheduler.EventWork, actionNamed(rest)
	case "p":
		e.Kind = scheduler.EventPlan
		e.Due, err = strconv.ParseInt(rest, 10, 64)
	case "v":
		e.Kind, more = scheduler.EventVacant, !more
	default:
		return e, false
	}
	return e, err == nil && (more || kind == "w")
}

var errUnsubscribed = errors.New("the subscription ended")

// pendingEvents is how many events may wait for who watches: beyond it the
// connection waits, and dies if it has to for long.
const pendingEvents = 1024

// Watch calls fn with the events of all replicas.
func (s *Store) Watch(ctx context.Context, fn func(scheduler.Event)) error {
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Close does not wait for who watches.
	defer context.AfterFunc(s.life, func() { cancel(scheduler.ErrClosed) })()

	events := make(chan scheduler.Event, pendingEvents)
	ended := make(chan error, 1)
	go func() { ended <- s.receive(ctx, events) }()
	for {
		select {
		case e := <-events:
			fn(e)
		case err := <-ended:
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return storeError("watch", err)
		}
	}
}

// receive sends what comes over the channel to events until the connection breaks or ctx
// ends.
func (s *Store) receive(ctx context.Context, events chan<- scheduler.Event) error {
	send := func(e scheduler.Event) {
		select {
		case events <- e:
		case <-ctx.Done():
		}
	}
	// It stands only once Redis has confirmed it, and what is said after that is
	// received.
	subscribed := rueidis.WithOnSubscriptionHook(ctx, func(p rueidis.PubSubSubscription) {
		if p.Kind == "subscribe" {
			send(scheduler.Event{Kind: scheduler.EventAll})
		}
	})
	err := s.events.Receive(subscribed, s.events.B().Subscribe().Channel(s.keys.events(s.opts.DB)).Build(), func(m rueidis.PubSubMessage) {
		if e, ok := parseEvent(m.Message); ok {
			send(e)
		}
	})
	if err == nil {
		err = errUnsubscribed
	}
	return err
}
