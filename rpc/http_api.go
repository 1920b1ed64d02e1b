package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
)

// api answers the paths of the HTTP interface from a Service.
type api struct {
	svc  *scheduler.Service
	info *Info
	opts Options
	log  zerolog.Logger

	audit audit
}

// planPath is where plans are created and removed.
const planPath = "/v1/plan"

// paths returns the endpoints by path and method.
func (a *api) paths() map[string]map[string]endpoint {
	return map[string]map[string]endpoint{
		"/v1/ping":         {"GET": a.ping},
		planPath:           {"GET": a.getPlan, "POST": a.create, "PUT": a.create, "DELETE": a.remove},
		"/v1/plan/next":    {"GET": a.preview},
		"/v1/plans":        {"GET": a.listPlans},
		"/v1/keys":         {"GET": a.listKeys},
		"/v1/time":         {"GET": a.listTime},
		"/v1/info":         {"GET": a.getInfo},
		"/v1/history":      {"GET": a.history},
		"/v1/dead":         {"GET": a.deadLetters},
		"/v1/dead/redrive": {"POST": a.redrive},
		"/v1/dead/purge":   {"POST": a.purge, "DELETE": a.purge},
		"/v1/shards":       {"GET": a.shards},
		"/v1/replicas":     {"GET": a.replicas},
		"/v1/doctor":       {"GET": a.doctor},
	}
}

// envelope wraps what an endpoint returned. An error has data {}, unless the
// endpoint gave some beside it.
func (a *api) envelope(r *http.Request, data any, err error) *envelope {
	if err == nil {
		return &envelope{Data: data}
	}
	if data == nil {
		data = struct{}{}
	}
	op := wire.Read
	switch {
	case r.URL.Path != planPath:
	case r.Method == http.MethodPost || r.Method == http.MethodPut:
		op = wire.Create
	case r.Method == http.MethodDelete:
		op = wire.Remove
	}
	key := r.URL.Query().Get("key")
	var one *scheduler.RequestError
	cause, prefix := err, ""
	if errors.As(err, &one) {
		cause, key = one.Err, one.Key
		prefix = fmt.Sprintf("plan %d (key %s): ", one.Index+1, scheduler.Shorten(one.Key, 64))
	}
	var long *tooLongError
	if errors.As(err, &long) {
		return &envelope{Code: wire.TooLarge, Message: long.Error(), Data: data}
	}
	code, message, unexpected := wire.FromError(op, cause)
	if unexpected {
		logFailure(r.Context(), a.log, r.Method+" "+r.URL.Path, key, cause)
	}
	return &envelope{Code: code, Message: prefix + message, Data: data, unexpected: unexpected}
}

func (a *api) ping(context.Context, *http.Request) (any, error) { return struct{}{}, nil }

func (a *api) getInfo(ctx context.Context, _ *http.Request) (any, error) {
	return a.info.Map(ctx), nil
}

// create stores the plans of the body. The answer is a list, or the plan if
// there is one only.
func (a *api) create(ctx context.Context, r *http.Request) (any, error) {
	requests, err := planRequests(ctx, r)
	if err != nil {
		return nil, err
	}
	if len(requests) == 0 {
		return nil, &scheduler.FieldError{Kind: scheduler.ErrMissing, Field: "key"}
	}
	method := r.Method + " " + r.URL.Path
	plans, errs, err := a.svc.CreateMany(ctx, requests)
	if err != nil {
		var one *scheduler.RequestError
		if len(requests) == 1 && errors.As(err, &one) {
			err = one.Err
		}
		return nil, err
	}
	answers := make(createdPlans, len(plans))
	var first error
	audit, told := a.audit.many(len(plans))
	defer told()
	for i, p := range plans {
		audit.set(ctx, method, p, errs[i])
		answers[i].plan = p
		if errs[i] == nil {
			continue
		}
		answers[i].unsure = stored(errs[i])
		answers[i].code, answers[i].message, _ = wire.FromError(wire.Create, errs[i])
		if first == nil {
			first = &scheduler.RequestError{Index: i, Key: p.Key, Err: errs[i]}
		}
	}
	switch {
	case len(plans) == 1 && errs[0] != nil:
		return nil, errs[0]
	case len(plans) == 1:
		return &answers[0], nil
	default:
		return answers, first
	}
}

