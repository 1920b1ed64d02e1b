package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/rs/zerolog"

	"github.com/snower/forsun/rpc/gen/forsun"
	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
)

// handler answers the methods of the Thrift interface from a Service.
type handler struct {
	svc  *scheduler.Service
	info *Info
	opts Options
	log  zerolog.Logger

	quiet zerolog.Logger
	audit audit
}

func newHandler(svc *scheduler.Service, opts Options) *handler {
	return &handler{svc: svc, info: opts.Info, opts: opts, log: opts.Logger, quiet: quiet(opts.Logger), audit: newAudit(opts)}
}

// methods returns the methods by their names on the wire.
func (h *handler) methods() map[string]method {
	return map[string]method{
		"ping":          bindPlain(forsun.NewForsunPingArgs, h.ping),
		"create":        bindCreate(forsun.NewForsunCreateArgs, create),
		"createTimeout": bindCreate(forsun.NewForsunCreateTimeoutArgs, createTimeout),
		"remove":        bind(forsun.NewForsunRemoveArgs, h.remove),
		"get":           bind(forsun.NewForsunGetArgs, h.get),
		"getCurrent":    bindPlain(forsun.NewForsunGetCurrentArgs, h.getCurrent),
		"getTime":       bindPlain(forsun.NewForsunGetTimeArgs, h.getTime),
		"getKeys":       bindPlain(forsun.NewForsunGetKeysArgs, h.getKeys),
		"forsun_call":   bindPlain(forsun.NewForsunForsunCallArgs, h.forsunCall),
		"info":          bindPlain(forsun.NewForsunInfoArgs, h.getInfo),
		"getPlan":       bind(forsun.NewForsunGetPlanArgs, h.getPlan),
		"listPlans":     bind(forsun.NewForsunListPlansArgs, h.listPlans),
		"listTime":      bind(forsun.NewForsunListTimeArgs, h.listTime),
		"createMany":    bind(forsun.NewForsunCreateManyArgs, h.createMany),
		"history":       bind(forsun.NewForsunHistoryArgs, h.history),
		"deadLetters":   bind(forsun.NewForsunDeadLettersArgs, h.deadLetters),
		"redrive":       bind(forsun.NewForsunRedriveArgs, h.redrive),
		"purge":         bind(forsun.NewForsunPurgeArgs, h.purge),
		"preview":       bind(forsun.NewForsunPreviewArgs, h.preview),
		"shards":        bind(forsun.NewForsunShardsArgs, h.shards),
		"serverTime":    bindPlain(forsun.NewForsunServerTimeArgs, h.serverTime),
		"replicas":      bind(forsun.NewForsunReplicasArgs, h.replicas),
		"check":         bind(forsun.NewForsunCheckArgs, h.check),
		"auth":          bind(forsun.NewForsunAuthArgs, h.auth),
		"backup":        bind(forsun.NewForsunBackupArgs, h.backup),
		"restorePlans":  bind(forsun.NewForsunRestorePlansArgs, h.restorePlans),
	}
}

// fail turns an error into what a method throws, and logs it if it is
// unexpected.
func (h *handler) fail(ctx context.Context, op wire.Op, method, key string, err error) *forsun.ForsunPlanError {
	code, message, unexpected := wire.FromError(op, err)
	if unexpected {
		logFailure(ctx, h.log, method, key, err)
	}
	return &forsun.ForsunPlanError{Code: int16(code), Message: message}
}

// plain turns an error into the exception of a method that throws nothing.
func (h *handler) plain(ctx context.Context, method string, err error) error {
	var long *tooLongError
	if errors.As(err, &long) {
		return thrift.NewTApplicationException(thrift.INTERNAL_ERROR, err.Error())
	}
	f := h.fail(ctx, wire.Read, method, "", err)
	return thrift.NewTApplicationException(thrift.INTERNAL_ERROR, fmt.Sprintf("%d: %s", f.Code, f.Message))
}

// logFailure logs what a client is only told the code of.
func logFailure(ctx context.Context, log zerolog.Logger, method, key string, err error) {
	peer, _ := scheduler.PeerFrom(ctx)
	e := log.Error().Err(err).Str("method", method).Str("peer", peer.Address)
	if key != "" {
		e = e.Str("key", key)
	}
	e.Msg("request failed")
}

func (h *handler) ping(context.Context, *forsun.ForsunPingArgs) (thrift.TStruct, error) {
	return &forsun.ForsunPingResult{Success: new(int16)}, nil
}

// creation is a plan that a call asks to create.
type creation struct {
	method  string
	request scheduler.Request
	result  func(*forsun.ForsunPlan, *forsun.ForsunPlanError) thrift.TStruct
}

func create(a *forsun.ForsunCreateArgs) *creation {
	return &creation{"create", wire.LegacyCreate(a), func(p *forsun.ForsunPlan, err *forsun.ForsunPlanError) thrift.TStruct {
		return &forsun.ForsunCreateResult{Success: p, Err: err}
	}}
}

func createTimeout(a *forsun.ForsunCreateTimeoutArgs) *creation {
	return &creation{"createTimeout", wire.LegacyCreateTimeout(a), func(p *forsun.ForsunPlan, err *forsun.ForsunPlanError) thrift.TStruct {
		return &forsun.ForsunCreateTimeoutResult{Success: p, Err: err}
	}}
}

