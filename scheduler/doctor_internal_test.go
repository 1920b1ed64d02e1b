package scheduler

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// wantFindings compares findings, written "severity shard subject: problem", with
// what each of them is to begin with.
func wantFindings(t *testing.T, why string, got []Finding, want ...string) {
	t.Helper()
	var lines []string
	for _, f := range got {
		lines = append(lines, fmt.Sprintf("%s %d %s: %s", f.Severity, f.Shard, f.Subject, f.Problem))
	}
	ok := len(lines) == len(want)
	for i := range min(len(lines), len(want)) {
		ok = ok && strings.HasPrefix(lines[i], want[i])
	}
	if !ok {
		t.Errorf("%s: found %q, want %q", why, lines, want)
	}
}

// TestJudgeShards: what is only a moment's state is passed over.
func TestJudgeShards(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	led := func(change func(*ShardState)) ShardState {
		s := ShardState{Shard: 3, Leader: "a", Term: 1}
		if change != nil {
			change(&s)
		}
		return s
	}
	vacant := led(func(s *ShardState) { s.Leader = "" })
	overdue := func(n, by int64) ShardState {
		return led(func(s *ShardState) { s.Overdue, s.OldestDue = n, now.Unix()-by })
	}
	queue := func(queued, running int64) ShardState {
		return led(func(s *ShardState) {
			s.Queued, s.Running = map[string]int64{"http": queued}, map[string]int64{"http": running}
		})
	}
	for _, row := range []struct {
		why           string
		first, second ShardState
		want          string // "": nothing
	}{
		{"well", led(nil), led(nil), ""},
		{"no leader", vacant, vacant, "error 3 shard 3: no replica leads it: nothing"},
		{"handed over", vacant, led(nil), ""},
		{"given up just now", led(nil), vacant, ""},
		{"due just now", overdue(5, 2), overdue(9, 4), ""},
		{"claimed since", overdue(5, 60), overdue(0, 0), ""},
		{"stuck", overdue(5, 60), overdue(5, 60), "error 3 shard 3: 5 plans are overdue, the oldest by 1m0s"},
		{"stuck, and more come", overdue(5, 60), overdue(7, 60), "error 3"},
		{"fewer", overdue(500, 60), overdue(400, 60), "warning 3 shard 3: 400 plans are overdue"},
		{"moving on", overdue(500, 60), overdue(500, 50), "warning 3"},
		{"a queue", queue(5, 3), queue(5, 3), ""},
		{"nobody takes it", queue(5, 0), queue(5, 0), "error 3 shard 3: 5 firings of the action http wait and none runs"},
		{"somebody does", queue(5, 0), queue(4, 0), ""},
		{"a long queue that grows", queue(2000, 10), queue(2500, 10), "warning 3 shard 3: 2500 firings of the action http wait, 500 more than 2s before"},
		{"a long queue that shrinks", queue(2500, 10), queue(2000, 10), ""},
		{"dead letters", led(nil), led(func(s *ShardState) { s.Dead = 2 }), "info 3 shard 3: 2 dead letters"},
	} {
		a := Replica{ID: "a", Eager: true, Seen: now}
		first := looked{shards: []ShardState{row.first}, replicas: []Replica{a}, now: now.Add(-2 * time.Second), clock: now}
		second := looked{shards: []ShardState{row.second}, replicas: []Replica{a}, now: now, clock: now}
		var want []string
		if row.want != "" {
			want = []string{row.want}
			if !first.uncertain() && row.second.Dead == 0 {
				t.Errorf("%s: not looked at twice", row.why)
			}
		}
		wantFindings(t, row.why, judgeShards(first, second), want...)
	}
	l := looked{shards: []ShardState{vacant}, replicas: []Replica{{ID: "a", Seen: now}}, now: now, clock: now}
	wantFindings(t, "no leader, and none may lead", judgeShards(l, l), "error 3 shard 3: no replica leads it, and none may")
}

func TestJudgeReplicas(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	const s = time.Second
	fleet := func(offsets ...time.Duration) (all []Replica) {
		for i, o := range offsets {
			all = append(all, Replica{ID: string(rune('a' + i)), Version: "1", Offset: o, Seen: now, Eager: true})
		}
		return all
	}
	other := fleet(0, 0)
	other[1].Version = "2"
	gone := fleet(0, 9*s)
	gone[1].Seen = now.Add(-12 * s)
	for _, row := range []struct {
		why      string
		replicas []Replica
		want     []string
	}{
		{"one", fleet(0), nil},
		{"well", fleet(0, s/10, -s/10), nil},
		{"one, off", fleet(-2 * s), []string{"warning -1 replica a: its clock is 2s behind the store's"}},
		{"one of three", fleet(0, 0, 90*s), []string{"error -1 replica c: its clock is 1m30s ahead of the fleet's"}},
		{"two that differ", fleet(0, 3*s), []string{"warning -1 clocks: the replicas' differ, and nobody can tell whose is right: a +0.0s, b +3.0s"}},
		{"the store", fleet(-9*s, -9*s), []string{"error -1 clock of the store: 9s ahead of the replicas', which agree"}},
		{"the store, a little", fleet(2*s, 2*s), []string{"warning -1 clock of the store: 2s behind the replicas'"}},
		{"versions", other, []string{"warning -1 versions: replicas run different ones: 1 (a); 2 (b)"}},
		{"gone", gone, []string{"info -1 replica b: last seen 12s ago"}},
	} {
		wantFindings(t, row.why, judgeReplicas(looked{replicas: row.replicas, now: now}), row.want...)
	}
}
