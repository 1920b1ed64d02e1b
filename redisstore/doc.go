// Package redisstore keeps plans and firings in Redis 7 (standalone, Sentinel or
// Cluster), for any number of forsund replicas that act as one scheduler.
//
// # What it promises
//
// Every step of the contract (scheduler/store.go) that changes anything is one Lua
// script over the keys of one shard: it reads and checks, then writes, and Redis
// runs it alone. What an error can cut short (a key of forsun's is of another type,
// by a hand that is not forsun's) is written first, so that a firing leaves the place
// where it is only when it stands in the next. The
// reply to a script can be lost; what to do then is told by its kind: a claim is read
// again (the compare refuses it a second time), a finish is sent again unchanged
// (what was done is answered NotHeld), what a take brought is found by the worker's
// sweep, a put or remove is answered with an error only once it can no longer take
// effect (it carries a deadline in Redis' time).
//
// What Redis acknowledged and then loses (no AOF, a failover to a replica that
// lagged) is lost here, too: see Options.ReplicaDurability, and what Check says of
// Redis' settings. Claims of a lost second are made again under the same firing
// ids.
//
// Behind Sentinel a server may take itself for the master that was replaced, and a
// sentinel may say so, too. So all sentinels are asked when a server is connected to, and
// the one that knows of the newest failover (SENTINEL MASTER, config-epoch) decides: see
// sentinel.go.
//
// # Layout
//
// keys.go names every key, codec.go says what a plan looks like, firing.go a firing,
// attempt.go a line of the history. All keys of a shard share a hash tag, and every
// key that a script touches is declared to it.
//
//	plan:<key> ── CLAIM ──▶ firings:<action> ── TAKE ──▶ held:<action>:<worker>
//	     │  (renamed to,        ▲        ▲                  │        │
//	     │   or copied)  PROMOTE│        │ RESCUE, RETURN    │ FINISH │
//	     ▼       │              │        └───────────────────┘        ▼
//	 schedule    └▶ firing:<id> │                                history, dead
//	                     retry:<key>, deferred ◀── RETRY, DEFER ──┘
//
// That is the long way. Nearly all firings go a shorter one, many at a time as one string
// (bundle.go): those of plans that are what they were when they were read, claimed for the
// slots of the replica that claims, or, where it has none, to wait for another's:
//
//	plan:<key> ── CLAIM ──▶ bundle:<take>, bundles:<action>:<worker> ── FINISH ──▶ history
//	     │                        ▲
//	     └───── CLAIM ──▶ bundle:<take>, bundles:<action> ── TAKE
//
// new.lua, handout.lua and done.lua know only such plans and firings, and do nothing at
// all if one of a batch is another; then put.lua, claim.lua and finish.lua do it.
//
// Queues are lists of short entries, and what a worker holds is a hash of them: moving
// an entry and checking its owner (is the receipt a field of the worker's hash?)
// takes Redis a third of the time that a stream with a consumer group takes, where the
// owner must be asked for by XPENDING and an entry be acknowledged and deleted; and
// there is no group to be created from the wrong place, and no consumer whose deletion
// makes its entries unreachable. A receipt names the take and is never given again,
// not even by a Redis that lost its newest writes, so that a late finish can never
// end another firing.
//
// What makes a script slow is not its commands but its strings: Lua copies, hashes,
// interns and collects each that it sees, and the hash of Lua 5.1 looks at every tenth
// byte of a plan of 300, so that plans that are alike stand in one chain. So what a plan
// carries, and what is written down of an attempt, does not come through Lua where that
// can be helped. A string is stored before the script, for a minute, and the script
// makes it last; plans are not compared with what was read of them, but edits, which is
// another after any change, and after a plan is created whose key someone deleted by
// hand. Nor do scripts turn numbers into text or back where they need not: each time
// costs as much as a command.
//
// Counted in thousands of instructions of redis-server (BENCH_REDIS in bench_test.go says
// how), a firing of a plan for one costs 20, of which 5 are to read it and 3 to finish it
// with its line in the history; one that waits for a worker 25; the long way 60. A third
// of it are the commands; an argument costs 1, and is still cheaper than to cut it out of
// another in Lua. A new plan costs 28, in batches of 100.
//
// The index for listings by prefix is in two parts: index, a sorted set of keys, which
// creates, claims and removals keep, and packed, runs of keys that the leader makes of
// them at its leisure, in a fifth of the memory: see pack.go.
//
// What is stored has a schema, which stands in the layout; layout.go says how a fleet
// comes to another one.
//
// # Changes and retries
//
// A retry must not come if its plan was removed or replaced since the claim.
// Pending ones are found by key (retry:<key>) and dropped. For those that run just
// then the change is remembered in changed, under a number of the counter changes that
// is greater than the one every firing carries from its claim. It is remembered
// only while firings are unfinished (backlog's :total), and of the last 100,000 to
// 200,000 changed plans.
//
// # Cost
//
// One claim takes at most 100 plans and about 512 KiB, and at most two claims per replica
// and node are under way, so that other clients of the same Redis are served in
// between. The second is sent before the first is answered, on the same connection, and
// counts on it (readplans.go): if the first is refused the second is, too, and both
// are made once more in the way that needs no luck. See BenchmarkCycle for what a firing
// costs, BenchmarkMemory for a plan.
package redisstore
