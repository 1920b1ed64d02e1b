package client

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/snower/forsun/rpc/gen/forsun"
	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
)

// Ping asks whether the server answers.
func (c *Client) Ping(ctx context.Context) error {
	return c.do(ctx, reads, func(ctx context.Context, rpc *forsun.ForsunClient) error {
		_, err := rpc.Ping(ctx)
		return err
	})
}

// Create stores one plan, replacing the one with the same key.
func (c *Client) Create(ctx context.Context, r scheduler.Request) (*scheduler.Plan, error) {
	results, err := c.createMany(ctx, []scheduler.Request{r})
	if err != nil {
		return nil, err
	}
	return results[0].Plan, results[0].Err
}

// Result is the answer to one request of many: the plan as it is stored, or why
// it is not.
type Result struct {
	Plan *scheduler.Plan
	Err  error // an *Error
}

// Bounds of one createMany call: what the server takes, and half of the bytes
// it takes of one message.
const (
	manyRequests = 1000
	manyBytes    = 2 << 20
)

// CreateMany stores plans, in as few calls as the server allows (1000 plans or
// 2 MiB each), one after the other. The server checks all plans of a call before
// it stores any. With an error, results holds the answers to the requests of the
// calls that succeeded before; none of the failed call's were stored, unless
// the error is a *ConnError that says it is unsure.
func (c *Client) CreateMany(ctx context.Context, requests []scheduler.Request) (results []Result, err error) {
	for len(requests) > 0 {
		n := fitting(requests, func(r scheduler.Request) (int, map[string]string) { return len(r.Key) + len(r.Action), r.Params })
		answers, err := c.createMany(ctx, requests[:n])
		if err != nil {
			if len(results) > 0 {
				err = fmt.Errorf("after %d plans stored: %w", len(results), err)
			}
			return results, err
		}
		results = append(results, answers...)
		requests = requests[n:]
	}
	return results, nil
}

// Restored is what became of a plan that was to be restored.
type Restored struct {
	Exists bool  // there is a plan of its key, which was left
	Due    int64 // of the plan that is stored
	Err    error // an *Error: why it is not stored, or (wire.DurabilityUnknown) not surely
}

// Restore stores plans as another store had them, of which their revisions are no
// part; see scheduler.Service.Restore. The calls it makes are CreateMany's; a
// plan that is refused does not affect the others. With an error, results holds the
// answers of the calls that succeeded before.
func (c *Client) Restore(ctx context.Context, plans []*scheduler.Plan, o scheduler.RestoreOptions) (results []Restored, err error) {
	for len(plans) > 0 {
		n := fitting(plans, func(p *scheduler.Plan) (int, map[string]string) { return len(p.Key) + len(p.Action), p.Params })
		infos := make([]*forsun.ForsunPlanInfo, n)
		for i, p := range plans[:n] {
			infos[i] = wire.FromPlan(p)
		}
		k := changes
		if o.CheckOnly {
			k = reads
		}
		var answers []*forsun.ForsunRestored
		err := c.do(ctx, k, func(ctx context.Context, rpc *forsun.ForsunClient) (err error) {
			answers, err = rpc.RestorePlans(ctx, infos, o.Replace, o.CheckOnly)
			return err
		})
		if err != nil {
			return results, err
		}
		if len(answers) != n {
			return results, &Error{Message: fmt.Sprintf("the server answered %d of %d plans", len(answers), n)}
		}
		for _, a := range answers {
			r := Restored{Exists: a.Outcome == wire.RestoredExists, Due: a.NextTime}
			if a.Code != 0 {
				r.Err = &Error{Code: wire.Code(a.Code), Message: a.Message}
			}
			results = append(results, r)
		}
		plans = plans[n:]
	}
	return results, nil
}

