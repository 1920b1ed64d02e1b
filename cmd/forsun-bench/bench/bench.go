// Package bench is forsun-bench without its process. Each benchmark runs a
// scheduler of its own in this process, on a store it makes and removes, with an
// action that does nothing but look at the clock.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/snower/forsun/cmd/redisflags"
)

// options are the flags.
type options struct {
	driver   string
	dir      string
	sync     string
	redis    redisflags.Redis
	replicas int
	opened   bool // there is something in Redis
	plans    int
	pending  int
	settle   time.Duration
	rate     int
	seconds  int
	clients  int
	bulk     int
	params   int
	thrift   bool
	profile  string
	json     bool
	stdout   io.Writer
	stderr   io.Writer
}

// Run runs the benchmark that args name and prints what it measured.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := &options{stdout: stdout, stderr: stderr}
	plans := func(n int) cli.Flag {
		return &cli.IntFlag{Name: "plans", Value: n, Usage: "how many plans", Destination: &o.plans}
	}
	pending := &cli.IntFlag{Name: "pending", Usage: "far-future plans stored beside", Destination: &o.pending}
	settle := &cli.DurationFlag{Name: "settle", Value: time.Minute, Usage: "with --pending: how long the store may tidy up after they are stored", Destination: &o.settle}
	command := func(name, usage string, run func(context.Context, *options) (*Result, error), flags ...cli.Flag) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, OnUsageError: oneLine, Flags: slices.Concat(flags, redisFlags(), []cli.Flag{
			&cli.IntFlag{Name: "replicas", Value: 1, Usage: "schedulers that share the store, with driver redis", Destination: &o.replicas},
			&cli.StringFlag{Name: "driver", Value: driverMem, Usage: "store driver: mem or redis", Destination: &o.driver},
			&cli.StringFlag{Name: "driver-mem-store-file", Usage: "directory for the store, a fresh one by default; :memory: for none", Destination: &o.dir},
			&cli.StringFlag{Name: "driver-mem-sync", Value: "always", Usage: "always, 1s or never", Destination: &o.sync},
			&cli.IntFlag{Name: "params", Value: 100, Usage: "bytes of parameters of a plan", Destination: &o.params},
			&cli.StringFlag{Name: "cpu-profile", Usage: "file to write a profile of the whole run to, for go tool pprof", Destination: &o.profile},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "text", Usage: "text or json"},
		}), Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fmt.Errorf("unexpected argument %q", c.Args().First())
			}
			if o.driver != driverMem && o.driver != driverRedis {
				return fmt.Errorf("driver: %s is not allowed; allowed: %s, %s", o.driver, driverMem, driverRedis)
			}
			if o.driver == driverMem && o.replicas != 1 {
				return fmt.Errorf("replicas: %d is not allowed; allowed: 1 with driver mem", o.replicas)
			}
			if err := o.setRedis(c); err != nil {
				return err
			}
			switch c.String("output") {
			case "json":
				o.json = true
			case "text":
			default:
				return fmt.Errorf("output: %s is not allowed; allowed: text, json", c.String("output"))
			}
			if err := o.validate(c); err != nil {
				return err
			}
			return o.measure(ctx, run)
		}}
	}
	app := &cli.App{
		Name: "forsun-bench", Usage: "measure a forsun scheduler", HideHelpCommand: true, OnUsageError: oneLine,
		Writer: stdout, ErrWriter: stderr, ExitErrHandler: func(*cli.Context, error) {},
		Commands: []*cli.Command{
			command("create", "create plans, each acknowledged before the next of its client", runCreate, plans(100_000),
				&cli.IntFlag{Name: "clients", Value: 64, Usage: "clients at a time", Destination: &o.clients},
				&cli.BoolFlag{Name: "thrift", Usage: "clients speak Thrift to a server in this process; else they call the service", Destination: &o.thrift},
				&cli.IntFlag{Name: "bulk", Value: 1, Usage: "plans a request", Destination: &o.bulk}),
			command("burst", "plans that are all due in one second", runBurst, plans(100_000), pending, settle),
			command("steady", "plans due in each of many seconds", runSteady, pending, settle,
				&cli.IntFlag{Name: "rate", Value: 200, Usage: "plans due in each second", Destination: &o.rate},
				&cli.IntFlag{Name: "seconds", Value: 60, Usage: "for how long", Destination: &o.seconds}),
			command("pending", "store far-future plans, then open the store again", runPending, plans(1_000_000)),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fmt.Errorf("no benchmark %q; there are: create, burst, steady, pending", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
	return app.RunContext(ctx, args)
}

// oneLine keeps the whole help out of the way of what is wrong.
func oneLine(_ *cli.Context, err error, _ bool) error { return err }

func (o *options) validate(c *cli.Context) error {
	for name, rng := range map[string][2]int{"plans": {1, 100_000_000}, "rate": {1, 1_000_000}, "seconds": {1, 86400},
		"clients": {1, 1000}, "replicas": {1, 16}, "bulk": {1, 1000}, "params": {0, 100_000}, "pending": {0, 100_000_000}} {
		if n := c.Int(name); has(c, name) && (n < rng[0] || n > rng[1]) {
			return fmt.Errorf("%s: %d is not allowed; allowed: %d to %d", name, n, rng[0], rng[1])
		}
	}
	return nil
}

func has(c *cli.Context, name string) bool {
	for _, f := range c.Command.Flags {
		if f.Names()[0] == name {
			return true
		}
	}
	return false
}

// measure runs one benchmark on a store in a fresh directory, or under a fresh prefix,
// and prints the result.
func (o *options) measure(ctx context.Context, run func(context.Context, *options) (*Result, error)) (err error) {
	if o.driver == driverRedis {
		defer func() { err = errors.Join(err, o.erase(ctx)) }()
	} else if o.dir == "" {
		base, err := os.MkdirTemp("", "forsun-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(base)
		o.dir = filepath.Join(base, "store")
	} else if o.dir != ":memory:" {
		if _, err := os.Stat(o.dir); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("driver-mem-store-file: %s exists; give a directory that does not", o.dir)
		}
		defer os.RemoveAll(o.dir)
	}
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	cpu, start := cpuTime(), time.Now()
	res, err := run(ctx, o)
	if err != nil {
		return err
	}
	res.RSS = rss()
	if res.Fired > 0 && res.CPU == 0 {
		res.CPU = float64((cpuTime() - cpu).Microseconds()) / float64(res.Fired)
	}
	res.Total = time.Since(start).Seconds()
	return res.print(o.stdout, o.json)
}
