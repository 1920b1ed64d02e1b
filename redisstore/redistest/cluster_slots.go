package redistest

import (
	"errors"
	"strconv"
	"strings"
)

// Slot returns the hash slot of a key: CRC-16 (XMODEM) of what stands between the
// first { and the next }, if that is anything, else of the whole key, modulo
// 16384.
func Slot(key string) int {
	if _, rest, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(rest, "}"); ok && tag != "" {
			key = tag
		}
	}
	var crc uint16
	for _, b := range []byte(key) {
		crc ^= uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc) % Slots
}

// ShardOf returns the number of the shard that serves a slot.
func (c *Cluster) ShardOf(slot int) int {
	c.t.Helper()
	owner := -1
	eventually(c.t, "the owner of slot "+strconv.Itoa(slot), func() error {
		for i, s := range c.Nodes {
			if !s.runs() {
				continue
			}
			v, err := c.view(i)
			if err != nil {
				return err
			}
			for j, ranges := range v.slots {
				for _, r := range ranges {
					if within(slot, r) {
						owner = j % c.masters
						return nil
					}
				}
			}
			return errors.New("nobody serves it")
		}
		return errors.New("no node runs")
	})
	return owner
}

// within says whether a slot lies in "7" or "5-9".
func within(slot int, r string) bool {
	from, to, ok := strings.Cut(r, "-")
	if !ok {
		to = from
	}
	first, _ := strconv.Atoi(from)
	last, _ := strconv.Atoi(to)
	return first <= slot && slot <= last
}

// MoveSlot moves a slot with its keys to another shard, as redis-cli does, and
// waits until all agree.
func (c *Cluster) MoveSlot(slot, to int) {
	c.t.Helper()
	m := c.StartMove(slot, to)
	for m.Keys(100) > 0 {
	}
	m.Finish()
}

// Move is a slot on its way to another shard. Until Finish, the old shard answers
// ASK for a key that it no longer has, and TRYAGAIN if it has some of a command's
// keys.
type Move struct {
	c            *Cluster
	slot         int
	source, dest *Server
}

// StartMove marks a slot as being moved to a shard (CLUSTER SETSLOT IMPORTING
// there, MIGRATING where it is), and leaves its keys where they are.
func (c *Cluster) StartMove(slot, to int) *Move {
	c.t.Helper()
	if slot < 0 || slot >= Slots {
		c.t.Fatalf("move slot %d: there are %d", slot, Slots)
	}
	from := c.ShardOf(slot)
	if from == to {
		c.t.Fatalf("move slot %d to shard %d: there it is", slot, to)
	}
	m := &Move{c: c, slot: slot}
	m.source, _ = c.Shard(from)
	m.dest, _ = c.Shard(to)
	m.setSlot(m.dest, "IMPORTING", c.id(m.source))
	m.setSlot(m.source, "MIGRATING", c.id(m.dest))
	return m
}

// Keys moves up to n keys of the slot and returns how many it moved: 0 if there
// are no more.
func (m *Move) Keys(n int) int {
	t := m.c.t
	t.Helper()
	reply := Do(t, m.source.Addr, "CLUSTER", "GETKEYSINSLOT", strconv.Itoa(m.slot), strconv.Itoa(n)).([]any)
	if len(reply) == 0 {
		return 0
	}
	args := []string{"MIGRATE", "127.0.0.1", strconv.Itoa(m.dest.Port), "", "0", "10000", "KEYS"}
	for _, key := range reply {
		args = append(args, key.(string))
	}
	// NOKEY, if all of them expired or were removed in between, is no error.
	Do(t, m.source.Addr, args...)
	return len(reply)
}

// Finish gives the slot to its new shard (CLUSTER SETSLOT NODE, there first, for
// it alone raises its epoch) and waits until all agree. If the old shard still
// has keys of the slot, the server refuses.
func (m *Move) Finish() {
	m.c.t.Helper()
	dest := m.c.id(m.dest)
	m.setSlot(m.dest, "NODE", dest)
	m.setSlot(m.source, "NODE", dest)
	for i := range m.c.masters {
		if other, _ := m.c.Shard(i); other != m.dest && other != m.source {
			m.setSlot(other, "NODE", dest)
		}
	}
	m.c.WaitOK()
}

// Abandon leaves the slot where it was (CLUSTER SETSLOT STABLE). Keys that have
// been moved already are on the other side, where nobody finds them: for a move
// without any.
func (m *Move) Abandon() {
	m.c.t.Helper()
	m.setSlot(m.source, "STABLE")
	m.setSlot(m.dest, "STABLE")
}

func (m *Move) setSlot(s *Server, args ...string) {
	m.c.t.Helper()
	Do(m.c.t, s.Addr, append([]string{"CLUSTER", "SETSLOT", strconv.Itoa(m.slot)}, args...)...)
}
