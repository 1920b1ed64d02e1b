package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestPlan: what each way to ask for runs comes to.
func TestPlan(t *testing.T) {
	t.Parallel()
	var all []string
	for i := 1; i <= scenarioCount; i++ {
		all = append(all, fmt.Sprintf("TestC%02dAny", i))
	}
	all[0], all[10], all[12], all[14] = "TestC01Steady", "TestC11OutOfMemory", "TestC13Million", "TestC15Killed"
	all[1], all[2], all[3] = "TestC02LeadersKilled", "TestC03LeaderPaused", "TestC04WorkerKilled"
	all = append(all, "TestC01Balanced", "TestC04ReplicasKilled")
	for _, row := range []struct {
		why   string
		tests []string
		o     options
		want  string // test×runs of a form, in order, or the error
	}{
		{"the whole", all, options{form: "full"}, "C01Balanced×5 full, C01Steady×5 full, C01Steady×1 long, C02LeadersKilled×30 full, C03LeaderPaused×30 full, C04ReplicasKilled×5 full, " +
			"C04WorkerKilled×30 full, C05Any×5 full, C06Any×30 full, C07Any×5 full, C08Any×5 full, C09Any×5 full, C10Any×5 full, " +
			"C11OutOfMemory×5 full, C11OutOfMemory×1 long, C12Any×5 full, C13Million×8 full, C14Any×5 full, C15Killed×30 full, C16Any×5 full, C17Any×5 full"},
		{"a scenario", all, options{form: "full", scenarios: "C4"}, "C04ReplicasKilled×1 full, C04WorkerKilled×1 full"},
		{"not C10 and more", all, options{form: "long", scenarios: "C1", repeat: 3}, "C01Balanced×3 long, C01Steady×3 long"},
		{"two, one of them a test", all, options{form: "full", scenarios: "C04WorkerKilled,C16", repeat: 2}, "C04WorkerKilled×2 full, C16Any×2 full"},
		{"none such", []string{"TestC01Steady"}, options{form: "full", scenarios: "C18"}, "there is no scenario C18; there are: TestC01Steady"},
		{"a scenario is missing", all[2:], options{form: "full"}, "no test of C1"},
	} {
		row.o.seed = 7
		runs, err := plan(row.tests, &row.o)
		var parts []string
		for i := 0; i < len(runs); {
			n := i
			for ; n < len(runs) && runs[n].test == runs[i].test && runs[n].form == runs[i].form; n++ {
				if want := 7 + uint64(n-i); runs[n].seed != want {
					t.Errorf("%s: run %d of %s has seed %d, want %d", row.why, n-i, runs[n].test, runs[n].seed, want)
				}
			}
			parts = append(parts, fmt.Sprintf("%s×%d %s", runs[i], n-i, runs[i].form))
			i = n
		}
		got := strings.Join(parts, ", ")
		if err != nil {
			got = err.Error()
		}
		if got != row.want {
			t.Errorf("%s: got %s, want %s", row.why, got, row.want)
		}
	}
}
