// Package storetest is what a scheduler.Store is measured with: a conformance
// suite that every store passes, a random test against a model, and the parts
// that tests of the engine need (a clock to set, an action that records).
//
// The suite says nothing that store.go does not say. Where the contract leaves
// a store free, so does the suite: a page may be short, a hint may be lost, a
// clock may be real. It therefore never waits for time to pass where it can make
// plans that are overdue instead, and it finds the shard of a key by looking
// which shard's Due shows it.
//
// It does not test speed, durability across a power cut, or what several
// processes do to each other: the benchmarks and the chaos scenarios do.
package storetest
