package rpc

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/snower/forsun/rpc/gen/forsun"
	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
)

func (h *handler) listPlans(ctx context.Context, a *forsun.ForsunListPlansArgs) (thrift.TStruct, error) {
	p, err := planPage(ctx, listPager(h.svc, a.Prefix), a.Cursor, a.Limit)
	if err != nil {
		return &forsun.ForsunListPlansResult{Err: h.fail(ctx, wire.Read, "listPlans", "", err)}, nil
	}
	return &forsun.ForsunListPlansResult{Success: p}, nil
}

func (h *handler) listTime(ctx context.Context, a *forsun.ForsunListTimeArgs) (thrift.TStruct, error) {
	p, err := planPage(ctx, dueAtPager(h.svc, a.Timestamp), a.Cursor, a.Limit)
	if err != nil {
		return &forsun.ForsunListTimeResult{Err: h.fail(ctx, wire.Read, "listTime", "", err)}, nil
	}
	return &forsun.ForsunListTimeResult{Success: p}, nil
}

// planPage reads a page of plans in their full form.
func planPage(ctx context.Context, read pager[*scheduler.Plan], cursor string, limit int32) (*forsun.ForsunPlanPage, error) {
	plans, next, err := page(ctx, read, cursor, int(limit), planSize)
	if err != nil {
		return nil, err
	}
	p := &forsun.ForsunPlanPage{Plans: make([]*forsun.ForsunPlanInfo, len(plans)), Cursor: next}
	for i, plan := range plans {
		p.Plans[i] = wire.FromPlan(plan)
	}
	return p, nil
}

func (h *handler) createMany(ctx context.Context, a *forsun.ForsunCreateManyArgs) (thrift.TStruct, error) {
	requests := make([]scheduler.Request, len(a.Requests))
	for i, r := range a.Requests {
		requests[i] = wire.ToRequest(r)
	}
	plans, errs, err := h.svc.CreateMany(ctx, requests)
	if err != nil {
		return &forsun.ForsunCreateManyResult{Err: h.failMany(ctx, "createMany", len(requests), err)}, nil
	}
	results := make([]*forsun.ForsunPlanResult_, len(plans))
	audit, told := h.audit.many(len(plans))
	defer told()
	for i, p := range plans {
		audit.set(ctx, "createMany", p, errs[i])
		results[i] = &forsun.ForsunPlanResult_{}
		if errs[i] != nil {
			f := h.fail(ctx, wire.Create, "createMany", p.Key, errs[i])
			results[i].Code, results[i].Message = int32(f.Code), f.Message
		}
		if stored(errs[i]) {
			results[i].Plan = wire.FromPlan(p)
		}
	}
	return &forsun.ForsunCreateManyResult{Success: results}, nil
}

// stored says whether a plan is, or may be, stored for all that err says.
func stored(err error) bool { return err == nil || errors.Is(err, scheduler.ErrUnsure) }

// failMany turns the refusal of one of several requests into what is thrown. It
// says which one it is, unless it is the only one.
func (h *handler) failMany(ctx context.Context, method string, count int, err error) *forsun.ForsunPlanError {
	var one *scheduler.RequestError
	if !errors.As(err, &one) {
		return h.fail(ctx, wire.Create, method, "", err)
	}
	f := h.fail(ctx, wire.Create, method, one.Key, one.Err)
	if count > 1 {
		f.Message = fmt.Sprintf("plan %d (key %s): %s", one.Index+1, scheduler.Shorten(one.Key, 64), f.Message)
	}
	return f
}

func (h *handler) history(ctx context.Context, a *forsun.ForsunHistoryArgs) (thrift.TStruct, error) {
	attempts, next, err := page(ctx, historyPager(h.svc, a.Key), a.Cursor, int(a.Limit), attemptSize)
	if err != nil {
		return &forsun.ForsunHistoryResult{Err: h.fail(ctx, wire.Read, "history", a.Key, err)}, nil
	}
	p := &forsun.ForsunAttemptPage{Attempts: make([]*forsun.ForsunAttempt, len(attempts)), Cursor: next}
	for i, at := range attempts {
		p.Attempts[i] = wire.FromAttempt(at)
	}
	return &forsun.ForsunHistoryResult{Success: p}, nil
}

func (h *handler) deadLetters(ctx context.Context, a *forsun.ForsunDeadLettersArgs) (thrift.TStruct, error) {
	dead, next, err := page(ctx, deadPager(h.svc, a.Key), a.Cursor, int(a.Limit), deadSize)
	if err != nil {
		return &forsun.ForsunDeadLettersResult{Err: h.fail(ctx, wire.Read, "deadLetters", a.Key, err)}, nil
	}
	p := &forsun.ForsunDeadPage{Dead: make([]*forsun.ForsunDead, len(dead)), Cursor: next}
	for i, d := range dead {
		p.Dead[i] = wire.FromDead(d)
	}
	return &forsun.ForsunDeadLettersResult{Success: p}, nil
}

// historyPager and deadPager are the journals of a Service.
func historyPager(svc *scheduler.Service, key string) pager[scheduler.Attempt] {
	return func(ctx context.Context, cursor string, limit int) ([]scheduler.Attempt, string, error) {
		return svc.History(ctx, scheduler.JournalQuery{Key: key, Cursor: cursor, Limit: limit})
	}
}

