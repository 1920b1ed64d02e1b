package cli

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/snower/forsun/actions"
	"github.com/snower/forsun/rpc"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/memstore"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if builtDir != "" {
			os.RemoveAll(builtDir)
		}
		os.Exit(code)
	}))
}

// goldenNow is the second in which the plans of COMPAT were set.
var goldenNow = time.Date(2026, 11, 22, 11, 10, 39, 0, time.UTC)

// fixedClock stands still.
type fixedClock struct{ at time.Time }

func (c fixedClock) Now() time.Time { return c.at }

// server is a forsund in this process: the real service on a store in memory,
// with the real actions, behind the real Thrift server.
type server struct {
	host, port string
	service    *scheduler.Service
}

// startServer starts one whose clock stands still and which fires nothing.
func startServer(t *testing.T) *server { return start(t, fixedClock{goldenNow}, false) }

// startFiring starts one that fires.
func startFiring(t *testing.T) *server { return start(t, scheduler.SystemClock{}, true) }

func start(t *testing.T, clock scheduler.Clock, firing bool, change ...func(*rpc.Options)) *server {
	t.Helper()
	opts := memstore.DefaultOptions()
	opts.Dir = memstore.Memory
	store, err := memstore.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, store, clock, firing, change...)
}

// startOn starts one on a store, which it closes.
func startOn(t *testing.T, store scheduler.Store, clock scheduler.Clock, firing bool, change ...func(*rpc.Options)) *server {
	t.Helper()
	registry, err := actions.New(actions.DefaultOptions("test"))
	if err != nil {
		t.Fatal(err)
	}
	counters := new(scheduler.Counters)
	service := scheduler.NewService(store, registry, clock, counters, scheduler.DefaultServiceOptions())
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	if firing {
		eopts := scheduler.DefaultEngineOptions()
		eopts.Replica = "test"
		engine, err := scheduler.NewEngine(store, registry, clock, counters, zerolog.Nop(), eopts)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { engine.Run(ctx) })
	}
	ropts := rpc.DefaultOptions()
	ropts.Info = rpc.NewInfo(service, rpc.About{Version: "9.9.9", Store: "mem", Stores: []string{"mem"}})
	for _, c := range change {
		c(&ropts)
	}
	thrift := rpc.NewServer(service, ropts)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		if err := thrift.Serve(ln); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() {
		bounded, done := context.WithTimeout(context.Background(), 5*time.Second)
		defer done()
		if err := thrift.Shutdown(bounded); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		cancel()
		wg.Wait()
		registry.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	host, port, _ := net.SplitHostPort(ln.Addr().String())
	return &server{host, port, service}
}

// result is how a run of the program ended.
type result struct {
	code     int
	out, err string
}

// run runs the program against the server.
func (s *server) run(args ...string) result { return s.pipe("", args...) }

// pipe runs the program with something on standard input.
func (s *server) pipe(stdin string, args ...string) result {
	return runWith(map[string]string{"FORSUN_HOST": s.host, "FORSUN_PORT": s.port}, stdin, args...)
}

func runWith(env map[string]string, stdin string, args ...string) result {
	var out, errs bytes.Buffer
	code := Run(context.Background(), args, Process{
		Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs, Version: "1.2.3", Zone: time.UTC,
		Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	})
	return result{code, out.String(), errs.String()}
}

// must runs the program and fails the test if it fails.
func (s *server) must(t *testing.T, args ...string) string {
	t.Helper()
	got := s.run(args...)
	if got.code != 0 || got.err != "" {
		t.Fatalf("forsun %q: exit %d, %s", args, got.code, got.err)
	}
	return got.out
}

// check compares a result: standard output exactly, standard error by parts.
func (got result) check(t *testing.T, what string, code int, out string, errs ...string) {
	t.Helper()
	if got.code != code {
		t.Errorf("%s: exit status %d, want %d (%s)", what, got.code, code, got.err)
	}
	if got.out != out {
		t.Errorf("%s: printed\n%s\nwant\n%s", what, got.out, out)
	}
	if len(errs) == 0 && got.err != "" {
		t.Errorf("%s: on standard error: %s\nwant nothing", what, got.err)
	}
	for _, part := range errs {
		if !strings.Contains(got.err, part) {
			t.Errorf("%s: on standard error:\n%s\nwant in it: %s", what, got.err, part)
		}
	}
}

var (
	builtDir string // removed by TestMain
	build    = sync.OnceValues(func() (string, error) {
		dir, err := os.MkdirTemp("", "forsun-cli-*")
		if err != nil {
			return "", err
		}
		builtDir = dir
		out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "forsun"), "github.com/snower/forsun/cmd/forsun").CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%w: %s", err, out)
		}
		return dir, nil
	})
)

// program builds the program and returns the directory it is in.
func program(t *testing.T) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// shell runs a line of sh or bash in which "forsun" is the program, and the
// server its server.
func (s *server) shell(t *testing.T, shell, text string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, shell, "-c", text)
	cmd.Env = []string{
		"PATH=" + program(t) + string(os.PathListSeparator) + os.Getenv("PATH"),
		"FORSUN_HOST=" + s.host, "FORSUN_PORT=" + s.port, "TZ=UTC", "HOME=" + t.TempDir(),
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// eventually polls until ok or 10 s have passed.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}
