// Package chaos runs fleets of forsund as processes, on real servers, does to them
// what happens to machines and networks, and holds what they did against the
// ledger (package ledger), which knows nothing of forsun but its interfaces. It is
// tests only.
//
// A test is named after its scenario: TestC03LeaderPaused is of C3. It begins with
// scenario, which gives it a seed that makes its choices, a time line, and a
// directory that is kept if it fails. Each has forms: short, which "go test" runs if
// the scenario is one of inTest; full, at most some 20 s; and long, minutes. CHAOS
// chooses one.
package chaos
