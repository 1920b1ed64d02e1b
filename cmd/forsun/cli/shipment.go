package cli

import (
	"context"

	"github.com/snower/forsun/cmd/forsun/migrate"
	"github.com/snower/forsun/rpc/client"
	"github.com/snower/forsun/scheduler"
)

// lane is a connection that shipments take, one after the other.
type lane struct {
	client *client.Client
	target *migrate.Target
}

// shipment is some lines of a file, stored together.
type shipment struct {
	batch   []numbered
	records []numberedPlan // lines of export --ndjson
	lines   []report

	stored, there, fired, failed int

	*lane
	keys map[string]bool
	stop context.CancelFunc
	done chan struct{} // closed once err and all else is final
	err  error         // what ends the import
}

// numberedPlan is the record of a line.
type numberedPlan struct {
	line int
	plan *scheduler.Plan
}

// numbered is the plan of a line.
type numbered struct {
	line    int
	request scheduler.Request
}

// report says why a line is not stored, or not surely.
type report struct {
	line int
	err  error
	more string // to be told behind it
}

// noteKeys notes what shares is to know.
func (sh *shipment) noteKeys() {
	sh.keys = make(map[string]bool, len(sh.batch)+len(sh.records))
	for i := range sh.batch {
		sh.keys[sh.batch[i].request.Key] = true
	}
	for _, r := range sh.records {
		sh.keys[r.plan.Key] = true
	}
}

// isDone says whether all is final.
func (sh *shipment) isDone() bool {
	select {
	case <-sh.done:
		return true
	default:
		return false
	}
}

// shares says whether both have a plan of the same key.
func (sh *shipment) shares(other *shipment) bool {
	for key := range other.keys {
		if sh.keys[key] {
			return true
		}
	}
	return false
}

// run stores all of it. Only meanwhile an interrupt is waited for: while nothing is sent it
// ends the process.
func (sh *shipment) run(ctx context.Context, interrupt func(context.Context) (context.Context, context.CancelFunc)) {
	defer close(sh.done)
	ctx, stop := interrupt(ctx)
	defer stop()
	if sh.err = sh.store(ctx, sh.batch); sh.err == nil {
		sh.err = sh.restore(ctx)
	}
}

// store stores plans. The server refuses a request for one bad plan in it: then
// the halves are tried, down to the bad ones, so that all others are stored.
func (sh *shipment) store(ctx context.Context, batch []numbered) error {
	if len(batch) == 0 {
		return nil
	}
	requests := make([]scheduler.Request, len(batch))
	for i, b := range batch {
		requests[i] = b.request
	}
	results, err := sh.client.CreateMany(ctx, requests)
	for i, r := range results {
		if storedOf(r) {
			sh.stored++
		} else {
			sh.failed++
		}
		if r.Err != nil {
			sh.refuse(batch[i].line, r.Err, "")
		}
	}
	rest := batch[len(results):]
	switch {
	case err == nil:
		return nil
	case !planError(err):
		sh.refuse(rest[0].line, err, "; the import stops here")
		return err
	case len(rest) == 1:
		sh.failed++
		sh.refuse(rest[0].line, err, "")
		return nil
	}
	half := len(rest) / 2
	if err := sh.store(ctx, rest[:half]); err != nil {
		return err
	}
	return sh.store(ctx, rest[half:])
}

// restore stores records.
func (sh *shipment) restore(ctx context.Context) error {
	plans := make([]*scheduler.Plan, len(sh.records))
	for i, r := range sh.records {
		plans[i] = r.plan
	}
	answers, err := sh.target.Store(ctx, plans)
	var stop error
	for i, a := range answers {
		n := sh.records[i].line
		switch a.State {
		case migrate.Stored:
			sh.stored++
		case migrate.Exists:
			sh.there++
		case migrate.Fired:
			sh.fired++
		case migrate.Refused:
			sh.failed++
			if !planError(a.Err) {
				stop = a.Err
			}
		default: // no answer
			sh.refuse(n, err, "; the import stops here: it may be run again")
			return err
		}
		if a.Err != nil {
			sh.refuse(n, a.Err, "")
		}
	}
	if err == nil {
		err = stop // the store's: it would say the same to all that follow
	}
	return err
}

// refuse notes why a line is not stored, or not surely.
func (sh *shipment) refuse(n int, err error, more string) {
	sh.lines = append(sh.lines, report{n, err, more})
}
