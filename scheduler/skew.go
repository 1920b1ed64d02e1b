package scheduler

import (
	"fmt"
	"sync"
	"time"
)

// clocks is what an engine knows of clocks: its own, the store's, the fleet's.
type clocks struct {
	mu     sync.Mutex
	offset time.Duration // own clock minus the store's
	trip   time.Duration // how long the question for it took: it is right to half of that
	skew   time.Duration // ClaimBatch.Skew: not 0 while the fleet's clock decides
	off    time.Duration // how far own clock is from the fleet's, if it is the one that is wrong; else 0
}

func (c *clocks) measured(offset, trip time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset, c.trip = offset, trip
}

// lastOffset is the offset that was measured last, 0 if none was.
func (c *clocks) lastOffset() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset
}

func (c *clocks) setSkew(skew time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew = skew
}

func (c *clocks) setOff(off time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = off
}

// correction returns ClaimBatch.Skew, and how long after this machine's clock the
// store lets a second begin: 0 if not after it. What a claim takes to get there
// is part of the wait already.
func (c *clocks) correction() (skew, lag time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skew, max(c.offset-c.skew-c.trip/2, 0)
}

// wrong returns why this machine's clock is not to be relied on, or nil.
func (c *clocks) wrong() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.off == 0 {
		return nil
	}
	side := "ahead of"
	if c.off < 0 {
		side = "behind"
	}
	return fmt.Errorf("%w: the clock of this machine is %.1f s %s the fleet's; set it right, or ask another replica",
		ErrNotAllowed, c.off.Abs().Seconds(), side)
}
