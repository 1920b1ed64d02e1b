// Package ledger is the witness of the chaos tests: it knows what was asked of
// a scheduler and what came of it, and shares no code with the scheduler.
//
//   - Sink is called by the firings, over HTTP and Thrift, and a List of a Redis is
//     added to by them. Each call is recorded before it is answered. A Sink is a
//     process of its own (cmd/ledger), whose file the tests Follow.
//   - Journal is what was asked: each create and remove, noted before it is sent
//     and again when it is answered. Client sends them, over HTTP with JSON.
//   - Judge compares the two. What should have fired it finds by stepping through
//     every second with a matcher of its own (Spec); a request whose outcome is
//     not known allows both histories.
//
// Clocks are those of one machine: that a firing never came early is judged
// without any tolerance.
package ledger
