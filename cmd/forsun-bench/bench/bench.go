// Package bench is forsun-bench without its process. Each benchmark runs a
// scheduler of its own in this process, on a store it makes and removes, with an
// action that does nothing but look at the clock; or it asks a running forsund.
package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
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
	inFlight int
	params   int
	thrift   bool
	http     bool
	running  int
	target   string
	token    string
	action   string
	sink     string
	profile  string
	json     bool

	role        string   // of a process that a benchmark started; "": none
	redisPrefix string   // of keys in Redis
	prefix      string   // of plans' keys
	url         string   // that plans call
	args        []string // of the command line
	stdin       io.Reader
	stdout      io.Writer
	stderr      io.Writer
}

// Run runs the benchmark that args name and prints what it measured.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := &options{args: args, prefix: "bench-", stdin: os.Stdin, stdout: stdout, stderr: stderr}
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
			&cli.StringFlag{Name: "role", Hidden: true, Destination: &o.role},
			&cli.StringFlag{Name: "redis-prefix", Hidden: true, Destination: &o.redisPrefix},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "text", Usage: "text or json"},
		}), Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fmt.Errorf("unexpected argument %q", c.Args().First())
			}
			if err := o.setTarget(c); err != nil {
				return err
			}
			if o.driver != driverMem && o.driver != driverRedis {
				return fmt.Errorf("driver: %s is not allowed; allowed: %s, %s", o.driver, driverMem, driverRedis)
			}
			if o.driver == driverMem && o.replicas != 1 {
				return fmt.Errorf("replicas: %d is not allowed; allowed: 1 with driver mem", o.replicas)
			}
			if o.http && o.thrift {
				return errors.New("http: not together with --thrift")
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
	target := []cli.Flag{
		&cli.StringFlag{Name: "target", Usage: "HOST:PORT of a running forsund to measure, by Thrift; with --driver redis and its flags, its Redis, too", Destination: &o.target},
		&cli.StringFlag{Name: "token-file", Usage: "with --target: file that holds the token to show"},
		&cli.StringFlag{Name: "action", Value: actionNoop, Usage: "with --target: noop, which does nothing and which it must have been started with (--actions), or http, which calls this process", Destination: &o.action},
		&cli.StringFlag{Name: "sink", Value: "127.0.0.1:0", Usage: "with --action http: HOST:PORT to be called at", Destination: &o.sink},
	}
	app := &cli.App{
		Name: "forsun-bench", Usage: "measure a forsun scheduler", HideHelpCommand: true, OnUsageError: oneLine,
		Writer: stdout, ErrWriter: stderr, ExitErrHandler: func(*cli.Context, error) {},
		Commands: []*cli.Command{
			command("create", "create plans, each acknowledged before the next of its client", runCreate, slices.Concat(target, []cli.Flag{
				plans(100_000),
				&cli.IntFlag{Name: "clients", Value: 64, Usage: "clients at a time", Destination: &o.clients},
				&cli.BoolFlag{Name: "thrift", Usage: "clients speak Thrift to a server in this process; else they call the service", Destination: &o.thrift},
				&cli.BoolFlag{Name: "http", Usage: "clients speak HTTP to a server in this process, with requests that are all but ready; an answer's code and plans are counted", Destination: &o.http},
				&cli.IntFlag{Name: "bulk", Value: 1, Usage: "plans a request", Destination: &o.bulk},
				&cli.IntFlag{Name: "in-flight", Value: 1, Usage: "by Thrift, with --bulk 1: requests that a client sends before it reads the answers", Destination: &o.inFlight},
			})...),
			command("burst", "plans that are all due in one second", runBurst, slices.Concat(target, []cli.Flag{plans(100_000), pending, settle})...),
			command("steady", "plans due in each of many seconds", runSteady, slices.Concat(target, []cli.Flag{
				pending, settle,
				&cli.IntFlag{Name: "rate", Value: 200, Usage: "plans due in each second", Destination: &o.rate},
				&cli.IntFlag{Name: "seconds", Value: 60, Usage: "for how long", Destination: &o.seconds},
			})...),
			command("pending", "store far-future plans, then open the store again", runPending, plans(1_000_000)),
			command("recover", "kill a scheduler, and see how soon what it had fires elsewhere", runRecover, plans(100_000),
				&cli.IntFlag{Name: "running", Value: 100, Usage: "firings that it is running when it is killed", Destination: &o.running}),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fmt.Errorf("no benchmark %q; there are: create, burst, steady, pending, recover", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
	return app.RunContext(ctx, args)
}

// oneLine keeps the whole help out of the way of what is wrong.
func oneLine(_ *cli.Context, err error, _ bool) error { return err }

func (o *options) validate(c *cli.Context) error {
	for name, rng := range map[string][2]int{
		"plans": {1, 100_000_000}, "rate": {1, 1_000_000}, "seconds": {1, 86400},
		"clients": {1, 1000}, "replicas": {1, 16}, "bulk": {1, 1000}, "in-flight": {1, 1000}, "params": {0, 100_000}, "running": {0, 2000}, "pending": {0, 100_000_000},
	} {
		if n := c.Int(name); has(c, name) && (n < rng[0] || n > rng[1]) {
			return fmt.Errorf("%s: %d is not allowed; allowed: %d to %d", name, n, rng[0], rng[1])
		}
	}
	if o.inFlight > 1 && (o.bulk > 1 || !o.thrift && o.target == "") {
		return fmt.Errorf("in-flight: %d is not allowed; allowed: 1 but with --thrift or --target, and --bulk 1", o.inFlight)
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

// setTarget reads the flags about what is measured, and makes the prefixes.
func (o *options) setTarget(c *cli.Context) error {
	if o.redisPrefix == "" {
		o.redisPrefix = "forsun-bench-" + strings.ToLower(rand.Text()[:10])
	}
	if o.target == "" {
		for _, name := range []string{"token-file", "action", "sink"} {
			if c.IsSet(name) {
				return fmt.Errorf("%s: needs --target", name)
			}
		}
		o.action = actionNoop
		return nil
	}
	for _, name := range []string{"thrift", "http", "replicas", "driver-mem-store-file", "driver-mem-sync", "cpu-profile"} {
		if c.IsSet(name) {
			return fmt.Errorf("%s: not together with --target", name)
		}
	}
	if _, _, err := net.SplitHostPort(o.target); err != nil {
		return fmt.Errorf("target: %q is not allowed; allowed: HOST:PORT", o.target)
	}
	if o.action != actionNoop && o.action != actionHTTP {
		return fmt.Errorf("action: %s is not allowed; allowed: %s, %s", o.action, actionNoop, actionHTTP)
	}
	if name := c.String("token-file"); name != "" {
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("token-file: %w", err)
		}
		o.token = strings.TrimSpace(string(b))
	}
	o.prefix = o.redisPrefix + "-" // there are plans of others there
	return nil
}

// measure runs one benchmark on a store in a fresh directory, or under a fresh prefix,
// and prints the result.
func (o *options) measure(ctx context.Context, run func(context.Context, *options) (*Result, error)) (err error) {
	switch o.role {
	case otherClient:
		return o.beOther(ctx)
	case victim:
		return o.beVictim(ctx)
	}
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
	start := time.Now()
	res, err := run(ctx, o)
	if err != nil {
		return err
	}
	if res.RSS == 0 {
		res.RSS = rss()
	}
	res.Total = time.Since(start).Seconds()
	return res.print(o.stdout, o.json)
}
