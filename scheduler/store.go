package scheduler

import (
	"context"
	"time"
)

// Store is all that the engine and the service need of a store. Two exist: the
// embedded one (memstore) and Redis (redisstore); storetest holds the suite both
// pass. Every method is safe for concurrent use and returns soon after its
// context is done. A method that fails with an error other than the ones it
// names may or may not have taken effect: callers read again (Claim), send the
// same again (Finish), or report it (Put, Remove: neither is sent again, since
// what they asked for may have happened and be over).
type Store interface {
	PlanStore
	LeaseStore
	ClaimStore
	RescueStore
	WorkStore
	Journal
	Observer

	// Close waits for what is under way and releases everything. Later calls
	// fail with ErrClosed.
	Close() error
}

// PlanStore keeps plans. It alone knows which shard a key belongs to.
type PlanStore interface {
	// Put stores plans as given (Due, Fired, LastDue and Status too), each created
	// or overwritten atomically, and answers only once they are durable. Of several
	// with one key in a call the last wins. Overwriting cancels the pending retries
	// of the key; its queued and running firings go on, but are not retried any
	// more. A plan of the same key and revision as the stored one is left as it
	// is. A quarantined plan of the key is forgotten. The answer has one error per
	// plan, nil where it is stored: ErrFull, ErrStore, ErrUnsure. A plan answered with
	// an error other than ErrUnsure is not stored; with a context that has a
	// deadline, it will not appear later either.
	//
	// Where the error is nil, the plan's Replaced says whether a plan of its key was
	// overwritten, in the same step: one that cannot be decoded, too; not one in
	// quarantine, nor one of which only a retry was left. Of several with one key in
	// a call each replaced the one before. With an error Replaced stays as it was
	// given, as it does for a plan whose revision was stored already: what that
	// replaced was answered when it was stored, and if that answer was lost, nobody
	// knows it any more. No store sends a Put again by itself.
	Put(ctx context.Context, plans []*Plan) []error

	// PutNew is Put for plans, of different keys, that are to replace none: where
	// there is a plan of the key, and of another revision, it stays as it is, in
	// the same step, and the answer is ErrExists.
	PutNew(ctx context.Context, plans []*Plan) []error

	// Get returns the plan of key, or ErrNotFound.
	Get(ctx context.Context, key string) (*Plan, error)

	// Remove deletes the plan of key and cancels its pending retries. It returns
	// the plan; with only a retry left, the plan as it was claimed. With neither:
	// ErrNotFound, and nothing is changed (a running last firing may still be
	// retried). Queued and running firings go on, but are not retried any more.
	// The answer comes only once the removal is durable; with the plan and
	// ErrUnsure if it was done and the wished copies did not confirm, with no
	// plan and ErrUnsure if they did not confirm that there is none, or if it is
	// not known what was done. A removal answered with another error has not
	// happened; with a context that has a deadline, it will not later. A plan that cannot be decoded is removed, too; what is
	// returned then has its Key only.
	Remove(ctx context.Context, key string) (*Plan, error)

	// List returns plans with the prefix in the byte order of their keys, over
	// all shards, and the cursor of the next page, "" after the last. Cursors are
	// opaque. A page may be short, or even empty, with a cursor. A plan that cannot
	// be decoded is passed over.
	List(ctx context.Context, q ListQuery) (plans []*Plan, next string, err error)

	// ShardOf returns the id of the shard that key belongs to. It never changes
	// while a store is open.
	ShardOf(key string) int

	// DueAt returns plans whose next due second is q.Second, ordered by key
	// within an action, paged like List.
	DueAt(ctx context.Context, q DueAtQuery) (plans []*Plan, next string, err error)
}

// ListQuery asks for a page of plans by key.
type ListQuery struct {
	Prefix string
	Cursor string // "" for the first page, else what the last page returned
	Limit  int    // at least 1; a store may return fewer, never more
}

// DueAtQuery asks for a page of the plans due at a second.
type DueAtQuery struct {
	Second int64
	Cursor string
	Limit  int
}

// Lease is the leadership of one shard for one term. A replica uses the Lease it
// got last; its value is compared by the store in every step taken under it.
type Lease struct {
	Shard int
	Term  uint64    // grows with every new lease of the shard
	Value string    // "<term>:<replica>:<random>", unique to this lease
	Until time.Time // end of trust, with monotonic reading: attempt start + TTL − margin
}

