package rpc

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"

	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
)

// envelope is what every answer of the API is wrapped in.
type envelope struct {
	Code    wire.Code `json:"errcode"`
	Message string    `json:"errmsg"`
	Data    any       `json:"data"`

	unexpected bool
}

// encode returns the envelope as JSON, with "<" and "&" as they are.
func (e *envelope) encode() ([]byte, error) {
	if data, ok := e.Data.(jsonAppender); ok {
		b := strconv.AppendInt([]byte(`{"errcode":`), int64(e.Code), 10)
		b = appendJSONString(append(b, `,"errmsg":`...), e.Message)
		b = data.appendJSON(append(b, `,"data":`...))
		return append(b, '}'), nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// float is a number that is written with a fraction, ".0" at least: clients of
// old tell floats from integers.
type float float64

func (f float) MarshalJSON() ([]byte, error) { return f.append(nil), nil }

func (f float) append(b []byte) []byte {
	if float64(f) == math.Trunc(float64(f)) {
		return strconv.AppendFloat(b, float64(f), 'f', 1, 64)
	}
	return strconv.AppendFloat(b, float64(f), 'f', -1, 64)
}

// jsonPlan is a plan as the HTTP interface shows it.
type jsonPlan struct {
	Key          string            `json:"key"`
	Second       int               `json:"second"`
	Minute       int               `json:"minute"`
	Hour         int               `json:"hour"`
	Day          int               `json:"day"`
	Month        int               `json:"month"`
	Week         int               `json:"week"`
	Status       int               `json:"status"`
	Count        int               `json:"count"`
	IsTimeOut    bool              `json:"is_time_out"`
	NextTime     int64             `json:"next_time"`
	CurrentCount int               `json:"current_count"`
	LastTimeout  int64             `json:"last_timeout"`
	CreatedTime  float             `json:"created_time"`
	Action       string            `json:"action"`
	Params       map[string]string `json:"params"`
}

func newJSONPlan(p *scheduler.Plan) *jsonPlan {
	s := p.Schedule
	j := &jsonPlan{
		Key:          p.Key,
		Second:       s.Second,
		Minute:       s.Minute,
		Hour:         s.Hour,
		Day:          s.Day,
		Month:        s.Month,
		Week:         s.Week,
		Status:       int(p.Status),
		IsTimeOut:    s.Kind == scheduler.Timeout,
		NextTime:     p.Due,
		CurrentCount: p.Fired,
		LastTimeout:  p.LastDue,
		CreatedTime:  float(wire.Seconds(p.Created)),
		Action:       p.Action,
		Params:       p.Params,
	}
	if j.IsTimeOut {
		j.Count = s.Count
	}
	if j.Params == nil {
		j.Params = map[string]string{}
	}
	return j
}

func newJSONPlans(plans []*scheduler.Plan) []*jsonPlan {
	out := make([]*jsonPlan, len(plans))
	for i, p := range plans {
		out[i] = newJSONPlan(p)
	}
	return out
}

// jsonAttempt is a line of the history. Times are Unix seconds.
type jsonAttempt struct {
	Key      string            `json:"key"`
	Firing   string            `json:"firing"`
	Due      int64             `json:"due"`
	Attempt  int               `json:"attempt"`
	Missed   int               `json:"missed"`
	Action   string            `json:"action"`
	Started  float             `json:"started"`
	Late     float             `json:"late"`
	Took     float             `json:"took"`
	Outcome  scheduler.Outcome `json:"outcome"`
	Error    string            `json:"error"`
	Output   string            `json:"output"`
	Replica  string            `json:"replica"`
	RetryAt  float             `json:"retry_at"` // 0: not to be retried
	Sequence string            `json:"sequence"`
}

func newJSONAttempt(a scheduler.Attempt) jsonAttempt {
	return jsonAttempt{
		Key: a.Key, Firing: string(a.Firing), Due: a.Due, Attempt: a.Attempt, Missed: a.Missed, Action: a.Action,
		Started: float(wire.Seconds(a.Started)), Late: float(a.Late.Seconds()), Took: float(a.Took.Seconds()),
		Outcome: a.Outcome, Error: a.Error, Output: a.Output, Replica: a.Replica,
		RetryAt: float(wire.Seconds(a.RetryAt)), Sequence: a.Sequence,
	}
}

// jsonDead is a dead letter, the secrets of its plan masked.
type jsonDead struct {
	ID      string    `json:"id"`
	Firing  string    `json:"firing"`
	Due     int64     `json:"due"`
	Attempt int       `json:"attempt"`
	Missed  int       `json:"missed"`
	Died    float     `json:"died"`
	Error   string    `json:"error"`
	Plan    *jsonPlan `json:"plan"`
}

func newJSONDead(d scheduler.DeadLetter) jsonDead {
	plan := *d.Firing.Plan
	plan.Params = scheduler.MaskParams(plan.Params)
	return jsonDead{
		ID: d.ID, Firing: string(d.Firing.ID()), Due: d.Firing.Due, Attempt: d.Firing.Attempt, Missed: d.Firing.Missed,
		Died: float(wire.Seconds(d.Died)), Error: d.Error, Plan: newJSONPlan(&plan),
	}
}

// jsonShard is the state of a shard.
type jsonShard struct {
	Shard       int              `json:"shard"`
	Leader      string           `json:"leader"`
	Term        uint64           `json:"term"`
	Plans       int64            `json:"plans"`
	Backlog     int64            `json:"backlog"` // queued, running, retries
	Overdue     int64            `json:"overdue"`
	OldestDue   int64            `json:"oldest_due"`
	Queued      map[string]int64 `json:"queued"`
	Running     map[string]int64 `json:"running"`
	Retries     int64            `json:"retries"`
	Dead        int64            `json:"dead"`
	Quarantined int64            `json:"quarantined"`
}

func newJSONShard(s scheduler.ShardState) jsonShard {
	j := jsonShard{
		Shard: s.Shard, Leader: s.Leader, Term: s.Term, Plans: s.Plans, Backlog: s.Backlog(),
		Overdue: s.Overdue, OldestDue: s.OldestDue, Queued: s.Queued, Running: s.Running,
		Retries: s.Retries, Dead: s.Dead, Quarantined: s.Quarantined,
	}
	if j.Queued == nil {
		j.Queued = map[string]int64{}
	}
	if j.Running == nil {
		j.Running = map[string]int64{}
	}
	return j
}

// jsonReplica is a forsund of the deployment. Times are Unix seconds.
type jsonReplica struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Version string `json:"version"`
	Offset  float  `json:"offset"` // its clock minus the store's, seconds
	Leads   []int  `json:"leads"`
	Eager   bool   `json:"eager"` // it may lead
	Started float  `json:"started"`
	Seen    float  `json:"seen"` // by the store's clock
}

func newJSONReplica(r scheduler.Replica) jsonReplica {
	return jsonReplica{
		ID: r.ID, Address: r.Address, Version: r.Version, Offset: float(r.Offset.Seconds()),
		Leads: append([]int{}, r.Leads...), Eager: r.Eager,
		Started: float(wire.Seconds(r.Started)), Seen: float(wire.Seconds(r.Seen)),
	}
}

// jsonFinding is something that is wrong.
type jsonFinding struct {
	Shard    *int   `json:"shard"` // null: not about one shard
	Severity string `json:"severity"`
	Subject  string `json:"subject"`
	Problem  string `json:"problem"`
	Advice   string `json:"advice"`
}

func newJSONFinding(f scheduler.Finding) jsonFinding {
	j := jsonFinding{Severity: f.Severity.String(), Subject: f.Subject, Problem: f.Problem, Advice: f.Advice}
	if f.Shard != scheduler.WholeDeployment {
		j.Shard = &f.Shard
	}
	return j
}
