package scheduler

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// lookAgainAfter is how long Check waits before it looks a second time at what
	// may be a moment's state only.
	lookAgainAfter = 2 * time.Second
	// overdueNoted is how late a plan is that should have been claimed.
	overdueNoted = 5 * time.Second
	// queueNoted is how long a queue that grows must be to be spoken of.
	queueNoted = 1000
	// maxFindings bounds what Check returns.
	maxFindings = 1000
)

// Replicas returns all replicas seen lately, by id.
func (s *Service) Replicas(ctx context.Context) ([]Replica, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	replicas, err := s.store.Replicas(ctx)
	slices.SortFunc(replicas, func(a, b Replica) int { return cmp.Compare(a.ID, b.ID) })
	return replicas, err
}

// Check looks for what is not as it should be: in the store (Observer.Check), and
// in what shards and replicas show of themselves, twice where it matters. It
// returns at most 1000 findings, the worst first, within CheckTimeout. A part
// that could not be looked at is a finding, too; the error says that the store
// could not be asked at all. One check is under way at a time: who asks meanwhile
// gets what that one finds.
func (s *Service) Check(ctx context.Context) ([]Finding, error) {
	if err := checkAll(ctx, "check", ""); err != nil { // it names plans
		return nil, err
	}
	asked := s.checks.ended.Load()
	select {
	case s.checks.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.checks.turn }()
	if s.checks.ended.Load() != asked {
		return slices.Clone(s.checks.found), nil
	}
	found, err := s.check(ctx)
	if err != nil {
		return nil, err // perhaps of this caller only: the next one looks for itself
	}
	s.checks.found = found
	s.checks.ended.Add(1)
	return slices.Clone(found), nil
}

// checks is what checks that are asked for at once share.
type checks struct {
	turn  chan struct{} // holds one
	ended atomic.Int64  // how many were completed
	found []Finding     // by the last of them; guarded by turn
}

func (s *Service) check(ctx context.Context) ([]Finding, error) {
	first, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	var all []Finding
	left := 0
	checking, cancel := context.WithTimeout(ctx, s.opts.CheckTimeout)
	defer cancel()
	begun := time.Now()
	err = s.store.Check(checking, func(f Finding) {
		if len(all) >= maxFindings && f.Severity < SeverityError {
			left++
			return
		}
		all = append(all, f)
	})
	if ctx.Err() != nil {
		return nil, err
	}
	if err != nil {
		all = append(all, Finding{
			Shard: WholeDeployment, Severity: SeverityError, Subject: "check of the store",
			Problem: fmt.Sprintf("not completed, after %v: %s", time.Since(begun).Round(time.Millisecond), MaskText(err.Error())),
			Advice:  "what it found until then is here; try again when the store is less busy",
		})
	}
	second := first
	if first.uncertain() {
		if err := sleep(ctx, lookAgainAfter-time.Since(begun)); err != nil {
			return nil, err
		}
		if second, err = s.look(ctx); err != nil {
			return nil, err
		}
	}
	all = append(all, judgeShards(first, second)...)
	all = append(all, judgeReplicas(second)...)
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(a.Shard, b.Shard))
	})
	if over := len(all) - maxFindings + 1; over > 1 || left > 0 {
		left += max(over, 0)
		all = append(all[:min(len(all), maxFindings-1)], Finding{
			Shard: WholeDeployment, Severity: SeverityInfo, Subject: "check", Problem: fmt.Sprintf("found %d more than is shown", left),
		})
	}
	return all, nil
}

// looked is what a deployment shows at one moment.
type looked struct {
	shards   []ShardState
	replicas []Replica
	now      time.Time // by the store's clock, which replicas are seen by
	clock    time.Time // by this machine's, which plans are overdue by
}