// LeaseStore elects leaders.
type LeaseStore interface {
	// ShardIDs returns the ids of the deployment's shards, in order. They never change
	// while a store is open.
	ShardIDs() []int

	// Campaign bids for a vacant lease: ErrLeaseHeld, or better a LeaseHeldError, if it
	// is not. It never takes a lease from a holder that renews it.
	Campaign(ctx context.Context, shard int, replica string) (Lease, error)

	// Renew prolongs a lease: ErrFenced once it is no longer the current one.
	Renew(ctx context.Context, l Lease) (Lease, error)

	// Resign gives a lease up and tells the others (Event Vacant). If it is not
	// the current one any more nothing changes, and the answer is nil or ErrFenced.
	Resign(ctx context.Context, l Lease) error

	// Announce publishes what is known of this replica and returns all replicas
	// seen lately, this one included. ErrReplicaTaken: another process, by its
	// Started, announced itself under this id after this process last did, and
	// started earlier; nothing is changed then. So of two that live under one id
	// the later one is told, at its second or third announcement, while what a dead
	// one left behind is replaced. ErrLayout: the deployment's layout is not (any
	// more) the one this store was opened with.
	Announce(ctx context.Context, r Replica) ([]Replica, error)

	// Now is the store's own time, for the leader to compare its clock with.
	Now(ctx context.Context) (time.Time, error)
}

// Replica is one forsund process, as it shows itself to the others.
type Replica struct {
	ID      string
	Address string        // where its Thrift server listens
	Version string        //
	Offset  time.Duration // its clock minus the store's
	Leads   []int         // shards it leads
	Eager   bool          // it may lead (false for a replica that only serves or works)
	Actions []string      // whose plans it knows of; empty: it does not say
	Started time.Time
	Seen    time.Time // when it last announced itself, by the store's clock
}

// ClaimStore is what the leader of a shard works with.
type ClaimStore interface {
	// Due reads plans of one action, oldest first. Every plan it returns has that
	// action and From ≤ Due ≤ To by its own record. Their parameters are not to be
	// changed: the store may hand them out with the firings. On the way it clears what
	// can never fire: a schedule entry without a plan, or at odds with it, is dropped
	// or corrected; a plan that cannot be decoded is moved to quarantine.
	Due(ctx context.Context, q DueQuery) (DuePage, error)

	// Claim takes the batch's claims, each as one atomic step: see Claim. A store
	// may take a batch in several steps, and several batches of a shard may be under way.
	// ErrFenced: the lease is not the current one; then the reply holds the answers of
	// earlier steps, which stand. What it
	// claimed is synced to the store's disk; a store that loses its newest writes
	// may forget a claim, always wholly, and it is then claimed again under the
	// same firing id. Firings that became available are announced (Event Work).
	Claim(ctx context.Context, b ClaimBatch) (ClaimReply, error)

	// Promote queues again the retries of a shard whose time has come, under the
	// lease. It returns how many, and when the next one is due (zero: none).
	Promote(ctx context.Context, r PromoteRequest) (n int, next time.Time, err error)
}

// DueQuery asks for due plans of one action of a shard.
type DueQuery struct {
	Shard    int
	Action   string
	From, To int64  // due seconds, inclusive
	After    string // "" for the first page, else DuePage.Next of the last: what is before is not looked at again
	Limit    int    // plans; a store may bound the page's bytes, too
}

// DuePage is an answer of ClaimStore.Due.
type DuePage struct {
	Plans   []*Plan
	Next    string // where the next page begins, "" after the last
	Cleared int    // entries dropped, corrected or quarantined on the way
}

// PromoteRequest asks for due retries to be queued again.
type PromoteRequest struct {
	Lease Lease
	Now   time.Time     // the leader's clock: nothing due after it, or after the store's own clock, is promoted
	Skew  time.Duration // see ClaimBatch
	Limit int
}

// ClaimBatch is a number of claims of one action of one shard, under one lease.
type ClaimBatch struct {
	Lease   Lease
	Action  string
	Cutoff  int64         // the leader's second: nothing due after it, or after the store's own second, is claimed
	Skew    time.Duration // added to the store's clock before comparing; 0 unless the whole fleet agrees that the store's clock is wrong
	Backlog Backlog
	Claims  []Claim

	// Up to Slots of the firings that are claimed may be handed to Worker in the
	// reply, as Take would hand them, instead of being queued. A store may hand
	// out fewer, or none.
	Worker string
	Slots  int
}

// ClaimReply answers a ClaimBatch.
type ClaimReply struct {
	Answers []ClaimAnswer // in the order of the batch
	Firings []*Firing     // handed out: held by the batch's worker, the others are queued
}

