package rpc

import (
	"context"
	"io"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/scheduler"
)

// audit tells of every change that a client makes: a line with who did what to
// which plan. It tells no parameters, which may hold secrets that nobody knows for
// such; at level DEBUG the server's own log has them, with what is known masked.
type audit struct {
	log   zerolog.Logger // Options.Audit
	lines io.Writer      // Options.AuditLines
	debug zerolog.Logger
}

func newAudit(opts Options) audit {
	return audit{log: opts.Audit, lines: opts.AuditLines, debug: opts.Logger}
}

// auditRoom is how many bytes of lines are written together.
const auditRoom = 32 << 10

// many tells of n changes that one request made, some of their lines at a time: to write
// each by itself was a tenth of what it cost to store a plan in bulk. Before the request is
// answered end is to be called.
func (a audit) many(n int) (all audit, end func()) {
	if n < 2 || a.lines == nil {
		return a, func() {}
	}
	w := &linesTogether{to: a.lines}
	a.log = a.log.Output(w)
	return a, w.flush
}

// linesTogether writes lines, as many as have room.
type linesTogether struct {
	to    io.Writer
	lines []byte
}

func (w *linesTogether) Write(line []byte) (int, error) {
	if len(w.lines)+len(line) > auditRoom {
		w.flush()
	}
	if w.lines == nil {
		w.lines = make([]byte, 0, auditRoom)
	}
	w.lines = append(w.lines, line...)
	return len(line), nil
}

func (w *linesTogether) flush() {
	if len(w.lines) > 0 {
		_, _ = w.to.Write(w.lines) // whoever logs can do nothing about it
		w.lines = w.lines[:0]
	}
}

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

// set tells of a plan that is stored for all that err says.
func (a audit) set(ctx context.Context, method string, p *scheduler.Plan, err error) {
	switch {
	case !stored(err):
	case err != nil: // whether it replaced one is not said then
		a.plan(ctx, method, "plan set", p)
	case p.Replaced:
		a.plan(ctx, method, "plan changed", p)
	default:
		a.plan(ctx, method, "plan created", p)
	}
}

// removed tells of a plan that is gone for all that err says.
func (a audit) removed(ctx context.Context, method, key string, p *scheduler.Plan, err error) {
	if p == nil {
		p = &scheduler.Plan{Key: key}
	}
	if stored(err) {
		a.plan(ctx, method, "plan removed", p)
	}
}

// plan tells what was done to a plan.
func (a audit) plan(ctx context.Context, method, did string, p *scheduler.Plan) {
	if e := a.debug.Debug(); e.Enabled() {
		peer, _ := scheduler.PeerFrom(ctx)
		e.Str("method", method).Str("peer", peer.Address).Str("key", scheduler.MaskText(p.Key)).Str("action", p.Action).
			Int64("next_time", p.Due).Interface("params", scheduler.MaskParams(p.Params)).Msg(did)
	}
	if e := a.begin(ctx, method); e.Enabled() {
		e.Str("key", scheduler.MaskText(p.Key)).Str("action", p.Action).Int64("next_time", p.Due).Msg("audit: " + did)
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
	did := "purged"
	if method == "redrive" {
		did = "redriven"
	}
	e.Int("dead_letters", n).Msg("audit: dead letters " + did)
}