// keyOf returns the key a request asks for.
func keyOf(r *http.Request) (string, error) {
	key := r.URL.Query().Get("key")
	if key == "" {
		return "", &scheduler.FieldError{Kind: scheduler.ErrMissing, Field: "key"}
	}
	return key, nil
}

func (a *api) getPlan(ctx context.Context, r *http.Request) (any, error) {
	key, err := keyOf(r)
	if err != nil {
		return nil, err
	}
	p, err := a.svc.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	return newJSONPlan(p), nil
}

func (a *api) remove(ctx context.Context, r *http.Request) (any, error) {
	key, err := keyOf(r)
	if err != nil {
		return nil, err
	}
	p, err := a.svc.Remove(ctx, key)
	a.audit.removed(ctx, "DELETE "+planPath, key, p, err)
	if err != nil {
		return nil, err
	}
	return newJSONPlan(p), nil
}

func (a *api) preview(ctx context.Context, r *http.Request) (any, error) {
	key, err := keyOf(r)
	if err != nil {
		return nil, err
	}
	n, err := queryNumber(r.URL.Query(), "n", 10)
	if err != nil {
		return nil, err
	}
	dues, err := a.svc.Preview(ctx, key, n)
	if err != nil {
		return nil, err
	}
	return map[string]any{"key": key, "times": dues}, nil
}

// queryNumber reads a number of the query.
func queryNumber(q url.Values, name string, fallback int) (int, error) {
	if q.Get(name) == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(q.Get(name))
	if err != nil {
		return 0, &scheduler.FieldError{
			Kind: scheduler.ErrField, Field: name,
			Value: scheduler.Shorten(q.Get(name), 64), Allowed: "a whole number",
		}
	}
	return n, nil
}

// paging is what a query says about pages.
type paging struct {
	asked  bool // for a page, where the whole list is the default
	cursor string
	limit  int
}

// defaultPage is how many entries a page has where the query names no limit.
const defaultPage = 100

func pagingOf(r *http.Request) (p paging, err error) {
	q := r.URL.Query()
	p = paging{asked: q.Has("cursor") || q.Has("limit"), cursor: q.Get("cursor")}
	p.limit, err = queryNumber(q, "limit", defaultPage)
	return p, err
}

func (a *api) listPlans(ctx context.Context, r *http.Request) (any, error) {
	pg, err := pagingOf(r)
	if err != nil {
		return nil, err
	}
	plans, next, err := page(ctx, listPager(a.svc, r.URL.Query().Get("prefix")), pg.cursor, pg.limit, planSize)
	if err != nil {
		return nil, err
	}
	return map[string]any{"plans": newJSONPlans(plans), "cursor": next}, nil
}

