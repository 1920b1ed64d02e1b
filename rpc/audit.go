package rpc

import (
	"context"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/scheduler"
)

// audit tells of every change that a client makes: a line with who did what to
// which plan. It tells no parameters, which may hold secrets that nobody knows for
// such; at level DEBUG the server's own log has them, with what is known masked.
type audit struct {
	log   zerolog.Logger // Options.Audit
	debug zerolog.Logger
}

func newAudit(opts Options) audit { return audit{log: opts.Audit, debug: opts.Logger} }

// maxAuditIDs bounds the ids of dead letters in a line.
const maxAuditIDs = 100

// begin begins a line with who did it.
func (a audit) begin(ctx context.Context, method string) *zerolog.Event {
	e := a.log.Info()
	if !e.Enabled() {
		return e
	}
	peer, _ := scheduler.PeerFrom(ctx)
	e = e.Str("method", method).Str("peer", peer.Address)
	if peer.Name != "" {
		e = e.Str("as", peer.Name)
	}
	return e
}

// plans tells of plans that were stored or removed, which the method says.
func (a audit) plans(ctx context.Context, method string, plans ...*scheduler.Plan) {
	for _, p := range plans {
		if e := a.debug.Debug(); e.Enabled() {
			peer, _ := scheduler.PeerFrom(ctx)
			e.Str("method", method).Str("peer", peer.Address).Str("key", scheduler.MaskText(p.Key)).Str("action", p.Action).
				Int64("next_time", p.Due).Interface("params", scheduler.MaskParams(p.Params)).Msg("plan changed")
		}
		if e := a.begin(ctx, method); e.Enabled() {
			e.Str("key", scheduler.MaskText(p.Key)).Str("action", p.Action).Int64("next_time", p.Due).Msg("audit: " + did(method))
		}
	}
}

// removed tells of a plan that is gone for all that err says.
func (a audit) removed(ctx context.Context, method, key string, p *scheduler.Plan, err error) {
	if p == nil {
		p = &scheduler.Plan{Key: key}
	}
	if stored(err) {
		a.plans(ctx, method, p)
	}
}

// dead tells of dead letters that were redriven or purged.
func (a audit) dead(ctx context.Context, method string, sel scheduler.DeadSelection, n int) {
	e := a.begin(ctx, method)
	switch {
	case sel.Key != "":
		e = e.Str("key", scheduler.MaskText(sel.Key))
	case sel.All:
		e = e.Bool("all", true)
	default:
		e = e.Strs("ids", sel.IDs[:min(len(sel.IDs), maxAuditIDs)])
	}
	e.Int("dead_letters", n).Msg("audit: dead letters " + did(method))
}

// did is what a method has done.
func did(method string) string {
	switch method {
	case "remove", "DELETE " + planPath:
		return "plan removed"
	case "redrive":
		return "redriven"
	case "purge":
		return "purged"
	default:
		return "plan set"
	}
}
