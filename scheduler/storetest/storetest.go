package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
)

// Factory opens stores for the suite.
type Factory struct {
	// Open returns a fresh, empty store that is closed, and whose data is thrown
	// away, when t ends. Closing a store that the suite has closed already must be
	// harmless.
	Open func(t *testing.T) Harness
}

// Harness is an open store with what a test may do to it from outside.
type Harness struct {
	Store scheduler.Store

	// Peer is the store as another replica sees it, open on the same data and
	// closed with it. nil stands for Store itself: an embedded store has no
	// other replica.
	Peer scheduler.Store

	// Reopen ends the store (as a crash or as a stop, as the harness likes) and
	// opens it again on the same data; Store and Peer are not used afterwards. It
	// may be called more than once. nil: the rows that need it are skipped.
	Reopen func() scheduler.Store

	// Now is the store's clock; nil: Store.Now is asked.
	Now func() time.Time

	// Advance moves the store's clock on. nil: it is a real clock, and the few
	// rows that need a second to pass wait for it.
	Advance func(d time.Duration)

	// Corrupt makes the stored plan undecodable, Orphan deletes it behind the
	// store's back and leaves its schedule entry. nil: the rows that need them
	// are skipped.
	Corrupt func(p *scheduler.Plan)
	Orphan  func(p *scheduler.Plan)
}

// row is one property of the contract; its reason stands above it.
type row struct {
	name  string
	needs func(h Harness) string // what the harness lacks for this row, "" if nothing; nil: it needs nothing
	run   func(r *rig)
}

// rowBound is how long a row may take, with the race detector on a machine that
// is busy with other things. Every context of a row ends with it.
const rowBound = 90 * time.Second

// Run tests the contract of scheduler.Store on stores opened by f.
func Run(t *testing.T, f Factory) {
	t.Helper()
	groups := []struct {
		name string
		rows []row
	}{
		{"Plan", planRows()},
		{"List", listRows()},
		{"Due", dueRows()},
		{"Claim", claimRows()},
		{"ClaimLimits", claimLimitRows()},
		{"HandOut", handOutRows()},
		{"Take", takeRows()},
		{"Finish", finishRows()},
		{"Retry", retryRows()},
		{"Cancel", cancelRows()},
		{"Rescue", rescueRows()},
		{"History", historyRows()},
		{"Dead", deadRows()},
		{"Lease", leaseRows()},
		{"Replica", replicaRows()},
		{"Observe", observeRows()},
		{"Check", checkRows()},
		{"Context", contextRows()},
		{"Reopen", reopenRows()},
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			for _, w := range g.rows {
				t.Run(w.name, func(t *testing.T) {
					t.Parallel()
					h := f.Open(t)
					if w.needs != nil {
						if lack := w.needs(h); lack != "" {
							t.Skip("the harness has no " + lack)
						}
					}
					ctx, cancel := context.WithTimeout(context.Background(), rowBound)
					t.Cleanup(cancel)
					w.run(newRig(ctx, t, h))
				})
			}
		})
	}
	t.Run("Model", func(t *testing.T) {
		t.Parallel()
		runModel(t, f)
	})
}

func needsReopen(h Harness) string {
	if h.Reopen == nil {
		return "Reopen"
	}
	return ""
}

func needsCorrupt(h Harness) string {
	if h.Corrupt == nil {
		return "Corrupt"
	}
	return ""
}

func needsOrphan(h Harness) string {
	if h.Orphan == nil {
		return "Orphan"
	}
	return ""
}
