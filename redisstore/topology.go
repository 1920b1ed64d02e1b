package redisstore

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// topology is which node of a Cluster has which slots. The client library knows,
// too, but does not say.
type topology struct {
	ranges []slotRange // by first slot
}

type slotRange struct {
	first, last int64
	addr        string // of the master
}

// address is where the master of a slot listens; "" if that is not known.
func (t *topology) address(slot int64) string {
	if t == nil {
		return ""
	}
	i, found := slices.BinarySearchFunc(t.ranges, slot, func(r slotRange, slot int64) int { return int(r.first - slot) })
	if !found {
		i--
	}
	if i < 0 || t.ranges[i].last < slot {
		return ""
	}
	return t.ranges[i].addr
}

// masters are the addresses of all masters, each once.
func (t *topology) masters() (all []string) {
	if t == nil {
		return nil
	}
	for _, r := range t.ranges {
		all = append(all, r.addr)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// slotOf is the slot of a key. Only a Cluster's client computes it.
func slotOf(c rueidis.Client, key string) int64 {
	cmd := c.B().Exists().Key(key).Build()
	return int64(cmd.Slot())
}

// learnTopology asks the Cluster which node has which slots. CLUSTER SLOTS, since
// CLUSTER SHARDS of Redis 7.0 is wrong after a failover.
func (s *Store) learnTopology(ctx context.Context) error {
	var errs error
	for addr, n := range s.client.Nodes() {
		t, err := readSlots(addr, n.Do(ctx, n.B().ClusterSlots().Build()))
		if err == nil && len(t.ranges) > 0 {
			s.topology.Store(t)
			return nil
		}
		errs = fmt.Errorf("cluster slots of %s: %w", addr, err)
		if ctx.Err() != nil {
			break
		}
	}
	return errs
}

func readSlots(asked string, result rueidis.RedisResult) (*topology, error) {
	rows, err := result.ToArray()
	if err != nil {
		return nil, err
	}
	t := &topology{}
	for _, row := range rows {
		r, err := readRange(asked, row)
		if err != nil {
			return nil, err
		}
		t.ranges = append(t.ranges, r)
	}
	slices.SortFunc(t.ranges, func(a, b slotRange) int { return int(a.first - b.first) })
	return t, nil
}

// readRange reads {first, last, {host, port, …} of the master, …}.
func readRange(asked string, row rueidis.RedisMessage) (r slotRange, err error) {
	fields, err := row.ToArray()
	if err != nil || len(fields) < 3 {
		return r, fmt.Errorf("%w: %d fields", errReply, len(fields))
	}
	if r.first, err = fields[0].AsInt64(); err != nil {
		return r, err
	}
	if r.last, err = fields[1].AsInt64(); err != nil {
		return r, err
	}
	master, err := fields[2].ToArray()
	if err != nil || len(master) < 2 {
		return r, fmt.Errorf("%w: a master of %d fields", errReply, len(master))
	}
	host, err := master[0].ToString()
	if err != nil && !rueidis.IsRedisNil(err) {
		return r, err
	}
	if host == "" { // it does not know its own name: the one it was asked under
		host, _, _ = net.SplitHostPort(asked)
	}
	port, err := master[1].AsInt64()
	r.addr = net.JoinHostPort(host, strconv.FormatInt(port, 10))
	return r, err
}

// followTopology keeps what is known of the Cluster's nodes, and of their clocks,
// up to date until ctx is done.
func (s *Store) followTopology(ctx context.Context) {
	for ctx.Err() == nil {
		every := time.NewTimer(topologyEvery)
		select {
		case <-every.C:
		case <-s.moved:
			_ = sleep(ctx, topologyPause) // however many calls fail
		case <-ctx.Done():
		}
		every.Stop()
		bounded, cancel := context.WithTimeout(ctx, answerTimeout)
		if err := s.learnTopology(bounded); err != nil {
			s.log.Debug().Err(err).Msg("cannot ask the Cluster which node has which slots")
		}
		asked := map[*node]bool{}
		for _, id := range s.ids {
			if n := s.node(id); !asked[n] {
				asked[n] = true
				// Failing leaves the clock unknown, to be asked when it is needed.
				_, _ = s.askTime(bounded, id)
			}
		}
		cancel()
	}
}

// suspectTopology has the Cluster asked soon: a node did not answer, or is not the
// one that has a slot.
func (s *Store) suspectTopology() {
	select {
	case s.moved <- struct{}{}:
	default:
	}
}

// node is what is kept of a node of Redis.
type node struct {
	claims gate
	clock  nodeClock
}

// nodes are the nodes that shards were found on, by address; of other than a
// Cluster there is one, "".
type nodes struct {
	mu  sync.Mutex
	all map[string]*node
}

func (ns *nodes) of(name string) *node {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	n := ns.all[name]
	if n == nil {
		n = &node{claims: make(gate, claimsAtOnce)}
		if ns.all == nil {
			ns.all = make(map[string]*node)
		}
		ns.all[name] = n
	}
	return n
}

// node is the node that has a shard. A shard of a Cluster whose node is not known
// has one to itself.
func (s *Store) node(shard int) *node {
	if !s.opts.Cluster {
		return s.nodes.of("")
	}
	if addr := s.topology.Load().address(s.slots[shard]); addr != "" {
		return s.nodes.of(addr)
	}
	return s.nodes.of("shard " + strconv.Itoa(shard))
}

// claimsAtOnce is how many claims are under way per replica and node of Redis. With one, that
// node waited for the next of a burst half of the time: two claim a third more, three no more
// than two. Each holds up the node's other clients for a fraction of a millisecond.
const claimsAtOnce = 2

// gate lets that many through.
type gate chan struct{}

// claimGate lets the claims of a shard through. It waits until the caller may claim, who then
// calls leave; or returns ctx's error.
func (s *Store) claimGate(ctx context.Context, shard int) (leave func(), err error) {
	g := s.node(shard).claims
	select {
	case g <- struct{}{}:
		return func() { <-g }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
