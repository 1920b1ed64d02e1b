//go:build race

package memstore

// raceEnabled tells that everything takes its time.
const raceEnabled = true
