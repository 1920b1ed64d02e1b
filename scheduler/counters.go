package scheduler

import "sync/atomic"

// Counters counts what the service and the engine of this process did. All only
// grow, but Executing, which is a level. Canaries are not counted, but where
// something went wrong with them.
type Counters struct {
	Created         atomic.Int64 // plans created or overwritten, both kinds
	TimeoutsCreated atomic.Int64 // of these, timeout plans
	Removed         atomic.Int64

	Ticks       atomic.Int64                // seconds at which the ticker woke
	MissedTicks atomic.Int64                // seconds it slept through
	ClockSteps  atomic.Int64                // times the wall clock was set
	TickErrors  atomic.Int64                // passes of a shard loop that ended with an error
	Claimed     atomic.Int64                // firings claimed
	NotClaimed  [ClaimFull + 1]atomic.Int64 // claims by what else was answered; [ClaimedOK] stays 0
	Collapsed   atomic.Int64                // due seconds that were missed and stand behind a collapsed firing
	Fenced      atomic.Int64                // claims refused because another term leads
	Promoted    atomic.Int64                // retries queued again
	Rescued     atomic.Int64                // firings taken over from dead workers
	Cleared     atomic.Int64                // schedule entries dropped or plans quarantined
	Executing   atomic.Int64                // attempts running now
	Executed    atomic.Int64                // attempts finished
	Failed      atomic.Int64                // of these, not succeeded
	Retried     atomic.Int64                // of these, to be retried
	Buried      atomic.Int64                // of these, now dead letters
	Deferred    atomic.Int64                // deliveries put back because their target had no slot
	Returned    atomic.Int64                // deliveries handed back unrun
	FinishLost  atomic.Int64                // finishes the store did not accept: the firing was rescued meanwhile
	StoreErrors atomic.Int64                // calls to the store that failed
}
