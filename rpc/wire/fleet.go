package wire

import (
	"strings"
	"time"

	"github.com/snower/forsun/rpc/gen/forsun"
	"github.com/snower/forsun/scheduler"
)

// FromReplica returns a replica as it goes over the wire.
func FromReplica(r scheduler.Replica) *forsun.ForsunReplica {
	leads := make([]int32, len(r.Leads)) // never nil, which would be left out on the wire
	for i, shard := range r.Leads {
		leads[i] = int32(shard)
	}
	return &forsun.ForsunReplica{
		ID:        r.ID,
		Address:   r.Address,
		Version:   r.Version,
		OffsetUs:  r.Offset.Microseconds(),
		Leads:     leads,
		Eager:     r.Eager,
		StartedMs: millis(r.Started),
		SeenMs:    millis(r.Seen),
	}
}

// ToReplica is the reverse of FromReplica, to the millisecond.
func ToReplica(r *forsun.ForsunReplica) scheduler.Replica {
	leads := make([]int, len(r.Leads))
	for i, shard := range r.Leads {
		leads[i] = int(shard)
	}
	return scheduler.Replica{
		ID:      r.ID,
		Address: r.Address,
		Version: r.Version,
		Offset:  time.Duration(r.OffsetUs) * time.Microsecond,
		Leads:   leads,
		Eager:   r.Eager,
		Started: fromMillis(r.StartedMs),
		Seen:    fromMillis(r.SeenMs),
	}
}

// FromFinding returns a finding as it goes over the wire.
func FromFinding(f scheduler.Finding) *forsun.ForsunFinding {
	return &forsun.ForsunFinding{
		Shard:    int32(f.Shard),
		Severity: f.Severity.String(),
		Subject:  strings.ToValidUTF8(f.Subject, "\ufffd"),
		Problem:  strings.ToValidUTF8(f.Problem, "\ufffd"),
		Advice:   strings.ToValidUTF8(f.Advice, "\ufffd"),
	}
}

// ToFinding is the reverse of FromFinding. A severity that is not known here, of a
// newer server, is taken for an error.
func ToFinding(f *forsun.ForsunFinding) scheduler.Finding {
	severity := scheduler.SeverityError
	for _, s := range []scheduler.Severity{scheduler.SeverityInfo, scheduler.SeverityWarning} {
		if f.Severity == s.String() {
			severity = s
		}
	}
	return scheduler.Finding{
		Shard: int(f.Shard), Severity: severity, Subject: f.Subject, Problem: f.Problem, Advice: f.Advice,
	}
}