// fitting returns how many of the requests, or plans, go into one call, at least
// one. parts returns the size of a request's names, and its parameters.
func fitting[T any](requests []T, parts func(T) (int, map[string]string)) int {
	const overhead = 160 // bytes of a request's numbers and field headers
	size := 0
	for i, r := range requests {
		n, params := parts(r)
		size += overhead + n
		for name, value := range params {
			size += 8 + len(name) + len(value)
		}
		if i > 0 && (i == manyRequests || size > manyBytes) {
			return i
		}
	}
	return len(requests)
}

func (c *Client) createMany(ctx context.Context, requests []scheduler.Request) ([]Result, error) {
	wanted := make([]*forsun.ForsunPlanRequest, len(requests))
	for i, r := range requests {
		wanted[i] = wire.FromRequest(r)
	}
	var answers []*forsun.ForsunPlanResult_
	err := c.do(ctx, changes, func(ctx context.Context, rpc *forsun.ForsunClient) (err error) {
		answers, err = rpc.CreateMany(ctx, wanted)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(answers) != len(requests) {
		return nil, &Error{Message: fmt.Sprintf("the server answered %d of %d plans", len(answers), len(requests))}
	}
	results := make([]Result, len(answers))
	for i, a := range answers {
		if a.Plan != nil {
			results[i].Plan = wire.ToPlan(a.Plan)
		}
		if a.Code != 0 {
			results[i].Err = &Error{Code: wire.Code(a.Code), Message: a.Message}
		}
	}
	return results, nil
}

// Get returns the plan of key; see IsNotFound.
func (c *Client) Get(ctx context.Context, key string) (*scheduler.Plan, error) {
	var info *forsun.ForsunPlanInfo
	err := c.do(ctx, reads, func(ctx context.Context, rpc *forsun.ForsunClient) (err error) {
		info, err = rpc.GetPlan(ctx, key)
		return err
	})
	if err != nil {
		return nil, err
	}
	return wire.ToPlan(info), nil
}

// Remove deletes the plan of key, cancels its retries, and returns it in the
// wire's narrow form: numbers over 32767 are carried or cut. See IsNotFound.
func (c *Client) Remove(ctx context.Context, key string) (*scheduler.Plan, error) {
	var legacy *forsun.ForsunPlan
	err := c.do(ctx, changes, func(ctx context.Context, rpc *forsun.ForsunClient) (err error) {
		legacy, err = rpc.Remove(ctx, key)
		return err
	})
	if err != nil {
		return nil, err
	}
	return wire.ToLegacyPlan(legacy), nil
}

// Page is a page of a list.
type Page[T any] struct {
	Items []T
	Next  string // cursor of the next page; "" after the last
}

// List returns a page of the plans whose keys begin with prefix, in byte order
// of their keys. limit is 1 to 10,000; a page may hold fewer.
func (c *Client) List(ctx context.Context, prefix, cursor string, limit int) (Page[*scheduler.Plan], error) {
	return c.plans(ctx, func(ctx context.Context, rpc *forsun.ForsunClient) (*forsun.ForsunPlanPage, error) {
		return rpc.ListPlans(ctx, prefix, cursor, int32(limit))
	})
}

// DueAt returns a page of the plans whose next due second is second.
func (c *Client) DueAt(ctx context.Context, second int64, cursor string, limit int) (Page[*scheduler.Plan], error) {
	return c.plans(ctx, func(ctx context.Context, rpc *forsun.ForsunClient) (*forsun.ForsunPlanPage, error) {
		return rpc.ListTime(ctx, second, cursor, int32(limit))
	})
}

func (c *Client) plans(ctx context.Context, call func(context.Context, *forsun.ForsunClient) (*forsun.ForsunPlanPage, error)) (page Page[*scheduler.Plan], err error) {
	var got *forsun.ForsunPlanPage
	err = c.do(ctx, reads, func(ctx context.Context, rpc *forsun.ForsunClient) (err error) {
		got, err = call(ctx, rpc)
		return err
	})
	if err != nil {
		return page, err
	}
	page.Next = got.Cursor
	for _, p := range got.Plans {
		page.Items = append(page.Items, wire.ToPlan(p))
	}
	return page, nil
}

// pageSize is how many items the iterators ask for at a time.
const pageSize = 1000

// Plans iterates over the plans whose keys begin with prefix, in byte order of
// their keys, a page at a time. It ends after an error.
func (c *Client) Plans(ctx context.Context, prefix string) iter.Seq2[*scheduler.Plan, error] {
	return pages(func(cursor string) (Page[*scheduler.Plan], error) { return c.List(ctx, prefix, cursor, pageSize) })
}

// PlansDueAt iterates over the plans whose next due second is second. It ends
// after an error.
func (c *Client) PlansDueAt(ctx context.Context, second int64) iter.Seq2[*scheduler.Plan, error] {
	return pages(func(cursor string) (Page[*scheduler.Plan], error) { return c.DueAt(ctx, second, cursor, pageSize) })
}

// Attempts iterates over the finished attempts of key ("" for all), newest
// first. It ends after an error.
func (c *Client) Attempts(ctx context.Context, key string) iter.Seq2[scheduler.Attempt, error] {
	return pages(func(cursor string) (Page[scheduler.Attempt], error) { return c.History(ctx, key, cursor, pageSize) })
}

// Dead iterates over the dead letters of key ("" for all), newest first. It
// ends after an error.
func (c *Client) Dead(ctx context.Context, key string) iter.Seq2[wire.Dead, error] {
	return pages(func(cursor string) (Page[wire.Dead], error) { return c.DeadLetters(ctx, key, cursor, pageSize) })
}

// pages iterates over the items of all pages.
func pages[T any](page func(cursor string) (Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for cursor := ""; ; {
			p, err := page(cursor)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range p.Items {
				if !yield(item, nil) {
					return
				}
			}
			if cursor = p.Next; cursor == "" {
				return
			}
		}
	}
}

// History returns a page of finished attempts of key ("" for all), newest first.
func (c *Client) History(ctx context.Context, key, cursor string, limit int) (page Page[scheduler.Attempt], err error) {
	var got *forsun.ForsunAttemptPage
	err = c.do(ctx, reads, func(ctx context.Context, rpc *forsun.ForsunClient) (err error) {
		got, err = rpc.History(ctx, key, cursor, int32(limit))
		return err
	})
	if err != nil {
		return page, err
	}
	page.Next = got.Cursor
	for _, a := range got.Attempts {
		page.Items = append(page.Items, wire.ToAttempt(a))
	}
	return page, nil
}

// DeadLetters returns a page of dead letters of key ("" for all), newest first.
func (c *Client) DeadLetters(ctx context.Context, key, cursor string, limit int) (page Page[wire.Dead], err error) {
	var got *forsun.ForsunDeadPage
	err = c.do(ctx, reads, func(ctx context.Context, rpc *forsun.ForsunClient) (err error) {
		got, err = rpc.DeadLetters(ctx, key, cursor, int32(limit))
		return err
	})
	if err != nil {
		return page, err
	}
	page.Next = got.Cursor
	for _, d := range got.Dead {
		page.Items = append(page.Items, wire.ToDead(d))
	}
	return page, nil
}

// Redrive queues dead letters again from attempt 1 and returns how many.
func (c *Client) Redrive(ctx context.Context, sel scheduler.DeadSelection) (n int, err error) {
	err = c.do(ctx, changes, func(ctx context.Context, rpc *forsun.ForsunClient) error {
		done, err := rpc.Redrive(ctx, sel.IDs, sel.Key, sel.All)
		n = int(done)
		return err
	})
	return n, err
}

// Purge forgets dead letters and returns how many.
func (c *Client) Purge(ctx context.Context, sel scheduler.DeadSelection) (n int, err error) {
	err = c.do(ctx, changes, func(ctx context.Context, rpc *forsun.ForsunClient) error {
		done, err := rpc.Purge(ctx, sel.IDs, sel.Key, sel.All)
		n = int(done)
		return err
	})
	return n, err
}

// Preview returns the next n (1 to 1000) due seconds of a stored plan, fewer if
// it ends before.
func (c *Client) Preview(ctx context.Context, key string, n int) (dues []int64, err error) {
	err = c.do(ctx, reads, func(ctx context.Context, rpc *forsun.ForsunClient) (err error) {
		dues, err = rpc.Preview(ctx, key, int32(n))
		return err
	})
	return dues, err
}

// Shards returns the state of every shard.
func (c *Client) Shards(ctx context.Context) (states []scheduler.ShardState, err error) {
	var got []*forsun.ForsunShard
	err = c.do(ctx, reads, func(ctx context.Context, rpc *forsun.ForsunClient) (err error) {
		got, err = rpc.Shards(ctx)
		return err
	})
	for _, s := range got {
		states = append(states, wire.ToShard(s))
	}
	return states, err
}

// Replicas returns the replicas of the deployment that were seen lately, by id.
func (c *Client) Replicas(ctx context.Context) (replicas []scheduler.Replica, err error) {
	var got []*forsun.ForsunReplica
	err = c.do(ctx, reads, func(ctx context.Context, rpc *forsun.ForsunClient) (err error) {
		got, err = rpc.Replicas(ctx)
		return err
	})
	for _, r := range got {
		replicas = append(replicas, wire.ToReplica(r))
	}
	return replicas, err
}

// CheckTimeout is how long Check waits for its answer at least, if its context
// has no deadline: the server takes up to a minute for what is stored.
const CheckTimeout = 75 * time.Second

// Check returns what is wrong with the deployment, the worst first.
func (c *Client) Check(ctx context.Context) (findings []scheduler.Finding, err error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(c.opts.Timeout, CheckTimeout))
		defer cancel()
	}
	var got []*forsun.ForsunFinding
	err = c.do(ctx, reads, func(ctx context.Context, rpc *forsun.ForsunClient) (err error) {
		got, err = rpc.Check(ctx)
		return err
	})
	for _, f := range got {
		findings = append(findings, wire.ToFinding(f))
	}
	return findings, err
}

