package rpc

import (
	"context"
	"errors"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/snower/forsun/rpc/gen/forsun"
	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
)

func (h *handler) restorePlans(ctx context.Context, a *forsun.ForsunRestorePlansArgs) (thrift.TStruct, error) {
	plans := make([]*scheduler.Plan, len(a.Plans))
	for i, info := range a.Plans {
		plans[i] = wire.ToPlan(info)
	}
	errs, err := h.svc.Restore(ctx, plans, scheduler.RestoreOptions{Replace: a.Replace, CheckOnly: a.CheckOnly})
	if err != nil {
		return &forsun.ForsunRestorePlansResult{Err: h.fail(ctx, wire.Create, "restorePlans", "", err)}, nil
	}
	results := make([]*forsun.ForsunRestored, len(plans))
	audit, told := h.audit.many(len(plans))
	defer told()
	for i, p := range plans {
		r := &forsun.ForsunRestored{Outcome: wire.RestoredOK, NextTime: p.Due}
		results[i] = r
		switch err := errs[i]; {
		case errors.Is(err, scheduler.ErrExists):
			r.Outcome, r.NextTime = wire.RestoredExists, 0
			continue
		case err != nil:
			f := h.fail(ctx, wire.Create, "restorePlans", p.Key, err)
			r.Code, r.Message = int32(f.Code), f.Message
		}
		if !stored(errs[i]) {
			r.Outcome, r.NextTime = wire.RestoredNot, 0
		}
		if !a.CheckOnly {
			audit.set(ctx, "restorePlans", p, errs[i])
		}
	}
	return &forsun.ForsunRestorePlansResult{Success: results}, nil
}
