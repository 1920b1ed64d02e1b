package app

import (
	"fmt"
	"time"

	"github.com/snower/forsun/scheduler"
)

// progress judges whether a running engine comes round, for a service manager
// that would start it anew. What only the store can mend is none of its business.
type progress struct {
	engine   *scheduler.Engine
	counters *scheduler.Counters
	lead     bool // it may lead shards, and so has a ticker

	ticks    int64     // seen so far
	tickedAt time.Time // when there was one more
}

// tickless is how long the ticker, which ticks once a second, may be silent.
const tickless = 10 * time.Second

// stuck says why the engine makes no progress, "" if it does. It is called by one
// goroutine.
func (p *progress) stuck() string {
	now := time.Now()
	if n := p.counters.Ticks.Load(); n != p.ticks || p.tickedAt.IsZero() {
		p.ticks, p.tickedAt = n, now
	}
	if silent := now.Sub(p.tickedAt); p.lead && silent > tickless {
		return fmt.Sprintf("the ticker has not ticked for %v", silent.Round(time.Second))
	}
	return ""
}

// status says in few words what the engine does.
func (p *progress) status() string {
	return fmt.Sprintf("leads shards %v, runs %d attempts", p.engine.Leads(), p.counters.Executing.Load())
}