// Backlog bounds what may be claimed and unfinished of one action in one shard:
// queued, running, waiting for a retry, or deferred. What is over it stays in the
// schedule; what is in it already is never refused. 0 means no bound.
type Backlog struct {
	Entries int
	Bytes   int64
}

// Claim asks: if the plan of Key still has this Revision and this Due, set its
// Due to Next (or delete it, if Next is 0), count one firing more, and enqueue
// the firing that is due at FireDue. Next is 0 or > Due and > FireDue, else the
// store answers Bad without touching the plan. Claiming sets LastDue = FireDue and
// Fired + 1; FireDue ≥ Due, else Bad. A plan of another action answers Gone,
// whatever its revision, and this action's entry is cleared.
type Claim struct {
	Key      string
	Revision Revision
	Due      int64
	FireDue  int64 // = Due, or the newest missed due second: see Plan.NextClaim
	Missed   int   // 0, or how many missed due seconds the firing stands for
	Next     int64 // next due second; 0: this was the last
}

// Claimed says what became of a claim.
type Claimed uint8

const (
	ClaimedOK    Claimed = iota // advanced and enqueued, both durable
	ClaimChanged                // another revision or due second is stored: read again
	ClaimGone                   // no such plan; its schedule entry is cleared
	ClaimBad                    // not decodable: quarantined; or a Next that does not grow: refused
	ClaimNotYet                 // due after the cutoff, or by the store's clock still Wait away
	ClaimFull                   // the action's backlog is at its limit: the plan stays
)

// ClaimAnswer is the answer to one claim.
type ClaimAnswer struct {
	Result Claimed
	Wait   time.Duration // with ClaimNotYet: how long until the store's clock allows it; 0 if only the cutoff forbids it
}

// RescueStore is how the leader of a shard finds dead workers.
type RescueStore interface {
	// Holders returns every worker the shard knows, with its heartbeat counter as it
	// stands (0 if it never beat), also those that hold nothing. Every replica that
	// may lead asks twice a second: it must be cheap.
	Holders(ctx context.Context, shard int) ([]Holder, error)

	// Rescue queues again, with Attempt + 1 and Delivery + 1, up to limit firings
	// held by a worker whose counter still stands at h.Beats, under the lease. A
	// firing whose Delivery has reached maxDeliveries becomes a dead letter instead
	// ("worker lost"). It returns how many firings it moved; call it again until
	// that is 0. A worker with nothing left is forgotten. 0 and no error, too, if
	// the counter has moved.
	Rescue(ctx context.Context, l Lease, h Holder, maxDeliveries, limit int) (n int, err error)
}

// Holder is a worker that may have firings in its hands.
type Holder struct {
	Worker string
	Beats  uint64 // heartbeat counter
}

// WorkStore is what workers take from and give back to.
type WorkStore interface {
	// Take hands up to Slots[action] queued firings of each action to the
	// worker, oldest first, without waiting. It may return fewer than there are:
	// more says to look again at once. Each is held by the worker until it is
	// finished or rescued. An entry that cannot be decoded is quarantined.
	Take(ctx context.Context, r TakeRequest) (fs []*Firing, more bool, err error)

	// Finish ends deliveries, each as one atomic step that first checks that the
	// worker still holds it, and records history. It answers in order. Sending the
	// same again is harmless: what was done answers NotHeld. An error is about the
	// store, never about one delivery.
	Finish(ctx context.Context, shard int, worker string, fs []Finish) ([]Finished, error)

	// Held returns up to limit receipts of deliveries that the store believes the
	// worker holds, oldest first, for it to hand back what it is not running.
	Held(ctx context.Context, shard int, worker string, limit int) ([]string, error)

	// Beat increments the worker's heartbeat counter in every shard; one shard that
	// fails holds up no other.
	Beat(ctx context.Context, worker string) error
}

// TakeRequest asks for firings of one shard.
type TakeRequest struct {
	Shard  int
	Worker string
	Slots  map[string]int // free slots by action
}

// Verdict says what is to become of a delivery.
type Verdict uint8

const (
	// Done ends the firing: it succeeded. The plan's Status becomes succeeded, if
	// the stored revision is the firing's.
	Done Verdict = iota
	// Retry queues it again at Finish.At with Attempt + 1 and Delivery 1. It is
	// cancelled instead if, after this firing was claimed, a Remove or Put found a
	// plan or a pending retry of its key (not: if the plan simply had its last
	// firing). A redriven firing belongs to no plan any more: only a Remove or
	// Put while it waits to be retried cancels it.
	Retry
	// Bury makes it a dead letter. The plan's Status becomes failed, if the stored
	// revision is the firing's.
	Bury
	// Defer queues it again at Finish.At with Attempt and Delivery as they are:
	// its target had no free slot. With Attempt 1 it counts as queued, not as a
	// pending retry: removing or replacing the plan does not stop it.
	Defer
	// Return queues it again at once with Attempt and Delivery as they are: the
	// worker holds it but is not going to run it. Of Finish.Firing only the
	// Receipt counts; one whose payload is gone is dropped.
	Return
)