// BackupTimeout is how long Backup waits for its answer at least, if its context has
// no deadline: the server reads all that is stored.
const BackupTimeout = 30 * time.Minute

// Backup is a backup that was made.
type Backup struct {
	Directory string
	Plans     int64
	Files     int64
	Bytes     int64
	Took      time.Duration
}

// Backup has the server write a backup of its embedded store into a directory of its own
// machine.
func (c *Client) Backup(ctx context.Context, directory string) (b Backup, err error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(c.opts.Timeout, BackupTimeout))
		defer cancel()
	}
	err = c.do(ctx, changes, func(ctx context.Context, rpc *forsun.ForsunClient) error {
		got, err := rpc.Backup(ctx, directory)
		if err == nil {
			b = Backup{got.Directory, got.Plans, got.Files, got.Bytes, time.Duration(got.TookMs) * time.Millisecond}
		}
		return err
	})
	return b, err
}

// Info returns what the server says about itself, by name.
func (c *Client) Info(ctx context.Context) (info map[string]string, err error) {
	err = c.do(ctx, reads, func(ctx context.Context, rpc *forsun.ForsunClient) (err error) {
		info, err = rpc.Info(ctx)
		return err
	})
	return info, err
}

// Time returns the server's time, in the zone it reads calendar plans in.
func (c *Client) Time(ctx context.Context) (time.Time, error) {
	var got *forsun.ForsunServerTime
	err := c.do(ctx, reads, func(ctx context.Context, rpc *forsun.ForsunClient) (err error) {
		got, err = rpc.ServerTime(ctx)
		return err
	})
	if err != nil {
		return time.Time{}, err
	}
	zone, err := time.LoadLocation(got.Zone)
	if err != nil { // the server's zone is not known here: its offset now must do
		zone = time.FixedZone(got.Zone, int(got.Offset))
	}
	return time.UnixMilli(got.TimeMs).In(zone), nil
}
