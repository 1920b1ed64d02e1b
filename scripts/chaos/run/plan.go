package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// testName is how tests are called that belong to a scenario: TestC03LeaderPaused.
var testName = regexp.MustCompile(`^TestC([0-9]{2})[A-Z]`)

// trial is one run of a test.
type trial struct {
	scenario, test, form string
	seed                 uint64
	alone                bool // see busy
}

func (r trial) String() string { return strings.TrimPrefix(r.test, "Test") }

// scenarioOf is C3 of TestC03LeaderPaused.
func scenarioOf(test string) string {
	m := testName.FindStringSubmatch(test)
	if m == nil {
		return ""
	}
	return "C" + strings.TrimPrefix(m[1], "0")
}

// How often the whole repeats: the scenarios where order is correctness thirty times,
// all others five, the one that fires most as often as it takes for ten million in all,
// and those that are about length once more, long.
const (
	repeatMost  = 30
	repeatOther = 5
	repeatTen   = 8
)

var (
	most = []string{"C2", "C3", "C4", "C6", "C15"}
	// of several tests of one of them this one is repeated so often
	mostOf = map[string]string{"C2": "TestC02LeadersKilled", "C3": "TestC03LeaderPaused", "C4": "TestC04WorkerKilled", "C15": "TestC15Killed"}
	ten    = "TestC13Million"
	long   = []string{"TestC01Steady", "TestC11OutOfMemory"}
	// busy tests take the machine for themselves: nothing else runs beside them.
	busy = []string{"TestC01Steady", "TestC13Million", "TestC14Hanging", "TestC14Targets", "TestC16Hostile", "TestC17Restarted", "TestC17Upgraded"}
)

// scenarioCount is how many there are: the whole must have a test of each.
const scenarioCount = 17

// plan makes the list of runs.
func plan(tests []string, o *options) (runs []trial, err error) {
	var wanted []string
	if o.scenarios != "" {
		wanted = strings.Split(o.scenarios, ",")
	}
	for _, w := range wanted {
		if !slices.ContainsFunc(tests, func(test string) bool { return is(test, w) }) {
			return nil, fmt.Errorf("there is no scenario %s; there are: %s", w, strings.Join(tests, ", "))
		}
	}
	slices.Sort(tests)
	add := func(test, form string, n int) {
		for i := range n {
			runs = append(runs, trial{scenarioOf(test), test, form, o.seed + uint64(i), slices.Contains(busy, test)})
		}
	}
	for _, test := range tests {
		if wanted != nil && !slices.ContainsFunc(wanted, func(w string) bool { return is(test, w) }) {
			continue
		}
		switch scenario := scenarioOf(test); {
		case o.repeat > 0:
			add(test, o.form, o.repeat)
		case wanted != nil || o.form != "full":
			add(test, o.form, 1)
		default:
			if slices.Contains(most, scenario) && (mostOf[scenario] == "" || mostOf[scenario] == test) {
				add(test, o.form, repeatMost)
			} else if test == ten {
				add(test, o.form, repeatTen)
			} else {
				add(test, o.form, repeatOther)
			}
			if slices.Contains(long, test) {
				add(test, "long", 1)
			}
		}
	}
	if wanted == nil && o.form != "short" {
		return runs, complete(tests)
	}
	return runs, nil
}

// is says whether a test is of a scenario, or is the one of that name.
func is(test, wanted string) bool {
	return scenarioOf(test) == wanted || strings.TrimPrefix(test, "Test") == strings.TrimPrefix(wanted, "Test")
}

// complete says which scenarios no test is of.
func complete(tests []string) error {
	var missing []string
	for i := 1; i <= scenarioCount; i++ {
		if name := fmt.Sprint("C", i); !slices.ContainsFunc(tests, func(test string) bool { return scenarioOf(test) == name }) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no test of %s", strings.Join(missing, ", "))
	}
	return nil
}
