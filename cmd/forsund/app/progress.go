package app

import (
	"fmt"
	"time"

	"github.com/snower/forsun/scheduler"
)

// silentLoop is how long a loop that comes round once a second, or is bounded by a
// call to the store, may be silent before this process counts as stuck. Readiness
// turns red long before; to be started anew is the last resort.
const silentLoop = 15 * time.Second

// stuckLoop says which loop of an engine does not come round any more, "" if all
// do. It is about what starting the process anew would mend: not a store that does
// not answer, nor a target that hangs, nor a clock that is wrong.
func stuckLoop(h scheduler.Health) string {
	if h.Stopping {
		return ""
	}
	if h.TickSilent > silentLoop {
		return fmt.Sprintf("the ticker has not ticked for %v", h.TickSilent.Round(time.Second))
	}
	for _, s := range h.Shards {
		// A loop whose passes fail comes round all the same.
		if s.Leads && s.Failing == 0 && s.Silent > silentLoop {
			return fmt.Sprintf("the loop of shard %d has not come round for %v", s.Shard, s.Silent.Round(time.Second))
		}
	}
	for _, id := range h.TakeStuck {
		return fmt.Sprintf("the workers of shard %d do not ask for firings any more", id)
	}
	for _, s := range h.Slots {
		if s.Overrun > 0 && s.Overrun >= s.Slots {
			return fmt.Sprintf("all %d slots of the action %s hold attempts that do not end, long past their deadline", s.Slots, s.Action)
		}
	}
	return ""
}

// doing says in few words what an engine does.
func doing(h scheduler.Health) string {
	leads, used := 0, 0
	for _, s := range h.Shards {
		if s.Leads {
			leads++
		}
	}
	for _, s := range h.Slots {
		used += s.Used
	}
	return fmt.Sprintf("serving; leads %d of %d shards, %d slots in use", leads, len(h.Shards), used)
}
