// Package migrate takes over what the Python forsun has stored, from its Redis or
// its dump file, into a running forsund. What it reads it does not change: it sends
// Redis SCAN, GET, GETRANGE and PTTL only.
//
// # What is stored
//
// A plan is a msgpack map of the fields of the HTTP plan object, under
// <prefix>:<server id>:plan:<key> in Redis, or in the array plans of the dump, a
// msgpack map {plans, time_plans, current_time}. Text is raw or str, of whatever
// bytes. Times are Unix seconds only where the host was on UTC: the Python forsun made
// them by reading UTC as the host's standard time, so that they are off by its offset
// (in Shanghai by −28800 s). current_time (in Redis <prefix>:<server id>:current:time) is the
// second that was handled last.
//
// # What becomes of a plan
//
//	next time to come             stored with just that next time, its firings so far, its last time
//	next time passed, unhandled   it was missed: stored so, and fires at once (--past-due=skip: goes on with its next time)
//	next time before current_time it was handled, and not moved on: goes on with its next time; one without another is left out
//	no next time                  goes on as a new plan would; one that has had all of its firings is left out
//	as many firings as its count  but with a next time: stored for one firing more, which the Python forsun would do, too
//	<key>:_:_retry                a retry: a plan of its own, for one firing
//	calendar                      in UTC, as it was: with forsun.timezone=UTC where the target's zone is another
//	calendar with a week          its next time stays; later ones are on that day of the week, which the Python forsun ignored
//	params that are no text       numbers as decimals, true and false, lists and maps as JSON; null is dropped
//	action that is not there, values that forsund refuses, what cannot be read: left out, with the reason
package migrate
