// Command run repeats the scenarios of scripts/chaos, and makes the table of what
// came of it: "make chaos". Without arguments it is the whole, and the table goes into
// a file of the repository.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/snower/forsun/scripts/chaos/report"
)

// options are the flags.
type options struct {
	scenarios string
	seed      uint64
	repeat    int
	jobs      int
	form      string
	results   string
	add       bool
}

const (
	chaosDir = "scripts/chaos"
	page     = chaosDir + "/RESULTS.md"
	// runTimeout bounds one run: the longest forms take ten minutes.
	runTimeout = 30 * time.Minute
)

func main() {
	var o options
	flag.StringVar(&o.scenarios, "scenario", "", "run only `these`: C3, or the name of a test; several with commas")
	flag.Uint64Var(&o.seed, "seed", 0, "the first run's `seed`, which replays its choices; each further run has the next one (default: any)")
	flag.IntVar(&o.repeat, "repeat", 0, "run each test so `often` (default: without -scenario as the whole asks for, else once)")
	flag.IntVar(&o.jobs, "jobs", runtime.NumCPU()*3/2, "run so many at a `time` of those that leave the machine idle mostly")
	flag.StringVar(&o.form, "form", "full", "`short`, full, or long, which takes minutes each")
	flag.StringVar(&o.results, "results", "", "write the table to this `file` (default: "+page+" if it is the whole, else none)")
	flag.BoolVar(&o.add, "add", false, "add to the runs that the file has")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ok, err := run(ctx, &o, flag.Args(), os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// run runs what the options ask for; ok: every run passed.
func run(ctx context.Context, o *options, args []string, out io.Writer) (ok bool, err error) {
	if len(args) > 0 {
		return false, fmt.Errorf("unexpected argument %q", args[0])
	}
	if o.form != "short" && o.form != "full" && o.form != "long" {
		return false, fmt.Errorf("form: %s is not allowed; allowed: short, full, long", o.form)
	}
	if o.jobs < 1 {
		return false, fmt.Errorf("jobs: %d is not allowed; allowed: 1 and more", o.jobs)
	}
	if o.seed == 0 {
		o.seed = uint64(rand.Uint32()) // few digits, for the table
	}
	whole := o.scenarios == "" && o.repeat == 0 && o.form == "full"
	if o.results == "" && (whole || o.add) {
		o.results = page
	}
	var before []report.Outcome
	if o.add {
		if before, err = report.Read(o.results); err != nil {
			return false, err
		}
	}
	dir, err := os.MkdirTemp("", "forsun-chaos-")
	if err != nil {
		return false, err
	}
	defer os.Remove(dir) // stays if there is a failed run in it
	b, err := build(ctx, dir)
	defer b.remove()
	if err != nil {
		return false, err
	}
	tests, err := b.tests(ctx)
	if err != nil {
		return false, err
	}
	runs, err := plan(tests, o)
	if err != nil {
		return false, err
	}
	began := time.Now()
	outcomes, err := b.all(ctx, runs, o.jobs, out)
	ok = len(outcomes) > 0
	for i := range outcomes {
		ok = ok && outcomes[i].Passed
	}
	fmt.Fprintf(out, "\n%d runs in %s, commit %s\n\n", len(runs), time.Since(began).Round(time.Second), b.commit)
	if tabled := report.Table(out, outcomes); err == nil {
		err = tabled
	}
	if err != nil || o.results == "" {
		return ok, err
	}
	return ok, write(o.results, append(before, outcomes...))
}

// write writes the page.
func write(path string, all []report.Outcome) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	err = report.Write(file, all, fmt.Sprintf("%d processors, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version()))
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}

// binary is the tests' program, built once.
type binary struct {
	dir    string // a directory for each run, and bin
	bin    string // what is built; the tests build what is not there
	test   string
	commit string
}

func build(ctx context.Context, dir string) (*binary, error) {
	b := &binary{dir: dir, bin: filepath.Join(dir, "bin")}
	b.test = filepath.Join(b.bin, "chaos.test")
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*").CombinedOutput()
	if err != nil {
		return b, fmt.Errorf("which commit this is: %w\n%s", err, out)
	}
	b.commit = strings.TrimSpace(string(out))
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", b.test, "./"+chaosDir).CombinedOutput(); err != nil {
		return b, fmt.Errorf("build %s: %w\n%s", chaosDir, err, out)
	}
	return b, nil
}

// remove removes what was built.
func (b *binary) remove() { os.RemoveAll(b.bin) }

// command is a call of the tests' program.
func (b *binary) command(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.test, args...)
	cmd.Dir = chaosDir
	cmd.Env = append(os.Environ(), append(env, "CHAOS_BIN="+b.bin)...)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// tests are the names of those that belong to a scenario.
func (b *binary) tests(ctx context.Context) ([]string, error) {
	out, err := b.command(ctx, nil, "-test.list", testName.String()).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("list tests: %w\n%s", err, out)
	}
	return strings.Fields(string(out)), nil
}

// all runs everything, and tells of each as it ends, and of all on a terminal.
func (b *binary) all(ctx context.Context, runs []trial, jobs int, out io.Writer) (all []report.Outcome, err error) {
	bar := progressbar.DefaultSilent(int64(len(runs)))
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		bar = progressbar.NewOptions(len(runs), progressbar.OptionSetWriter(out), progressbar.OptionShowCount(),
			progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish(), progressbar.OptionSetSpinnerChangeInterval(0))
	}
	defer bar.Exit()
	var mu sync.Mutex
	ended := 0
	run := func(i int) {
		bar.Describe(runs[i].String())
		outcomes, trouble := b.one(ctx, i, runs[i])
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		ended++
		bar.Clear()
		for _, o := range outcomes {
			fmt.Fprintf(out, "%*d/%d %-28s seed %d: %5.1f s, %d firings, latest %.0f ms", len(fmt.Sprint(len(runs))), ended, len(runs),
				strings.TrimPrefix(o.Test, "Test"), o.Seed, o.Seconds, o.Firings, o.LatestMS)
			if !o.Passed {
				fmt.Fprintf(out, ", FAILED: %s", trouble)
			}
			fmt.Fprintln(out)
		}
		all = append(all, outcomes...)
		bar.Add(1)
	}
	var together sync.WaitGroup
	free := make(chan struct{}, jobs)
	for i := range runs {
		if !runs[i].alone {
			free <- struct{}{}
			together.Go(func() {
				if ctx.Err() == nil {
					run(i)
				}
				<-free
			})
		}
	}
	together.Wait()
	for i := range runs {
		if runs[i].alone && ctx.Err() == nil {
			run(i)
		}
	}
	if ctx.Err() != nil {
		return all, fmt.Errorf("interrupted after %d of %d runs: %w", ended, len(runs), context.Cause(ctx))
	}
	return all, nil
}