// createAll creates plans of different keys, each for itself.
func (h *handler) createAll(ctx context.Context, all []*creation) []thrift.TStruct {
	requests := make([]scheduler.Request, len(all))
	for i, c := range all {
		requests[i] = c.request
	}
	results := make([]thrift.TStruct, len(all))
	plans, errs := h.svc.CreateEach(ctx, requests)
	audit, told := h.audit.many(len(all))
	defer told()
	for i, c := range all {
		p := plans[i]
		if p == nil {
			p = &scheduler.Plan{Key: c.request.Key, Action: c.request.Action}
		}
		audit.set(ctx, c.method, p, errs[i])
		if errs[i] != nil {
			results[i] = c.result(nil, h.fail(ctx, wire.Create, c.method, c.request.Key, errs[i]))
		} else {
			results[i] = c.result(wire.LegacyPlan(plans[i]), nil)
		}
	}
	return results
}

func (h *handler) remove(ctx context.Context, a *forsun.ForsunRemoveArgs) (thrift.TStruct, error) {
	p, err := h.svc.Remove(ctx, a.Key)
	h.audit.removed(ctx, "remove", a.Key, p, err)
	if err != nil {
		return &forsun.ForsunRemoveResult{Err: h.fail(ctx, wire.Remove, "remove", a.Key, err)}, nil
	}
	return &forsun.ForsunRemoveResult{Success: wire.LegacyPlan(p)}, nil
}

func (h *handler) get(ctx context.Context, a *forsun.ForsunGetArgs) (thrift.TStruct, error) {
	p, err := h.svc.Get(ctx, a.Key)
	if err != nil {
		return &forsun.ForsunGetResult{Err: h.fail(ctx, wire.Read, "get", a.Key, err)}, nil
	}
	return &forsun.ForsunGetResult{Success: wire.LegacyPlan(p)}, nil
}

func (h *handler) getPlan(ctx context.Context, a *forsun.ForsunGetPlanArgs) (thrift.TStruct, error) {
	p, err := h.svc.Get(ctx, a.Key)
	if err != nil {
		return &forsun.ForsunGetPlanResult{Err: h.fail(ctx, wire.Read, "getPlan", a.Key, err)}, nil
	}
	return &forsun.ForsunGetPlanResult{Success: wire.FromPlan(p)}, nil
}

func (h *handler) getCurrent(ctx context.Context, _ *forsun.ForsunGetCurrentArgs) (thrift.TStruct, error) {
	plans, err := h.dueAt(ctx, "getCurrent", h.svc.Now().Unix())
	if err != nil {
		return nil, err
	}
	return &forsun.ForsunGetCurrentResult{Success: plans}, nil
}

func (h *handler) getTime(ctx context.Context, a *forsun.ForsunGetTimeArgs) (thrift.TStruct, error) {
	plans, err := h.dueAt(ctx, "getTime", int64(a.Timestamp))
	if err != nil {
		return nil, err
	}
	return &forsun.ForsunGetTimeResult{Success: plans}, nil
}

// dueAt lists all plans due at a second.
func (h *handler) dueAt(ctx context.Context, method string, second int64) ([]*forsun.ForsunPlan, error) {
	plans := []*forsun.ForsunPlan{}
	err := each(ctx, dueAtPager(h.svc, second), planSize, h.opts.MaxList, &tooLongError{method, "listTime"},
		func(p *scheduler.Plan) int {
			plans = append(plans, wire.LegacyPlan(p))
			return planSize(p)
		})
	if err != nil {
		return nil, h.plain(ctx, method, err)
	}
	return plans, nil
}

func (h *handler) getKeys(ctx context.Context, a *forsun.ForsunGetKeysArgs) (thrift.TStruct, error) {
	keys := []string{}
	err := each(ctx, listPager(h.svc, trimPrefix(a.Prefix)), planSize, h.opts.MaxList, &tooLongError{"getKeys", "listPlans"},
		func(p *scheduler.Plan) int {
			keys = append(keys, p.Key)
			return 4 + len(p.Key)
		})
	if err != nil {
		return nil, h.plain(ctx, "getKeys", err)
	}
	return &forsun.ForsunGetKeysResult{Success: keys}, nil
}

// trimPrefix drops the blanks around a prefix and the "*" at its end that
// clients of old wrote.
func trimPrefix(prefix string) string {
	return strings.TrimRight(strings.TrimSpace(prefix), "* \t")
}

// listPager and dueAtPager are the lists of a Service.
func listPager(svc *scheduler.Service, prefix string) pager[*scheduler.Plan] {
	return func(ctx context.Context, cursor string, limit int) ([]*scheduler.Plan, string, error) {
		return svc.List(ctx, scheduler.ListQuery{Prefix: prefix, Cursor: cursor, Limit: limit})
	}
}

func dueAtPager(svc *scheduler.Service, second int64) pager[*scheduler.Plan] {
	return func(ctx context.Context, cursor string, limit int) ([]*scheduler.Plan, string, error) {
		return svc.DueAt(ctx, scheduler.DueAtQuery{Second: second, Cursor: cursor, Limit: limit})
	}
}

func (h *handler) forsunCall(context.Context, *forsun.ForsunForsunCallArgs) (thrift.TStruct, error) {
	return nil, thrift.NewTApplicationException(thrift.INTERNAL_ERROR,
		"Internal error processing forsun_call: it is for the servers forsun calls back, not for forsun itself")
}

func (h *handler) getInfo(ctx context.Context, _ *forsun.ForsunInfoArgs) (thrift.TStruct, error) {
	return &forsun.ForsunInfoResult{Success: h.info.Map(ctx)}, nil
}

func (h *handler) serverTime(context.Context, *forsun.ForsunServerTimeArgs) (thrift.TStruct, error) {
	now := h.svc.Now().In(h.svc.Zone())
	_, offset := now.Zone()
	return &forsun.ForsunServerTimeResult{Success: &forsun.ForsunServerTime{
		TimeMs: now.UnixMilli(), Zone: h.svc.Zone().String(), Offset: int32(offset),
	}}, nil
}
