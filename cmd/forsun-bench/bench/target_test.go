package bench_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/actions"
	"github.com/snower/forsun/cmd/forsun-bench/bench"
	"github.com/snower/forsun/rpc"
	"github.com/snower/forsun/rpc/access"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/memstore"
)

// forsund is one in this process: engine, store in memory, actions, Thrift server.
func forsund(t *testing.T, noop bool, change func(*rpc.Options)) (address string, service *scheduler.Service) {
	t.Helper()
	so := memstore.DefaultOptions()
	so.Dir = memstore.Memory
	store, err := memstore.Open(so)
	if err != nil {
		t.Fatal(err)
	}
	ao := actions.DefaultOptions("test")
	ao.Noop = noop
	registry, err := actions.New(ao)
	if err != nil {
		t.Fatal(err)
	}
	counters := new(scheduler.Counters)
	service = scheduler.NewService(store, registry, scheduler.SystemClock{}, counters, scheduler.DefaultServiceOptions())
	eo := scheduler.DefaultEngineOptions()
	eo.Replica = "test"
	engine, err := scheduler.NewEngine(store, registry, scheduler.SystemClock{}, counters, zerolog.Nop(), eo)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ro := rpc.DefaultOptions()
	ro.Info = rpc.NewInfo(service, rpc.About{Version: "1", Store: "mem", Stores: []string{"mem"}})
	change(&ro)
	server := rpc.NewServer(service, ro)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { engine.Run(ctx) })
	running.Go(func() { server.Serve(ln) })
	t.Cleanup(func() {
		bounded, done := context.WithTimeout(context.Background(), 5*time.Second)
		defer done()
		server.Shutdown(bounded)
		cancel()
		running.Wait()
		registry.Close()
		store.Close()
	})
	return ln.Addr().String(), service
}

// A running forsund is measured by Thrift, and left as it was.
func TestTarget(t *testing.T) {
	address, service := forsund(t, true, func(*rpc.Options) {})
	for _, row := range []struct {
		args         string
		fired, plans int64
	}{
		{"burst --plans 500", 500, 0},
		{"burst --plans 100 --action http", 100, 0},
		{"create --plans 200 --clients 4", 0, 200},
		{"create --plans 200 --clients 2 --bulk 50", 0, 200},
	} {
		t.Run(row.args, func(t *testing.T) {
			res := measure(t, row.args+" --target "+address)
			if res.Fired != row.fired || res.Plans != row.plans || res.Early != 0 || res.Duplicates != 0 || res.PerSecond <= 0 || res.RSS == 0 {
				t.Errorf("got %+v, want %d fired, %d stored, none early or twice", res, row.fired, row.plans)
			}
			left, _, err := service.List(t.Context(), scheduler.ListQuery{Limit: 10})
			if err != nil || len(left) > 0 {
				t.Errorf("%d plans are left, and %v", len(left), err)
			}
		})
	}
}

func TestTargetRefuses(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	dir := t.TempDir()
	token, tokens := filepath.Join(dir, "token"), filepath.Join(dir, "tokens")
	for name, text := range map[string]string{token: secret + "\n", tokens: "billing read " + secret + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bare, _ := forsund(t, false, func(*rpc.Options) {})
	guarded, _ := forsund(t, true, func(o *rpc.Options) {
		var err error
		if o.Tokens, err = access.LoadTokens(tokens, nil); err != nil {
			t.Fatal(err)
		}
	})
	for _, row := range []struct{ args, want string }{
		{"burst --target " + bare, "has no action noop"},
		{"burst --plans 200000 --target " + guarded, "plans: 200000 is not allowed; allowed: up to 100000"},
		{"burst --token-file /nowhere --target " + guarded, "token-file: open /nowhere"},
		// The token is shown: its right is less than that of this host without one.
		{"create --plans 10 --token-file " + token + " --target " + guarded, "has the right read"},
		{"create --plans 10 --bulk 10 --token-file " + token + " --target " + guarded, "has the right read"},
	} {
		var out, errs bytes.Buffer
		err := bench.Run(t.Context(), strings.Fields("forsun-bench "+row.args), &out, &errs)
		if err == nil || !strings.Contains(err.Error(), row.want) || out.Len() > 0 {
			t.Errorf("%s: got %v, stdout %q; want %q", row.args, err, &out, row.want)
		}
	}
}
