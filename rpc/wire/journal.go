package wire

import (
	"strings"
	"time"

	"github.com/snower/forsun/rpc/gen/forsun"
	"github.com/snower/forsun/scheduler"
)

// FromAttempt returns a line of the history as it goes over the wire. Output
// that is not UTF-8 is repaired: many clients refuse it.
func FromAttempt(a scheduler.Attempt) *forsun.ForsunAttempt {
	return &forsun.ForsunAttempt{
		Key:       a.Key,
		Firing:    string(a.Firing),
		Due:       a.Due,
		Attempt:   int32(a.Attempt),
		Missed:    int64(a.Missed),
		Action:    a.Action,
		StartedMs: millis(a.Started),
		LateMs:    a.Late.Milliseconds(),
		TookMs:    a.Took.Milliseconds(),
		Outcome:   string(a.Outcome),
		Error:     strings.ToValidUTF8(a.Error, "\ufffd"),
		Output:    strings.ToValidUTF8(a.Output, "\ufffd"),
		Replica:   a.Replica,
		RetryAtMs: millis(a.RetryAt),
	}
}

// ToAttempt is the reverse of FromAttempt, to the millisecond.
func ToAttempt(a *forsun.ForsunAttempt) scheduler.Attempt {
	return scheduler.Attempt{
		Firing:  scheduler.FiringID(a.Firing),
		Key:     a.Key,
		Action:  a.Action,
		Due:     a.Due,
		Missed:  int(a.Missed),
		Attempt: int(a.Attempt),
		Started: fromMillis(a.StartedMs),
		Late:    time.Duration(a.LateMs) * time.Millisecond,
		Took:    time.Duration(a.TookMs) * time.Millisecond,
		Outcome: scheduler.Outcome(a.Outcome),
		Error:   a.Error,
		Output:  a.Output,
		Replica: a.Replica,
		RetryAt: fromMillis(a.RetryAtMs),
	}
}

// FromDead returns a dead letter as it goes over the wire, the secrets of its
// plan masked.
func FromDead(d scheduler.DeadLetter) *forsun.ForsunDead {
	plan := *d.Firing.Plan
	plan.Params = scheduler.MaskParams(plan.Params)
	return &forsun.ForsunDead{
		ID:      d.ID,
		Firing:  string(d.Firing.ID()),
		Due:     d.Firing.Due,
		Attempt: int32(d.Firing.Attempt),
		Missed:  int64(d.Firing.Missed),
		DiedMs:  millis(d.Died),
		Error:   strings.ToValidUTF8(d.Error, "\ufffd"),
		Plan:    FromPlan(&plan),
	}
}

// Dead is a dead letter as a client sees it.
type Dead struct {
	ID      string // names it in redrive and purge
	Firing  scheduler.FiringID
	Due     int64 // due second, Unix
	Attempt int
	Missed  int
	Died    time.Time
	Error   string
	Plan    *scheduler.Plan // as it was claimed; secrets masked
}

// ToDead reads a dead letter.
func ToDead(d *forsun.ForsunDead) Dead {
	return Dead{
		ID:      d.ID,
		Firing:  scheduler.FiringID(d.Firing),
		Due:     d.Due,
		Attempt: int(d.Attempt),
		Missed:  int(d.Missed),
		Died:    fromMillis(d.DiedMs),
		Error:   d.Error,
		Plan:    ToPlan(d.Plan),
	}
}

// FromShard returns the state of a shard as it goes over the wire.
func FromShard(s scheduler.ShardState) *forsun.ForsunShard {
	return &forsun.ForsunShard{
		Shard:       int32(s.Shard),
		Leader:      s.Leader,
		Term:        int64(s.Term),
		Plans:       s.Plans,
		Overdue:     s.Overdue,
		OldestDue:   s.OldestDue,
		Queued:      countsOf(s.Queued),
		Running:     countsOf(s.Running),
		Retries:     s.Retries,
		Dead:        s.Dead,
		Quarantined: s.Quarantined,
	}
}

// ToShard is the reverse of FromShard.
func ToShard(s *forsun.ForsunShard) scheduler.ShardState {
	return scheduler.ShardState{
		Shard:       int(s.Shard),
		Leader:      s.Leader,
		Term:        uint64(s.Term),
		Plans:       s.Plans,
		Overdue:     s.Overdue,
		OldestDue:   s.OldestDue,
		Queued:      s.Queued,
		Running:     s.Running,
		Retries:     s.Retries,
		Dead:        s.Dead,
		Quarantined: s.Quarantined,
	}
}

// countsOf returns counts, never nil: a nil map would be left out on the wire.
func countsOf(counts map[string]int64) map[string]int64 {
	if counts == nil {
		return map[string]int64{}
	}
	return counts
}
