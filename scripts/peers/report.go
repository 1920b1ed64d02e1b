package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what was measured. The names of its JSON form do not change.
type report struct {
	Date    time.Time `json:"date"`
	CPUs    int       `json:"cpus"`
	Seconds float64   `json:"seconds"` // all of it
	Quick   bool      `json:"quick"`
	Left    []string  `json:"left_out"` // what could not be run, and why
	Works   []*worked `json:"works"`
	failed  error     // why not all of it was run
}

// worked is a work and who did it.
type worked struct {
	Work  string `json:"work"`
	Title string `json:"title"`
	Rows  []*row `json:"contestants"`
	late  bool
}

type row struct {
	Name   string    `json:"name"`
	Note   string    `json:"note"`
	Median figures   `json:"median"` // each figure's own
	Runs   []figures `json:"runs"`
	Ratios []ratio   `json:"ratios,omitempty"` // of forsun to this one
}

// ratio is how forsun compares: for rates how many times as fast, for lateness how many
// times as early (p50).
type ratio struct {
	Forsun string  `json:"forsun"`
	Times  float64 `json:"times"`
	Mark   float64 `json:"mark,omitempty"` // that it is to reach
}

func newReport(o *options) *report {
	return &report{Date: time.Now().UTC().Truncate(time.Second), CPUs: runtime.NumCPU(), Quick: o.quick, Left: []string{}}
}

func (r *report) add(w work, c *contestant, f figures) {
	i := slices.IndexFunc(r.Works, func(x *worked) bool { return x.Work == w.work })
	if i < 0 {
		i = len(r.Works)
		r.Works = append(r.Works, &worked{Work: w.work, Title: w.title, late: w.late})
	}
	x := r.Works[i]
	k := slices.IndexFunc(x.Rows, func(row *row) bool { return row.Name == c.name })
	if k < 0 {
		k = len(x.Rows)
		x.Rows = append(x.Rows, &row{Name: c.name, Note: c.note})
	}
	x.Rows[k].Runs = append(x.Rows[k].Runs, f)
}

// marks are the ratios that forsun is to reach at a burst, and what is a mark for whom.
var marks = map[string]map[string]float64{
	"asynq":            {onRedis: 5, onShards: 5},
	"BullMQ":           {onRedis: 2.5, onShards: 2.5},
	"Bee-Queue":        {onRedis: 0, onShards: 0},
	"beanstalkd":       {onRedis: 1, onShards: 1, embedded: 0},
	"beanstalkd -b":    {embedded: 1, onRedis: 0, onShards: 0},
	"ceiling (stream)": {onRedis: 0.65, onShards: 0.65},
	"ceiling (lease)":  {onRedis: 0, onShards: 0},
}

// compare fills in medians and ratios.
func (r *report) compare() {
	for _, x := range r.Works {
		byName := map[string]*row{}
		for _, row := range x.Rows {
			row.Median = median(row.Runs)
			byName[row.Name] = row
		}
		for _, peer := range x.Rows {
			peer.Ratios = nil
			for _, ours := range []string{onRedis, onShards, embedded} {
				mark, compared := marks[peer.Name][ours]
				f := byName[ours]
				if !compared || f == nil {
					continue
				}
				q := ratio{Forsun: ours, Mark: mark}
				switch {
				case x.late:
					q.Times, q.Mark = peer.Median.Late.P50/f.Median.Late.P50, 0
				case x.Work == burst:
					q.Times = f.Median.PerSecond / peer.Median.PerSecond
				default:
					q.Times, q.Mark = f.Median.PerSecond/peer.Median.PerSecond, 0
				}
				peer.Ratios = append(peer.Ratios, q)
			}
		}
	}
}

// median is the median of each figure.
func median(runs []figures) (m figures) {
	of := func(get func(f figures) float64) float64 {
		var all []float64
		for _, f := range runs {
			all = append(all, get(f))
		}
		slices.Sort(all)
		n := len(all)
		return (all[(n-1)/2] + all[n/2]) / 2
	}
	m.Fired = runs[0].Fired
	for _, f := range runs {
		m.Early, m.Twice = max(m.Early, f.Early), max(m.Twice, f.Twice) // the worst of these
	}
	m.Seconds = of(func(f figures) float64 { return f.Seconds })
	m.PerSecond = of(func(f figures) float64 { return f.PerSecond })
	m.Late.P50 = of(func(f figures) float64 { return f.Late.P50 })
	m.Late.P99 = of(func(f figures) float64 { return f.Late.P99 })
	m.Late.Max = of(func(f figures) float64 { return f.Late.Max })
	m.Bytes = of(func(f figures) float64 { return f.Bytes })
	m.RedisCPU = of(func(f figures) float64 { return f.RedisCPU })
	m.OtherP99 = of(func(f figures) float64 { return f.OtherP99 })
	return m
}

func (r *report) save(path string) error {
	r.compare()
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// print writes tables for people.
func (r *report) print(w io.Writer) error {
	r.compare()
	for _, x := range r.Works {
		fmt.Fprintf(w, "\n%s\n", x.Title)
		table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
		if x.late {
			fmt.Fprintln(table, "  \tp50 ms\tp99 ms\tmax ms\tearly\tforsun is")
		} else {
			fmt.Fprintln(table, "  \ta second\tRedis µs a firing\tbytes a job\tforsun is")
		}
		for _, row := range x.Rows {
			m := row.Median
			if x.late {
				fmt.Fprintf(table, "  %s\t%.1f\t%.1f\t%.1f\t%d\t%s\n", row.Name, m.Late.P50, m.Late.P99, m.Late.Max, m.Early, ratios(row, "as late"))
			} else {
				fmt.Fprintf(table, "  %s\t%.0f\t%s\t%s\t%s\n", row.Name, m.PerSecond, number("%.1f", m.RedisCPU), number("%.0f", m.Bytes), ratios(row, "as fast"))
			}
		}
		if err := table.Flush(); err != nil {
			return err
		}
		for _, row := range x.Rows {
			if row.Median.OtherP99 > 0 {
				fmt.Fprintf(w, "  other clients of that Redis meanwhile: p99 %.1f ms (%s)\n", row.Median.OtherP99, row.Name)
			}
			if row.Median.Twice > 0 {
				fmt.Fprintf(w, "  %s ran %d twice\n", row.Name, row.Median.Twice)
			}
		}
	}
	fmt.Fprintf(w, "\nHow they ran:\n")
	said := map[string]bool{}
	for _, x := range r.Works {
		for _, row := range x.Rows {
			if !said[row.Name] {
				said[row.Name] = true
				fmt.Fprintf(w, "  %-17s %s\n", row.Name, row.Note)
			}
		}
	}
	for _, why := range r.Left {
		fmt.Fprintf(w, "  left out: %s\n", why)
	}
	_, err := fmt.Fprintf(w, "%d processors, shared by all; %.0f s. Medians; a peer's rate counts from its first job, forsun's from the second.\n", r.CPUs, r.Seconds)
	return err
}

func number(format string, v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf(format, v)
}

func ratios(r *row, _ string) string {
	var all []string
	for _, q := range r.Ratios {
		which := strings.TrimSuffix(strings.TrimPrefix(q.Forsun, "forsun ("), ")")
		s := fmt.Sprintf("%.2f × (%s)", q.Times, which)
		if q.Mark > 0 {
			s += fmt.Sprintf(", mark %g", q.Mark)
			if q.Times < q.Mark {
				s += " MISSED"
			}
		}
		all = append(all, s)
	}
	return strings.Join(all, "; ")
}