// Finish is the end of one delivery.
type Finish struct {
	Firing  *Firing
	Verdict Verdict
	At      time.Time // for Retry and Defer
	Attempt *Attempt  // what to record; nil, as for Defer and Return: nothing
}

// Finished says what became of a Finish.
type Finished uint8

const (
	FinishedOK        Finished = iota
	FinishedCancelled          // asked to retry, but its plan was removed or replaced: it ended, recorded as Cancelled
	FinishedNotHeld            // the worker does not hold it (any more): nothing was changed
	FinishedBad                // it could not be queued again for its data: now a dead letter, or quarantined
)

// Journal is the record of what ran, and of what failed for good.
type Journal interface {
	// History returns finished attempts, newest first, over all shards, and the
	// cursor of the next page, "" after the last. A page may be short, or even
	// empty, with a cursor: the store bounds how much it looks through.
	History(ctx context.Context, q JournalQuery) (attempts []Attempt, next string, err error)

	// DeadLetters returns dead letters, newest first, paged alike.
	DeadLetters(ctx context.Context, q JournalQuery) (dead []DeadLetter, next string, err error)

	// Redrive queues dead letters again, each atomically, from attempt 1; Purge
	// forgets them. At most 1,000 ids a call. Both return how many, also beside
	// an error. What is not there is skipped.
	Redrive(ctx context.Context, ids []string) (n int, err error)
	Purge(ctx context.Context, ids []string) (n int, err error)
}

// JournalQuery asks for a page of history or dead letters.
type JournalQuery struct {
	Key    string // "" for all plans
	Cursor string
	Limit  int
}

// Observer tells what is in the store, and when to look.
type Observer interface {
	// Shards returns the state of every shard. It costs a few reads per shard and
	// action, never a scan of plans.
	Shards(ctx context.Context, now time.Time) ([]ShardState, error)

	// Replicas returns all replicas seen lately, by id, as they last announced
	// themselves. It announces nobody.
	Replicas(ctx context.Context) ([]Replica, error)

	// Check looks through the whole store and reports what does not fit together
	// (at rest: invariant I9), and what the store's own configuration cannot
	// promise. In a store that is well, and busy, it reports no SeverityError: what
	// is only under way is looked at again before it is called one. It changes
	// nothing, holds up nobody for long, and takes time in proportion to what is
	// stored. report is called from one goroutine. A store may stop after some
	// hundred findings of a kind and says so in a last one. The error says that the
	// check could not be completed; what was reported until then stands.
	Check(ctx context.Context, report func(Finding)) error

	// Watch calls fn, from one goroutine, with events until ctx is done or the
	// connection to the store breaks; the caller then watches again. The first
	// event is EventAll. Events are hints: they may be lost, repeated, or come to
	// the replica that caused them.
	Watch(ctx context.Context, fn func(Event)) error
}

// ShardState is a shard as an operator wants to see it.
type ShardState struct {
	Shard       int
	Leader      string // replica; "" if vacant
	Term        uint64
	Plans       int64            // stored plans
	Overdue     int64            // plans due before now and not claimed
	OldestDue   int64            // due second of the oldest of those, 0 if none
	Queued      map[string]int64 // by action: claimed, not taken
	Running     map[string]int64 // by action: taken, not finished
	Retries     int64            // firings that wait for a time: retries and deferrals
	Dead        int64
	Quarantined int64
}

// Backlog is how many firings are claimed and have not ended: queued, running, or
// waiting for a time.
func (s ShardState) Backlog() int64 {
	n := s.Retries
	for _, by := range []map[string]int64{s.Queued, s.Running} {
		for _, of := range by {
			n += of
		}
	}
	return n
}

// Event is a hint from the store.
type Event struct {
	Kind   EventKind
	Shard  int
	Action string // with EventWork; "" = any
	Due    int64  // with EventPlan
}

// EventKind tells events apart.
type EventKind uint8

const (
	EventWork   EventKind = iota // firings are waiting to be taken (claimed, promoted, rescued, returned or redriven)
	EventPlan                    // a plan was stored that is due at Due, now or within 2 s
	EventVacant                  // a lease was given up
	EventAll                     // the watch stands (again): look at everything
)
