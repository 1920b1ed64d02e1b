package memstore

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// compactions lets Pebble rewrite its tables between bursts. A compaction is there to
// make later reads cheaper; in the midst of a burst it takes one of two cores from the
// firings: beside ten million plans that was 10 of 38 µs a firing. So none begins, and
// one under way stands still, while much is claimed, unless so many tables have piled up
// that Pebble itself asks for more hands. Flushes are not concerned.
//
// It is Pebble's own ConcurrencyLimitScheduler but for that.
type compactions struct {
	db      pebble.DBForCompaction
	claimed atomic.Int64 // when many plans were claimed last, ns since began
	began   time.Time

	mu       sync.Mutex
	running  int
	closed   bool
	granting sync.Mutex // one grants at a time; before mu
	stop     chan struct{}
	once     sync.Once
	granter  sync.WaitGroup
}

const (
	// manyClaims are so many that what comes after them is a burst.
	manyClaims = 50
	// burstLasts is how long after such a claim a burst is thought to go on.
	burstLasts = 100 * time.Millisecond
	// grantEvery is how often it is looked whether a compaction may begin or go on.
	grantEvery = 20 * time.Millisecond
)

func newCompactions() *compactions {
	c := &compactions{began: time.Now(), stop: make(chan struct{})}
	c.claimed.Store(-int64(burstLasts))
	return c
}

// note tells of a claim of n plans.
func (c *compactions) note(n int) {
	if n >= manyClaims {
		c.claimed.Store(int64(time.Since(c.began)))
	}
}

// wait says whether compactions should not take part just now. Call without mu.
func (c *compactions) wait() bool {
	return time.Since(c.began)-time.Duration(c.claimed.Load()) < burstLasts && c.db.GetAllowedWithoutPermission() <= 1
}

// Register is called by Pebble when it is open.
func (c *compactions) Register(_ int, db pebble.DBForCompaction) {
	c.db = db
	c.granter.Go(func() {
		tick := time.NewTicker(grantEvery)
		defer tick.Stop()
		for {
			select {
			case <-c.stop:
				return
			case <-tick.C:
				c.grant()
			}
		}
	})
}

// Unregister is called by Pebble when it closes, or by whom Pebble fails to open. Nothing
// is granted after it.
func (c *compactions) Unregister() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.once.Do(func() { close(c.stop) })
	c.granter.Wait()
	c.granting.Lock() // whoever grants has ended
	defer c.granting.Unlock()
}

// begin counts a compaction if there may be one more.
func (c *compactions) begin(allowed int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.running >= allowed {
		return false
	}
	c.running++
	return true
}

func (c *compactions) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
}

// TrySchedule is called by Pebble when it wants to compact.
func (c *compactions) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	if c.wait() || !c.begin(c.db.GetAllowedWithoutPermission()) {
		return false, nil
	}
	return true, c
}

// UpdateGetAllowedWithoutPermission is called by Pebble when more may be allowed: the
// next tick is soon enough.
func (c *compactions) UpdateGetAllowedWithoutPermission() {}

// grant begins what waits to be begun.
func (c *compactions) grant() {
	c.granting.Lock()
	defer c.granting.Unlock()
	for !c.wait() && c.begin(c.db.GetAllowedWithoutPermission()) {
		// Nothing is held that Pebble's locks come before.
		if waiting, _ := c.db.GetWaitingCompaction(); !waiting || !c.db.Schedule(c) {
			c.end()
			return
		}
	}
}

// Done ends a compaction, and begins the next: a handle is of any of them.
func (c *compactions) Done() {
	c.end()
	c.grant()
}

// CumulativeStats is called by a compaction on its way, and holds it up in a burst.
func (c *compactions) CumulativeStats(pebble.CompactionGrantHandleStats) {
	for c.wait() {
		select {
		case <-c.stop:
			return
		case <-time.After(grantEvery):
		}
	}
}

func (*compactions) Started()                                  {}
func (*compactions) MeasureCPU(pebble.CompactionGoroutineKind) {}

var _ pebble.CompactionScheduler = (*compactions)(nil)
