// Command bugs sees whether the tests find the defects that are seeded: "make bugs".
// The table of scripts/chaos/BUGS.md says which test finds which and by what; each must
// pass without the defect, and fail with it, and with that, within 5 minutes.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	page      = "scripts/chaos/BUGS.md"
	chaosDir  = "scripts/chaos"
	chaosTags = "failpoints" // so that TestFailpoints is there
	within    = 5 * time.Minute
)

func main() {
	only := flag.String("bug", "", "seed only `this` one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *only, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, out io.Writer) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	rows, err := parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	if err := complete(rows); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "forsun-bugs-")
	if err != nil {
		return err
	}
	passed := make(map[string]bool) // tests, without a defect
	missed, seeded := 0, 0
	for _, r := range rows {
		if only != "" && r.bug != only {
			continue
		}
		seeded++
		if !passed[r.test] {
			if why := r.without().run(ctx, dir, out); why != "" {
				fmt.Fprintln(out, why)
				missed++
				continue
			}
			passed[r.test] = true
		}
		if why := r.run(ctx, dir, out); why != "" {
			fmt.Fprintln(out, why)
			missed++
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	switch {
	case seeded == 0:
		return fmt.Errorf("there is no bug %s", only)
	case missed > 0:
		return fmt.Errorf("%d of %d bugs were not found as %s says; what was printed is in %s", missed, seeded, page, dir)
	}
	fmt.Fprintf(out, "%d bugs, all found\n", seeded)
	return os.RemoveAll(dir)
}

// row is one of the table.
type row struct {
	bug  string // "": none is seeded
	dir  string // of the test's package
	test string
	says *regexp.Regexp // what its output must match
}

func (r row) without() row { return row{dir: r.dir, test: r.test} }

// line is a row of the table: its bug, what is wrong, which test finds it, by what, as
// the invariant and, in backticks, what the output says.
var line = regexp.MustCompile("^\\| `([a-z-]+)` \\| [^|]+ \\| (?:`([a-z/]+)` )?`(Test[^`]+)` \\| [^|`]+`([^`]+)` \\|$")

// parse reads the first table.
func parse(text string) (rows []row, err error) {
	for l := range strings.Lines(text) {
		l = strings.TrimRight(l, "\n")
		if !strings.HasPrefix(l, "| `") {
			if len(rows) > 0 {
				break
			}
			continue
		}
		m := line.FindStringSubmatch(l)
		if m == nil {
			return nil, fmt.Errorf("cannot read %q", l)
		}
		r := row{bug: m[1], dir: m[2], test: m[3]}
		if r.dir == "" {
			r.dir = chaosDir
		}
		if r.says, err = regexp.Compile("(?m)" + m[4]); err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// complete checks that the table has all defects that can be seeded, and no others.
func complete(rows []row) error {
	found := make(map[string]bool)
	name := regexp.MustCompile(`\bBug\("([a-z-]+)"\)|^\s*\{"([a-z-]+)", "`)
	for _, dir := range []string{"scheduler", "scheduler/memstore", "redisstore"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			return err
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			for l := range strings.Lines(string(text)) {
				for _, m := range name.FindAllStringSubmatch(l, -1) {
					if m[1] != "" || strings.HasSuffix(file, "/bugs.go") {
						found[m[1]+m[2]] = true
					}
				}
			}
		}
	}
	for _, r := range rows {
		if !found[r.bug] {
			return fmt.Errorf("%s: nothing seeds the bug %s", page, r.bug)
		}
		delete(found, r.bug)
	}
	for bug := range found {
		return fmt.Errorf("%s does not have the bug %s", page, bug)
	}
	return nil
}

// run runs the test, and says what was not as it should be.
func (r row) run(ctx context.Context, dir string, out io.Writer) (wrong string) {
	tags := chaosTags
	args := []string{"test", "-count=1", "-v", "-timeout", (2 * within).String(), "-run", "^" + strings.ReplaceAll(r.test, "/", "$/^") + "$"}
	env := append(os.Environ(), "CHAOS=full")
	label := "none" // no space: servers have it in their configuration
	if r.bug != "" {
		tags += ",bugs"
		label = r.bug
		// The tests of processes build them by themselves.
		env = append(env, "CHAOS_BUG="+r.bug)
		args = append(args, "-ldflags", "-X github.com/snower/forsun/scheduler.bug="+r.bug)
	}
	args = append(args, "-tags", tags, "./"+r.dir)
	// Of its own: what a run without a bug printed is not written over by another's.
	kept := filepath.Join(dir, label+"-"+strings.NewReplacer("/", "-", "=", "-").Replace(r.test))
	if err := os.MkdirAll(kept, 0o700); err != nil {
		return err.Error()
	}
	var output []byte
	var err error
	began := time.Now()
	var took time.Duration
	failed := false
	// What a test chooses by chance may miss the bug: it is run again while there is time.
	for again := true; again; {
		started := time.Now()
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Env = append(slices.Clone(env), "CHAOS_TAGS="+tags, "TMPDIR="+kept)
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = 30 * time.Second
		output, err = cmd.CombinedOutput()
		took = time.Since(began)
		failed = strings.Contains(string(output), "--- FAIL: "+r.test)
		missed := !failed && strings.Contains(string(output), "--- PASS: "+r.test)
		again = r.bug != "" && missed && ctx.Err() == nil && took+time.Since(started) < within
	}
	fmt.Fprintf(out, "%-18s %-42s %4.0f s  ", label, r.test, took.Seconds())
	log := filepath.Join(kept, "output")
	if err := os.WriteFile(log, output, 0o600); err != nil {
		return err.Error()
	}
	switch {
	case r.bug == "" && (err != nil || !strings.Contains(string(output), "--- PASS: "+r.test)):
		return fmt.Sprintf("it does not pass without a bug: see %s", log)
	case r.bug == "":
		fmt.Fprintln(out, "passed")
	case !failed:
		return fmt.Sprintf("it does not find the bug: see %s", log)
	case took > within:
		return fmt.Sprintf("it takes longer than %s", within)
	case !r.says.Match(output):
		return fmt.Sprintf("it fails, but does not say %s: see %s", r.says, log)
	default:
		fmt.Fprintf(out, "found: %s\n", strings.TrimSpace(string(r.says.Find(output))))
	}
	os.RemoveAll(kept)
	return ""
}
