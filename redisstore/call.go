package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

// storeError says what an error of Redis, or of the way to it, means to the
// callers of a store: scheduler.ErrFull if Redis is out of memory and has done
// nothing, the context's error, what is one of scheduler's errors already, and
// scheduler.ErrStore for everything else. op names the operation.
func storeError(op string, err error) error {
	var e *rueidis.RedisError
	switch {
	case err == nil:
		return nil
	case isContext(err), isContract(err):
		return fmt.Errorf("%s: %w", op, err)
	case errors.As(err, &e) && strings.HasPrefix(e.Error(), "OOM "):
		return fmt.Errorf("%s: %w: %w", op, scheduler.ErrFull, err)
	}
	return fmt.Errorf("%s: %w: %w", op, scheduler.ErrStore, err)
}

func isContract(err error) bool {
	for _, known := range []error{
		scheduler.ErrStore, scheduler.ErrFull, scheduler.ErrUnsure, scheduler.ErrNotFound, scheduler.ErrFenced,
		scheduler.ErrLeaseHeld, scheduler.ErrClosed, scheduler.ErrLayout, scheduler.ErrReplicaTaken,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

var errNoAnswer = errors.New("no answer in time")

// outOfTime is err, but for the end of a context that was made shorter than ctx:
// that is no fault of the caller.
func outOfTime(ctx context.Context, err error) error {
	if err != nil && isContext(err) && ctx.Err() == nil {
		return errNoAnswer
	}
	return err
}

// surelyNotSent tells of the error of a command that it will not take effect any
// more: Redis answered it, or it never left.
func (s *Store) surelyNotSent(err error) bool {
	var answer *rueidis.RedisError
	var network *net.OpError
	return errors.As(err, &answer) || errors.Is(err, errDial) || errors.As(err, &network) && network.Op == "dial"
}

// unconfirmedMargin is left of a context for the answer, when the wait for a
// replica could use all of it.
const unconfirmedMargin = 50 * time.Millisecond

// runDurable is run for writes that must survive the loss of Redis' master: with
// ReplicaDurability it waits, on the script's own connection, until a replica
// has the write. confirmed is false if none said so in time: the script has run all
// the same. Without ReplicaDurability it does not wait, and is confirmed.
//
// WAIT waits for what its own connection wrote before: the two go out
// together, on a connection that nobody else uses meanwhile.
func (s *Store) runDurable(ctx context.Context, i invocation) (r reply, confirmed bool, err error) {
	if !s.opts.ReplicaDurability {
		r, err = s.run(ctx, i)
		return r, true, err
	}
	wait := s.opts.DurabilityTimeout
	if deadline, ok := ctx.Deadline(); ok {
		wait = max(min(wait, time.Until(deadline)-unconfirmedMargin), time.Millisecond) // 0 would be for ever
	}
	// A connection that waits is not asked whether it lives.
	bounded, cancel := context.WithTimeout(ctx, wait+answerTimeout)
	defer cancel()
	node, command := s.nodeOf(i.keys[0]), i.evalsha
	for range maxRedirections {
		results := node.DoMulti(bounded, command(node), node.B().Wait().Numreplicas(1).Timeout(wait.Milliseconds()).Build())
		result := results[0]
		switch e, ok := rueidis.IsRedisErr(result.Error()); {
		case ok && e.IsNoScript():
			command = i.eval
			continue
		case ok && e.IsTryAgain():
			if sleep(ctx, tryAgainEvery) == nil {
				continue
			}
		case ok:
			if addr, moved := e.IsMoved(); moved {
				s.suspectTopology()
				if node = s.nodeAt(ctx, addr, i.keys[0]); node != nil {
					continue
				}
			}
			_, ask := e.IsAsk()
			if _, moved := e.IsMoved(); moved || ask {
				// Which node has it can be said by the client, not to which it went.
				r, err = s.run(ctx, i)
				return r, false, err
			}
		}
		if result.NonRedisError() != nil {
			s.suspectTopology()
		}
		r, err = parseReply(i, result)
		replicas, waitErr := results[1].AsInt64()
		return r, err == nil && waitErr == nil && replicas >= 1, outOfTime(ctx, err)
	}
	return reply{}, false, fmt.Errorf("script %s: more than %d redirections", i.script.name, maxRedirections)
}

// nodeOf is a client of the node that has a key, as far as is known: for other
// than a Cluster, of the only one.
func (s *Store) nodeOf(key string) rueidis.Client {
	if !s.opts.Cluster {
		return s.client
	}
	nodes := s.client.Nodes()
	if n, ok := nodes[s.topology.Load().address(slotOf(s.client, key))]; ok {
		return n
	}
	for _, n := range nodes {
		return n // any node says where it is
	}
	return s.client
}

// nodeAt is a client of the node at an address that a MOVED named; nil if there is
// none.
func (s *Store) nodeAt(ctx context.Context, addr, key string) rueidis.Client {
	if n := s.client.Nodes()[addr]; n != nil {
		return n
	}
	// The client follows the redirection and so learns the node.
	s.client.Do(ctx, s.client.B().Exists().Key(key).Build())
	if n := s.client.Nodes()[addr]; n != nil {
		return n
	}
	return nil
}
