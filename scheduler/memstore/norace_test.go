//go:build !race

package memstore

// raceEnabled: see race_test.go.
const raceEnabled = false
