// Package scheduler is the domain and the engine of forsun: what a plan is,
// when it is due, and how its firings come to run once, on time, and never
// unseen. It knows no store, no wire and no action; it declares the small
// interfaces it needs from them (store.go, action.go) and everything else
// depends toward it.
//
// # Words
//
// A plan is a stored instruction: a key, a schedule, an action, parameters. A
// due second is a whole Unix second at which a plan should fire. A firing is
// one due occurrence: (plan, due second). An attempt is one run of a firing's
// action; its outcome goes to the history. A shard is a part of all plans, by a
// hash of their keys. A replica is one forsund process; the leader of a shard
// is the replica that claims that shard's due plans, under a term (a fencing
// number that only grows); workers, on every replica, take claimed firings and
// run them.
//
// # The life of a firing
//
//	          Put                               Remove, or replaced by Put
//	client ─────────▶ SCHEDULED ──────────────────────────▶ (gone)
//	                   │    ▲
//	CLAIM: one atomic  │    │ the same step moves the plan to its next due
//	step of the leader │    │ second, or deletes it after its last
//	                   ▼    │
//	                 QUEUED ┘◀──────────────┬──────────────┐
//	                   │                    │ retry's time │ worker died
//	TAKE: a worker     │                    │ has come     │ (RESCUE) or
//	with a free slot   ▼                    │              │ hands it back
//	                 RUNNING ──fail──▶ WAITING TO RETRY    │
//	                   │  │ │                 │             │
//	                   │  │ └───────────────────────────────┘
//	FINISH: one atomic │  │                   │ plan removed or replaced
//	step               │  └─no retry left──▶ DEAD LETTER
//	                   ▼                      ▼
//	               SUCCEEDED              CANCELLED
//
// Claim is compare-and-advance: it compares the leader's lease, the plan's
// revision and the due second that was read; it advances the plan and enqueues
// the firing; all or nothing. There is no state between due and queued, so
// nothing can be lost there. A revision is 64 random bits drawn at each create
// or overwrite and unchanged by claims; within a revision due seconds strictly
// grow (a store refuses a next due second ≤ the one claimed), so a (revision,
// due second) pair is claimed at most once.
//
// A firing's id is a hash of (key, revision, due second): the same for every
// attempt, every delivery, every replica. It reaches the callback, so that a
// receiver can drop a repeat.
//
// # Who may do what
//
//	any replica       put, get, remove, list; take, run and finish firings;
//	                  hand back firings it holds but is not running
//	leader of shard   claim due plans, enqueue due retries, rescue firings of
//	                  dead workers: each under its lease, checked by the store
//	                  in the same step
//	store             decides: a step under a lease that is not the current one
//	                  fails with ErrFenced, whatever its sender believes
//
// A claim may hand firings straight to free slots of the leader's own replica, in
// its reply, as a take would: they are running without a way through the queue. It is
// handed no more than its part of the fleet, so that the others have work.
//
// A leader also stops by itself: its trust in a lease ends at (start of the
// last successful campaign or renewal + TTL − margin) on its monotonic clock,
// and a lease is renewed only while the shard loop completes its passes.
//
// Replicas announce themselves once a second, with what they lead. A vacant lease
// is open to all (one that ran out, to a replica that has just started, only after
// those that have run for long); where one replica has led at least two shards more than another
// for two seconds, the one that leads the most gives one up, and another each
// second until that is no longer so. What is even then stays where it is, and for 15 s
// after a replica fell silent everything does: its firings are rescued by a leader that
// has watched it all along. Every replica that may lead watches the workers, not only
// the leader, since who died may have been the leader.
//
// # Time
//
// A second begins when the later of the leader's clock and the store's clock
// has reached it: Claim's cutoff is the smaller of the two seconds, checked in
// the claim's own step. A leader that knows the store's clock to be behind holds
// its tick back by that much instead of being refused. The next due second is computed from the due second,
// never from when something ran. See Schedule for calendars, time zones and
// daylight saving, Plan.NextClaim for what was missed.
//
// Replicas publish by how much their clocks differ from the store's. Of three or
// more, one that is over a second from what most of them have leads nothing and
// refuses creates until it is right. Where two or more agree, within a second, and
// the store's clock is over five seconds from theirs, theirs decides: claims carry
// the difference (ClaimBatch.Skew). Each needs three announcements in a row, and
// is an error in the log, once.
//
// # What goes wrong, and what happens
//
//	leader dies between reading and claiming   nothing was changed; the next leader reads again
//	reply to a claim is lost                   the next read shows what happened; the compare refuses a second advance
//	leader pauses past its lease               ErrFenced; it drops its loop and campaigns afresh
//	plan changed or removed after the read     the compare answers Changed or Gone; read again
//	plan cannot be decoded                     quarantined by the store with the reason; the shard goes on
//	worker dies while running                  rescued by the shard's leader: queued again under the same id, attempt + 1
//	worker dies five times over one firing     dead letter, "worker lost"
//	worker wakes after its firing was rescued  its finish is owner-checked: NotHeld, nothing changes
//	reply to a take is lost                    the replica sweeps what is held in its name and not running, and hands it back
//	reply to a finish is lost                  sent again unchanged; the store answers NotHeld for what it already did
//	action fails, worth retrying               queued again after a growing delay; after the last attempt a dead letter
//	target hangs                               its attempt is cut at its deadline; it holds only its own target's slots
//	an action is not allowed any more          its stored plans are claimed, and their firings become dead letters
//	an action's backlog is at its limit        its plans stay in the schedule (Full), where they can still be removed
//	everything was down                        due seconds within the grace all fire; older ones of a plan collapse into one
//	replica leads too many shards              it gives them up, one a second, to who leads fewer
//	this machine's clock is not the fleet's    it leads nothing, and refuses creates
//	the store's clock is not the fleet's       the fleet's clock decides, if at least two agree
//	two processes live under one replica id    the one that started later stops
//	wall clock is set                          the ticker wakes, counts it, and goes on from the new time; due seconds only grow
//
// # How it is watched
//
// Counters and Meters are what a process has counted; Engine.Health is how it is now,
// and Health.Problems what of that is its own fault: only that may take a replica out
// of a load balancer. Glances are what the whole deployment shows. In each shard a
// canary, a plan of forsun's own, goes all the way again and again: see canary.go.
//
// # Scale
//
// What follows was measured with forsun-bench on two cores that scheduler, Redis and load
// shared, plans of 16-byte keys and 100 bytes of parameters, Redis 7 with its log synced
// each second; figures of one virtual machine, whose cores were up to three times as fast on
// some days as on others. make bench takes them again on another.
//
//	                       Redis                              embedded, every claim synced
//	a firing, in a burst   5–12 µs of Redis, 5–17 of forsund  7–15 µs of forsund
//	firings/s, 100,000     43,000–160,000                     63,000–249,000
//	  due in one second    with four shards a fifth more
//	1,000,000 in a second  37,000–130,000/s
//	other clients' p99     2–7 ms, with a million 3–6 ms
//	a create by Thrift     13–30 µs of Redis, 15,000–35,000/s 26,000–35,000/s (16 connections)
//	16 sent before answers 37,000–122,000/s                   122,000–148,000/s (16 connections)
//	  are read
//	1000 plans a request   6–14 µs of Redis, 59,000–177,000/s 115,000–433,000/s (HTTP, 4 connections)
//	a pending plan         540 B of memory, 650 until its     57–120 B of disk (parameters that compress well)
//	                       key is packed, some minutes
//	10,000,000 pending     5.4 GB                             62 MB resident, open again in 0.2–2 s
//	kill -9, until another fires 2.3 s; running firings again after 8 s
//
// One Redis node. Its commands run on one thread: at 12 µs a firing that thread is full at
// some 80,000 a second, if forsund is on other cores; a forsund core at some 55,000, and
// those are added by replicas. With plans that fire once an hour that is 290 million plans,
// so memory is what runs out first: 10 million plans are 5.4 GB, 6.6 GB just after they were
// stored, and while Redis rewrites its log it needs up to as much again for the pages that
// change. What is pending does not make a firing dearer to notice: the schedule is a sorted
// set whose depth costs a logarithm: a burst beside 10 million is 0.85 to 1 of one without;
// while Redis rewrites its log on the same two cores, 0.55. A firing that waits for another
// replica's worker costs a quarter more.
//
// A Cluster. A shard is all keys with its hash tag, so it is one slot and lives on one node
// whole, with its lease and its leader. Shards (--driver-redis-server-id 0-255) are chosen
// once for a deployment; a plan's key says which is its. Where the slots of so many tags lie
// is chance, or the operator's: with eight or more shards a node the fullest node has
// about half more than the mean, and slots can be moved. Leaders spread over the replicas by
// themselves, at most two claims are under way from a replica to a node, and firings run on
// all replicas. Nodes share nothing: what one carries is added up. That is arithmetic, and
// not measured here: two cores are no Cluster.
//
// A billion plans, by that arithmetic, are 540 GB, with room for rewriting the log 1.1 TB:
// some 20 nodes of 64 GB, 256 shards of 4 million plans and 2.1 GB, each with
// at most 100,000 attempts (64 MB) of history. Each once a day is 11,600 firings a
// second, 500 a node, under 1 % of it. What does not spread over time is a second: a
// million plans due in the same one took the one node here 8 to 27 s; over nodes they do
// spread. Who can choose should not choose :00.
//
// What limits first, then: with Redis its memory; then its thread, at bursts and for creates
// one by one (in bulk, or sent without waiting, they cost half or less); then the processors of forsund, which replicas add;
// then the targets, since a firing with a real action costs far more than all of this. The
// embedded store is one machine's: its disk's syncs for creates one by one, then its processors.
//
// # What is not promised
//
// Firings of one plan, or of one second, are in no order, and may overlap.
// Exactly once is not promised for a firing whose worker died, was stopped past
// the drain bound, or lost its store for long while running it: it runs again
// under the same id. A store that loses its newest writes (an unsynced disk, a
// failover to a replica that lagged) may claim again what it had claimed. The
// history is bounded by count and age: it is evidence, not an archive.
package scheduler