// one runs one test; trouble says where to look if it failed.
func (b *binary) one(ctx context.Context, i int, r trial) (outcomes []report.Outcome, trouble string) {
	dir := filepath.Join(b.dir, fmt.Sprint("run-", i+1))
	results, log := filepath.Join(dir, "results"), filepath.Join(dir, "output")
	began := time.Now()
	failed := func(why error) ([]report.Outcome, string) {
		return []report.Outcome{{
			Scenario: r.scenario, Test: r.test, Form: r.form, Seed: r.seed, Began: began.UTC(),
			Seconds: time.Since(began).Seconds(), Commit: b.commit,
		}}, why.Error()
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return failed(err)
	}
	cmd := b.command(ctx, []string{"CHAOS=" + r.form, fmt.Sprint("CHAOS_SEED=", r.seed), "CHAOS_RESULTS=" + results, "TMPDIR=" + dir},
		"-test.run", "^"+r.test+"$", "-test.v", "-test.parallel", "1", "-test.timeout", runTimeout.String())
	output, err := cmd.CombinedOutput()
	outcomes, read := report.Read(results)
	passed := err == nil && read == nil && len(outcomes) > 0
	for i := range outcomes {
		outcomes[i].Commit = b.commit
		passed = passed && outcomes[i].Passed
	}
	if passed || ctx.Err() != nil {
		os.RemoveAll(dir)
		return outcomes, ""
	}
	if err := os.WriteFile(log, output, 0o600); err != nil {
		return failed(err)
	}
	if len(outcomes) == 0 { // it crashed, or was skipped
		return failed(fmt.Errorf("it told of no outcome (%v): see %s", err, log))
	}
	if err != nil && !anyFailed(outcomes) { // after the scenario's end
		outcomes[len(outcomes)-1].Passed = false
	}
	return outcomes, fmt.Sprintf("see %s", log)
}

func anyFailed(outcomes []report.Outcome) bool {
	for _, o := range outcomes {
		if !o.Passed {
			return true
		}
	}
	return false
}