func deadPager(svc *scheduler.Service, key string) pager[scheduler.DeadLetter] {
	return func(ctx context.Context, cursor string, limit int) ([]scheduler.DeadLetter, string, error) {
		return svc.DeadLetters(ctx, scheduler.JournalQuery{Key: key, Cursor: cursor, Limit: limit})
	}
}

// selection names dead letters. That exactly one of the three is given is
// checked here, for a message that says so.
func selection(ids []string, key string, all bool) (scheduler.DeadSelection, error) {
	given := 0
	for _, is := range []bool{len(ids) > 0, key != "", all} {
		if is {
			given++
		}
	}
	if given != 1 {
		return scheduler.DeadSelection{}, &scheduler.FieldError{
			Kind: scheduler.ErrField, Field: "ids, key, all", Value: strconv.Itoa(given) + " of them",
			Allowed: "exactly one: a list of ids, the key of a plan, or all=true",
		}
	}
	return scheduler.DeadSelection{IDs: ids, Key: key, All: all}, nil
}

func (h *handler) redrive(ctx context.Context, a *forsun.ForsunRedriveArgs) (thrift.TStruct, error) {
	n, err := changeDead(ctx, h.audit, "redrive", a.Ids, a.Key, a.All, h.svc.Redrive)
	if err != nil {
		return &forsun.ForsunRedriveResult{Err: h.fail(ctx, wire.Read, "redrive", a.Key, err)}, nil
	}
	return &forsun.ForsunRedriveResult{Success: &n}, nil
}

func (h *handler) purge(ctx context.Context, a *forsun.ForsunPurgeArgs) (thrift.TStruct, error) {
	n, err := changeDead(ctx, h.audit, "purge", a.Ids, a.Key, a.All, h.svc.Purge)
	if err != nil {
		return &forsun.ForsunPurgeResult{Err: h.fail(ctx, wire.Read, "purge", a.Key, err)}, nil
	}
	return &forsun.ForsunPurgeResult{Success: &n}, nil
}

// changeDead redrives or purges dead letters.
func changeDead(ctx context.Context, audit audit, method string, ids []string, key string, all bool, do func(context.Context, scheduler.DeadSelection) (int, error)) (int64, error) {
	sel, err := selection(ids, key, all)
	if err != nil {
		return 0, err
	}
	n, err := do(ctx, sel) // n counts also beside an error
	if n > 0 || err == nil {
		audit.dead(ctx, method, sel, n)
	}
	return int64(n), err
}

func (h *handler) auth(ctx context.Context, a *forsun.ForsunAuthArgs) (thrift.TStruct, error) {
	s, err := sessionFrom(ctx)
	if err != nil {
		return nil, err
	}
	name, err := s.authenticate(ctx, a.Token)
	if err != nil {
		h.quiet.Warn().Str("peer", s.from.peer.Address).Msg("a token was shown that is not valid")
		return &forsun.ForsunAuthResult{Err: h.fail(ctx, wire.Read, "auth", "", err)}, nil
	}
	return &forsun.ForsunAuthResult{Success: &name}, nil
}

func (h *handler) preview(ctx context.Context, a *forsun.ForsunPreviewArgs) (thrift.TStruct, error) {
	dues, err := h.svc.Preview(ctx, a.Key, int(a.N))
	if err != nil {
		return &forsun.ForsunPreviewResult{Err: h.fail(ctx, wire.Read, "preview", a.Key, err)}, nil
	}
	return &forsun.ForsunPreviewResult{Success: dues}, nil
}

func (h *handler) shards(ctx context.Context, _ *forsun.ForsunShardsArgs) (thrift.TStruct, error) {
	states, err := h.svc.Shards(ctx)
	if err != nil {
		return &forsun.ForsunShardsResult{Err: h.fail(ctx, wire.Read, "shards", "", err)}, nil
	}
	result := make([]*forsun.ForsunShard, len(states))
	for i, s := range states {
		result[i] = wire.FromShard(s)
	}
	return &forsun.ForsunShardsResult{Success: result}, nil
}

func (h *handler) replicas(ctx context.Context, _ *forsun.ForsunReplicasArgs) (thrift.TStruct, error) {
	replicas, err := h.svc.Replicas(ctx)
	if err != nil {
		return &forsun.ForsunReplicasResult{Err: h.fail(ctx, wire.Read, "replicas", "", err)}, nil
	}
	result := make([]*forsun.ForsunReplica, len(replicas))
	for i, r := range replicas {
		result[i] = wire.FromReplica(r)
	}
	return &forsun.ForsunReplicasResult{Success: result}, nil
}

func (h *handler) check(ctx context.Context, _ *forsun.ForsunCheckArgs) (thrift.TStruct, error) {
	findings, err := h.svc.Check(ctx)
	if err != nil {
		return &forsun.ForsunCheckResult{Err: h.fail(ctx, wire.Read, "check", "", err)}, nil
	}
	result := make([]*forsun.ForsunFinding, len(findings))
	for i, f := range findings {
		result[i] = wire.FromFinding(f)
	}
	return &forsun.ForsunCheckResult{Success: result}, nil
}
