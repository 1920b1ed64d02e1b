package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/snower/forsun/rpc/client"
	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
)

func runShards(ctx context.Context, s *session, args []string) error {
	if err := none(args, "shards"); err != nil {
		return err
	}
	states, err := s.client.Shards(ctx)
	if err != nil {
		return err
	}
	sheet := s.sheet(
		column{title: "shard", right: true}, column{title: "leader", paint: vacantColor}, column{title: "term", right: true},
		column{title: "plans", right: true}, column{title: "backlog", right: true}, column{title: "queued"}, column{title: "running"},
		column{title: "retries", right: true}, column{title: "dead", right: true}, column{title: "quarantined", right: true},
		column{title: "overdue", right: true, paint: debtColor}, column{title: "oldest due"},
	)
	for _, state := range states {
		if s.opts.Output == outputJSON {
			if err := writeJSON(s.out, newJSONShard(state)); err != nil {
				return err
			}
			continue
		}
		oldest := "-"
		if state.OldestDue != 0 {
			oldest = s.clock(state.OldestDue)
		}
		leader := state.Leader
		if leader == "" {
			leader = vacant
		}
		n := func(v int64) string { return strconv.FormatInt(v, 10) }
		err := sheet.add(strconv.Itoa(state.Shard), leader, strconv.FormatUint(state.Term, 10), n(state.Plans), n(state.Backlog()),
			counts(state.Queued), counts(state.Running), n(state.Retries), n(state.Dead), n(state.Quarantined), n(state.Overdue), oldest)
		if err != nil {
			return err
		}
	}
	return sheet.flush()
}

// vacant stands for the leader of a shard that has none.
const vacant = "(none)"

func vacantColor(leader string) text.Colors {
	if leader == vacant {
		return text.Colors{text.FgRed}
	}
	return nil
}

func debtColor(n string) text.Colors {
	if n != "0" {
		return text.Colors{text.FgRed}
	}
	return nil
}

// counts writes the sum of counts by action, and of which actions it is.
func counts(by map[string]int64) string {
	var sum int64
	var parts []string
	for _, action := range slices.Sorted(maps.Keys(by)) {
		if n := by[action]; n != 0 {
			sum += n
			parts = append(parts, fmt.Sprintf("%s %d", action, n))
		}
	}
	if sum == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", sum, strings.Join(parts, ", "))
}

// jsonShard is the state of a shard with -o json.
type jsonShard struct {
	Shard       int              `json:"shard"`
	Leader      string           `json:"leader"`
	Term        uint64           `json:"term"`
	Plans       int64            `json:"plans"`
	Backlog     int64            `json:"backlog"` // queued, running, retries
	Overdue     int64            `json:"overdue"`
	OldestDue   int64            `json:"oldest_due"` // 0: none
	Queued      map[string]int64 `json:"queued"`     // by action: claimed, not taken
	Running     map[string]int64 `json:"running"`    // by action: taken, not finished
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

func runReplicas(ctx context.Context, s *session, args []string) error {
	if err := none(args, "replicas"); err != nil {
		return err
	}
	replicas, err := s.client.Replicas(ctx)
	if err != nil {
		return err
	}
	sheet := s.sheet(
		column{title: "replica"}, column{title: "address"}, column{title: "version"}, column{title: "leads"},
		column{title: "clock", right: true, paint: clockColor}, column{title: "started"}, column{title: "seen"},
	)
	for _, r := range replicas {
		if s.opts.Output == outputJSON {
			if err := writeJSON(s.out, newJSONReplica(r)); err != nil {
				return err
			}
			continue
		}
		leads := ranges(r.Leads)
		if leads == "" && !r.Eager {
			leads = "(never)"
		} else if leads == "" {
			leads = "-"
		}
		err := sheet.add(r.ID, r.Address, r.Version, leads, offset(r.Offset),
			r.Started.In(s.process.Zone).Format(timeLayout), r.Seen.In(s.process.Zone).Format(timeLayout))
		if err != nil {
			return err
		}
	}
	return sheet.flush()
}

// ranges writes shards as --driver-redis-server-id takes them: 0-3,7.
func ranges(ids []int) string {
	ids = slices.Sorted(slices.Values(ids))
	var parts []string
	for i := 0; i < len(ids); {
		j := i
		for j+1 < len(ids) && ids[j+1] == ids[j]+1 {
			j++
		}
		if part := strconv.Itoa(ids[i]); j == i {
			parts = append(parts, part)
		} else {
			parts = append(parts, part+"-"+strconv.Itoa(ids[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// offset writes by how much a clock differs from the store's.
func offset(d time.Duration) string {
	if d = d.Round(time.Millisecond); d < 0 {
		return d.String()
	}
	return "+" + d.String()
}

func clockColor(offset string) text.Colors {
	if d, err := time.ParseDuration(offset); err == nil && d.Abs() > time.Second {
		return text.Colors{text.FgRed}
	}
	return nil
}

// jsonReplica is a replica with -o json. Times are Unix seconds.
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

// errUnwell is a check that found an error. All is told by then.
var errUnwell = errors.New("something is wrong")

func runDoctor(ctx context.Context, s *session, args []string) error {
	if err := none(args, "doctor"); err != nil {
		return err
	}
	s.wait = max(s.opts.Timeout, client.CheckTimeout)
	findings, err := s.client.Check(ctx)
	if err != nil {
		return err
	}
	if len(findings) == 0 && s.opts.Output != outputJSON {
		fmt.Fprintln(s.out, "nothing found")
	}
	unwell := false
	for _, f := range findings {
		unwell = unwell || f.Severity == scheduler.SeverityError
		if err := s.writeFinding(f); err != nil {
			return err
		}
	}
	if unwell {
		return errUnwell
	}
	return nil
}

// writeFinding writes a finding: on a terminal what is wrong on a line, and what to
// do on the next.
func (s *session) writeFinding(f scheduler.Finding) error {
	shard := ""
	if f.Shard != scheduler.WholeDeployment {
		shard = strconv.Itoa(f.Shard)
	}
	switch s.opts.Output {
	case outputJSON:
		return writeJSON(s.out, newJSONFinding(f))
	case outputText:
		_, err := fmt.Fprintln(s.out, strings.Join([]string{
			f.Severity.String(), shard, printable(f.Subject), printable(f.Problem), printable(f.Advice),
		}, "\t"))
		return err
	}
	const indent = 9 // "warning" and two blanks
	subject := f.Subject
	if own := "shard " + shard; shard != "" && subject != own {
		subject += ", " + own
	}
	word := fmt.Sprintf("%-*s", indent, f.Severity)
	if s.color {
		if colors := severityColor(f.Severity); len(colors) > 0 {
			word = text.Escape(word, colors.EscapeSeq())
		}
	}
	_, err := fmt.Fprintf(s.out, "%s%s: %s\n", word, printable(subject), printable(f.Problem))
	if err == nil && f.Advice != "" {
		_, err = fmt.Fprintf(s.out, "%*s%s\n", indent, "", printable(f.Advice))
	}
	return err
}

func severityColor(s scheduler.Severity) text.Colors {
	switch s {
	case scheduler.SeverityError:
		return text.Colors{text.FgRed}
	case scheduler.SeverityWarning:
		return text.Colors{text.FgYellow}
	}
	return nil
}

// jsonFinding is a finding with -o json.
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
