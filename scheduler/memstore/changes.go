package memstore

import (
	"hash/maphash"
	"sync/atomic"
)

// changes tells whether a plan was changed since it was read, so that what was read
// beside the writer need not be read again by it, who is alone. Keys share
// counters: now and then it says yes for another key's sake. There are enough of them
// that it seldom does when a dozen bulks of 1,000 wait for the writer.
type changes struct {
	seed    maphash.Seed
	applied atomic.Uint64 // number of the last change that is visible
	last    [1 << 18]atomic.Uint64
	number  uint64 // of the change in progress; the writer's
}

// since is what to remember before reading.
func (c *changes) since() uint64 { return c.applied.Load() }

// changed tells whether key was, or is being, changed after since. The writer's.
func (c *changes) changed(key string, since uint64) bool {
	return c.last[c.slot(key)].Load() > since
}

// touch notes that key is about to be changed, done that all such changes are
// visible. The writer's.
func (c *changes) touch(key string) { c.last[c.slot(key)].Store(c.number + 1) }

func (c *changes) done() {
	c.number++
	c.applied.Store(c.number)
}

func (c *changes) slot(key string) uint64 {
	return maphash.String(c.seed, key) % uint64(len(c.last))
}