func (s *Service) look(ctx context.Context) (l looked, err error) {
	l.clock = s.clock.Now()
	if l.shards, err = s.allShards(ctx); err != nil {
		return l, fmt.Errorf("shards: %w", err)
	}
	if l.replicas, err = s.Replicas(ctx); err != nil {
		return l, fmt.Errorf("replicas: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	if l.now, err = s.store.Now(ctx); err != nil {
		return l, fmt.Errorf("store's clock: %w", err)
	}
	return l, nil
}

// late is how long ago the oldest plan of a shard that is not claimed was due.
func (l looked) late(s ShardState) time.Duration {
	if s.Overdue == 0 || s.OldestDue == 0 {
		return 0
	}
	return l.clock.Sub(time.Unix(s.OldestDue, 0))
}

// uncertain says whether something must be seen twice to be judged.
func (l looked) uncertain() bool {
	for _, s := range l.shards {
		if s.Leader == "" || l.late(s) > overdueNoted {
			return true
		}
		for _, n := range s.Queued {
			if n > 0 {
				return true
			}
		}
	}
	return false
}

// judgeShards says what is wrong with shards that were looked at twice.
func judgeShards(first, second looked) (all []Finding) {
	before := make(map[int]ShardState, len(first.shards))
	for _, s := range first.shards {
		before[s.Shard] = s
	}
	eager := slices.ContainsFunc(live(second.replicas, second.now), func(r Replica) bool { return r.Eager })
	for _, s := range second.shards {
		was, known := before[s.Shard]
		if !known {
			continue
		}
		find := func(severity Severity, advice, format string, args ...any) {
			all = append(all, Finding{
				Shard: s.Shard, Severity: severity, Subject: fmt.Sprintf("shard %d", s.Shard),
				Problem: fmt.Sprintf(format, args...), Advice: advice,
			})
		}
		late := second.late(s)
		switch {
		case s.Leader == "" && was.Leader == "" && !eager:
			find(SeverityError, "start a forsund that may lead", "no replica leads it, and none may: nothing of it fires")
		case s.Leader == "" && was.Leader == "":
			find(SeverityError, "the logs of the replicas say why none of them can lead it", "no replica leads it: nothing of it fires")
		case late <= overdueNoted || first.late(was) <= overdueNoted:
		case s.OldestDue <= was.OldestDue && s.Overdue >= was.Overdue:
			find(SeverityError, "the log of its leader, "+s.Leader+", says why; an action whose backlog is full keeps its plans waiting",
				"%d plans are overdue, the oldest by %v, and they are not getting fewer", s.Overdue, late.Round(time.Second))
		default:
			find(SeverityWarning, "", "%d plans are overdue, the oldest by %v; they are being caught up with", s.Overdue, late.Round(time.Second))
		}
		for _, action := range slices.Sorted(maps.Keys(s.Queued)) {
			n, had := s.Queued[action], was.Queued[action]
			switch {
			case n == 0 || had == 0 || n < had:
			case s.Running[action] == 0 && was.Running[action] == 0:
				find(SeverityError, "see that a replica runs it (--work), and that it is alive",
					"%d firings of the action %s wait and none runs: no replica takes them", n, Shorten(action, 64))
			case n >= queueNoted:
				find(SeverityWarning, "slow targets? more slots (--slots, --target-slots) or more replicas help",
					"%d firings of the action %s wait, %d more than %v before", n, Shorten(action, 64), n-had, second.now.Sub(first.now).Round(time.Second))
			}
		}
		if s.Dead > 0 {
			find(SeverityInfo, "forsun dead lists them; redrive or purge them", "%d dead letters", s.Dead)
		}
	}
	return all
}

// judgeReplicas says what is wrong with the replicas and their clocks.
func judgeReplicas(l looked) (all []Finding) {
	find := func(severity Severity, subject, advice, format string, args ...any) {
		all = append(all, Finding{
			Shard: WholeDeployment, Severity: severity, Subject: subject,
			Problem: fmt.Sprintf(format, args...), Advice: advice,
		})
	}
	alive := live(l.replicas, l.now)
	c := compareClocks(alive)
	const setClock = "set it right (NTP)"
	// The error of a single clock is worth a line for each; a fleet's for the store.
	switch {
	case c.overrules():
		find(SeverityError, "clock of the store", "set the clock of the store's machine right (NTP)",
			"%s the replicas', which agree: the fleet's clock decides what is due", side(-c.offset))
	case c.replicas > 1 && !c.agreed:
		find(SeverityWarning, "clocks", "set the clocks of all machines right (NTP)",
			"the replicas' differ, and nobody can tell whose is right: %s", clocksOf(alive))
	case c.agreed && c.offset.Abs() > clockTolerance:
		find(SeverityWarning, "clock of the store", "set the clocks of all machines right (NTP)",
			"%s the replicas': what is due waits for the later of the two", side(-c.offset))
	}
	for _, r := range alive {
		switch {
		case c.wrong(r.Offset):
			find(SeverityError, "replica "+r.ID, setClock, "its clock is %s the fleet's: it leads nothing and refuses creates", side(r.Offset-c.offset))
		case c.replicas == 1 && r.Offset.Abs() > clockTolerance:
			find(SeverityWarning, "replica "+r.ID, setClock, "its clock is %s the store's: what is due waits for the later of the two", side(r.Offset))
		}
	}
	versions := make(map[string][]string)
	for _, r := range alive {
		versions[r.Version] = append(versions[r.Version], r.ID)
	}
	if len(versions) > 1 {
		var parts []string
		for _, v := range slices.Sorted(maps.Keys(versions)) {
			parts = append(parts, fmt.Sprintf("%s (%s)", cmp.Or(v, "unknown"), strings.Join(versions[v], ", ")))
		}
		find(SeverityWarning, "versions", "fine while the fleet is being upgraded, not for long", "replicas run different ones: %s", strings.Join(parts, "; "))
	}
	for _, r := range l.replicas {
		if ago := l.now.Sub(r.Seen); ago > replicaLive {
			find(SeverityInfo, "replica "+r.ID, "", "last seen %v ago", ago.Round(time.Second))
		}
	}
	return all
}

// side says on which side of another a clock is, and how far, in tenths of a second.
func side(d time.Duration) string {
	if d < 0 {
		return fmt.Sprintf("%v behind", -d.Round(100*time.Millisecond))
	}
	return fmt.Sprintf("%v ahead of", d.Round(100*time.Millisecond))
}

// clocksOf lists the clocks of replicas, as they differ from the store's.
func clocksOf(replicas []Replica) string {
	var parts []string
	for _, r := range replicas {
		parts = append(parts, fmt.Sprintf("%s %+.1fs", r.ID, r.Offset.Seconds()))
	}
	return strings.Join(parts, ", ")
}
