// Package report is what is told of the scenarios' runs: an outcome each, and the
// table of them that is kept in the repository.
package report

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Outcome is what came of one run of a scenario.
type Outcome struct {
	Scenario   string    `json:"scenario"` // C3
	Test       string    `json:"test"`
	Form       string    `json:"form"`
	Seed       uint64    `json:"seed"`
	Began      time.Time `json:"began"`
	Seconds    float64   `json:"seconds"`
	Firings    int       `json:"firings"`
	Duplicates int       `json:"duplicates"` // ran again with no reason, or had none to run at all
	Early      int       `json:"early"`
	Lost       int       `json:"lost"`
	Rescued    int       `json:"rescued"` // ran again because their worker died
	LatestMS   float64   `json:"latest_ms"`
	Passed     bool      `json:"passed"`
	Commit     string    `json:"commit,omitempty"` // whoever ran it knows
}

// Append adds an outcome to a file of lines, in one write.
func Append(path string, o Outcome) error {
	line, err := json.Marshal(o)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(line, '\n'))
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}

// Read returns the outcomes among the lines of a file: one that Append made, or a
// table of Write. One that is not there has none.
func Read(path string) ([]Outcome, error) {
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var all []Outcome
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), `{"scenario":`) {
			continue
		}
		var o Outcome
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", path, lines.Text(), err)
		}
		all = append(all, o)
	}
	return all, lines.Err()
}

// number of a scenario: 3 of C3.
func number(scenario string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(scenario, "C"))
	return n
}

// row is the runs of one test in one form, summed.
type row struct {
	scenario, test, form string
	runs, passed         int
	firings, duplicates  int
	early, lost, rescued int
	latest, longest      float64
	seeds                []uint64
}

func (r *row) add(o Outcome) {
	r.runs++
	if o.Passed {
		r.passed++
	}
	r.firings, r.duplicates, r.early = r.firings+o.Firings, r.duplicates+o.Duplicates, r.early+o.Early
	r.lost, r.rescued = r.lost+o.Lost, r.rescued+o.Rescued
	r.latest, r.longest = max(r.latest, o.LatestMS), max(r.longest, o.Seconds)
	r.seeds = append(r.seeds, o.Seed)
}

// rows sums the outcomes, in the order of the scenarios, and all of them.
func rows(all []Outcome) (by []*row, total row) {
	for _, o := range all {
		i := slices.IndexFunc(by, func(r *row) bool { return r.scenario == o.Scenario && r.test == o.Test && r.form == o.Form })
		if i < 0 {
			i = len(by)
			by = append(by, &row{scenario: o.Scenario, test: o.Test, form: o.Form})
		}
		by[i].add(o)
		total.add(o)
	}
	slices.SortStableFunc(by, func(a, b *row) int {
		return cmp.Or(number(a.scenario)-number(b.scenario), strings.Compare(a.test, b.test), strings.Compare(a.form, b.form))
	})
	return by, total
}

// seeds are ranges of those that follow each other.
func seeds(all []uint64) string {
	all = slices.Sorted(slices.Values(all))
	var parts []string
	for i := 0; i < len(all); {
		last := i
		for last+1 < len(all) && all[last+1]-all[last] <= 1 {
			last++
		}
		if part := fmt.Sprint(all[i]); all[last] == all[i] {
			parts = append(parts, part)
		} else {
			parts = append(parts, fmt.Sprint(part, "–", all[last]))
		}
		i = last + 1
	}
	return strings.Join(parts, ", ")
}

// Table writes what the outcomes sum up to, in Markdown.
func Table(w io.Writer, all []Outcome) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "| scenario | test | form | runs | passed | firings | duplicates | early | lost | run again | latest | longest run | seeds |")
	fmt.Fprintln(b, "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|")
	line := func(r *row, seeds string) {
		fmt.Fprintf(b, "| %s | %s | %s | %d | %d | %d | %d | %d | %d | %d | %.3f s | %.0f s | %s |\n",
			r.scenario, r.test, r.form, r.runs, r.passed, r.firings, r.duplicates, r.early, r.lost, r.rescued, r.latest/1000, r.longest, seeds)
	}
	by, total := rows(all)
	for _, r := range by {
		line(r, seeds(r.seeds))
	}
	total.scenario = "all"
	line(&total, "")
	return b.Flush()
}

// Write writes the page that is kept: the table, what it was made on, and every run.
func Write(w io.Writer, all []Outcome, machine string) error {
	b := bufio.NewWriter(w)
	var commits []string
	var began, ended time.Time
	for _, o := range all {
		if o.Commit != "" && !slices.Contains(commits, o.Commit) {
			commits = append(commits, o.Commit)
		}
		if began.IsZero() || o.Began.Before(began) {
			began = o.Began
		}
		if end := o.Began.Add(time.Duration(o.Seconds * float64(time.Second))); end.After(ended) {
			ended = end
		}
	}
	fmt.Fprintf(b, "# What the scenarios showed\n\nWritten by `make chaos`, not by hand. Commit %s; %s; from %s to %s.\n\n",
		strings.Join(commits, ", "), machine, began.UTC().Format("2006-01-02 15:04"), ended.UTC().Format("2006-01-02 15:04 MST"))
	fmt.Fprint(b, `A firing counts once here, however often it ran. *Duplicates* ran again with no reason, or had none to run; *run again* are
those that may: their worker died while it held them. *Latest* is of firings that were not run again, faults and all. A run is
repeated with `+"`make chaos SCENARIO=… SEED=…`"+`, on the commit above.

`)
	if err := Table(b, all); err != nil {
		return err
	}
	fmt.Fprint(b, "\n## Every run\n\n```\n")
	for _, o := range all {
		line, err := json.Marshal(o)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "%s\n", line)
	}
	fmt.Fprintln(b, "```")
	return b.Flush()
}
