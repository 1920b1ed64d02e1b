// Package chaos runs fleets of forsund as processes, on real servers, does to them
// what happens to machines and networks, and holds what they did against the
// ledger (package ledger), which knows nothing of forsun but its interfaces. It is
// tests only.
//
// Each scenario has a short form, which "go test" runs, and the full one, which
// CHAOS=full chooses ("make fleet").
package chaos