func (a *api) listKeys(ctx context.Context, r *http.Request) (any, error) {
	pg, err := pagingOf(r)
	if err != nil {
		return nil, err
	}
	read := listPager(a.svc, trimPrefix(r.URL.Query().Get("prefix")))
	keys := []string{}
	if pg.asked {
		plans, next, err := page(ctx, read, pg.cursor, pg.limit, planSize)
		if err != nil {
			return nil, err
		}
		for _, p := range plans {
			keys = append(keys, p.Key)
		}
		return map[string]any{"keys": keys, "cursor": next}, nil
	}
	err = each(ctx, read, planSize, a.opts.MaxList, &tooLongError{"/v1/keys", "limit and cursor"}, func(p *scheduler.Plan) int {
		keys = append(keys, p.Key)
		return 4 + len(p.Key)
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

func (a *api) listTime(ctx context.Context, r *http.Request) (any, error) {
	pg, err := pagingOf(r)
	if err != nil {
		return nil, err
	}
	now := a.svc.Now().Unix()
	second := now
	if text := r.URL.Query().Get("timestamp"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, &scheduler.FieldError{Kind: scheduler.ErrMissing, Field: "timestamp"}
		}
		if n != 0 {
			second = n
		}
	}
	read := dueAtPager(a.svc, second)
	if pg.asked {
		plans, next, err := page(ctx, read, pg.cursor, pg.limit, planSize)
		if err != nil {
			return nil, err
		}
		return map[string]any{"plans": newJSONPlans(plans), "current_timestamp": now, "cursor": next}, nil
	}
	plans := []*jsonPlan{}
	err = each(ctx, read, planSize, a.opts.MaxList, &tooLongError{"/v1/time", "limit and cursor"}, func(p *scheduler.Plan) int {
		plans = append(plans, newJSONPlan(p))
		return planSize(p)
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{"plans": plans, "current_timestamp": now}, nil
}

func (a *api) history(ctx context.Context, r *http.Request) (any, error) {
	pg, err := pagingOf(r)
	if err != nil {
		return nil, err
	}
	attempts, next, err := page(ctx, historyPager(a.svc, r.URL.Query().Get("key")), pg.cursor, pg.limit, attemptSize)
	if err != nil {
		return nil, err
	}
	out := make([]jsonAttempt, len(attempts))
	for i, at := range attempts {
		out[i] = newJSONAttempt(at)
	}
	return map[string]any{"attempts": out, "cursor": next}, nil
}

func (a *api) deadLetters(ctx context.Context, r *http.Request) (any, error) {
	pg, err := pagingOf(r)
	if err != nil {
		return nil, err
	}
	dead, next, err := page(ctx, deadPager(a.svc, r.URL.Query().Get("key")), pg.cursor, pg.limit, deadSize)
	if err != nil {
		return nil, err
	}
	out := make([]jsonDead, len(dead))
	for i, d := range dead {
		out[i] = newJSONDead(d)
	}
	return map[string]any{"dead": out, "cursor": next}, nil
}

func (a *api) redrive(ctx context.Context, r *http.Request) (any, error) {
	return a.changeDead(ctx, r, "redrive", a.svc.Redrive)
}

func (a *api) purge(ctx context.Context, r *http.Request) (any, error) {
	return a.changeDead(ctx, r, "purge", a.svc.Purge)
}

// changeDead redrives or purges the dead letters the body names.
func (a *api) changeDead(ctx context.Context, r *http.Request, method string, do func(context.Context, scheduler.DeadSelection) (int, error)) (any, error) {
	body, err := readBody(ctx, r)
	if err != nil {
		return nil, err
	}
	var want struct {
		IDs []string `json:"ids"`
		Key string   `json:"key"`
		All bool     `json:"all"`
	}
	if err := json.Unmarshal(body, &want); err != nil {
		return nil, &statusError{http.StatusBadRequest, `the body is not JSON of the form {"ids": ["…"]}, {"key": "…"} or {"all": true}`}
	}
	n, err := changeDead(ctx, a.audit, method, want.IDs, want.Key, want.All, do)
	if err != nil {
		return nil, err
	}
	return map[string]any{"count": n}, nil
}

func (a *api) shards(ctx context.Context, _ *http.Request) (any, error) {
	states, err := a.svc.Shards(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]jsonShard, len(states))
	for i, s := range states {
		out[i] = newJSONShard(s)
	}
	return out, nil
}

func (a *api) replicas(ctx context.Context, _ *http.Request) (any, error) {
	replicas, err := a.svc.Replicas(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]jsonReplica, len(replicas))
	for i, r := range replicas {
		out[i] = newJSONReplica(r)
	}
	return out, nil
}

func (a *api) doctor(ctx context.Context, _ *http.Request) (any, error) {
	findings, err := a.svc.Check(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]jsonFinding, len(findings))
	for i, f := range findings {
		out[i] = newJSONFinding(f)
	}
	return out, nil
}
