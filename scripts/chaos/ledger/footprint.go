package ledger

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Footprint is what a process holds (I10).
type Footprint struct {
	Threads     int
	Descriptors int
	Resident    int64 // bytes
	Goroutines  int   // as it says itself: see ReadGoroutines
}

// ReadProcess reads the footprint of a process from the kernel, where there is /proc.
func ReadProcess(pid int) (f Footprint, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	descriptors, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return f, err
	}
	f.Descriptors = len(descriptors)
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return f, err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(strings.TrimSuffix(value, "kB"))
		switch name {
		case "Threads":
			f.Threads, err = strconv.Atoi(value)
		case "VmRSS":
			f.Resident, err = strconv.ParseInt(value, 10, 64)
			f.Resident <<= 10
		}
		if err != nil {
			return f, fmt.Errorf("%s/status: %q: %w", dir, line, err)
		}
	}
	if f.Threads == 0 || f.Resident == 0 {
		return f, fmt.Errorf("%s/status does not say what it holds", dir)
	}
	return f, nil
}

// ReadGoroutines adds how many a process has by its profile of them, with debug=1. Those
// that stand in a function named pooled wait for work, and are not counted.
func (f *Footprint) ReadGoroutines(profile io.Reader, pooled string) error {
	f.Goroutines = 0
	lines, n := bufio.NewScanner(profile), 0 // of the stack whose top comes next
	for lines.Scan() {
		line := lines.Text()
		if count, _, ok := strings.Cut(line, " @ "); ok {
			var err error
			if n, err = strconv.Atoi(count); err != nil {
				return fmt.Errorf("goroutines: %q: %w", line, err)
			}
			f.Goroutines += n
			continue
		}
		if strings.HasPrefix(line, "#") {
			if strings.Contains(line, pooled+"+") {
				f.Goroutines -= n
			}
			n = 0
		}
	}
	if f.Goroutines == 0 && lines.Err() == nil {
		return fmt.Errorf("no profile of goroutines")
	}
	return lines.Err()
}

// Grown says by how much more than slack a process holds more than it did, a line each.
func (f Footprint) Grown(since, slack Footprint) (problems []string) {
	for _, row := range []struct {
		what              string
		now, was, allowed int64
	}{
		{"threads", int64(f.Threads), int64(since.Threads), int64(slack.Threads)},
		{"descriptors", int64(f.Descriptors), int64(since.Descriptors), int64(slack.Descriptors)},
		{"bytes resident", f.Resident, since.Resident, slack.Resident},
		{"goroutines", int64(f.Goroutines), int64(since.Goroutines), int64(slack.Goroutines)},
	} {
		if row.now > row.was+row.allowed {
			problems = append(problems, fmt.Sprintf("%d %s, and before %d; allowed are %d more", row.now, row.what, row.was, row.allowed))
		}
	}
	return problems
}
