package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/snower/forsun/cmd/forsun-bench/bench"
	"github.com/snower/forsun/redisstore/redistest"
)

func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "--role") { // a process that a benchmark started
		if err := bench.Run(context.Background(), os.Args, os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// Every benchmark, small: it must count right, whatever the speed. One after the
// other, since the flag library keeps state of its own.
func TestBenchmarks(t *testing.T) {
	server := redistest.Start(t)
	redis := " --driver redis --driver-redis-port " + strconv.Itoa(server.Port)
	for _, row := range []struct {
		args  string
		fired int64
		plans int64
	}{
		{"burst --plans 2000 --pending 100 --settle 10ms --driver-mem-store-file :memory:", 2000, 0},
		{"steady --rate 20 --seconds 2", 40, 0},
		{"create --plans 300 --clients 4", 0, 300},
		{"create --plans 300 --clients 4 --thrift", 0, 300},
		{"create --plans 300 --clients 2 --bulk 50 --thrift", 0, 300},
		{"pending --plans 3000", 0, 3000},
		{"burst --plans 2000 --replicas 3 --driver-redis-server-id 0-3" + redis, 2000, 0},
		{"create --plans 300 --clients 4 --thrift" + redis, 0, 300},
		{"pending --plans 3000" + redis, 0, 3000},
	} {
		t.Run(row.args, func(t *testing.T) {
			var out, errs bytes.Buffer
			args := append([]string{"forsun-bench"}, append(strings.Fields(row.args), "-o", "json")...)
			if err := bench.Run(t.Context(), args, &out, &errs); err != nil {
				t.Fatal(err, errs.String())
			}
			var res bench.Result
			if err := json.Unmarshal(out.Bytes(), &res); err != nil {
				t.Fatalf("%v in %s", err, out.String())
			}
			if res.Fired != row.fired || res.Plans != row.plans || res.Early != 0 || res.Duplicates != 0 || res.PerSecond <= 0 {
				t.Errorf("got %+v, want %d fired, %d stored, none early or twice", res, row.fired, row.plans)
			}
			if strings.HasPrefix(row.args, "pending") && (res.Restart == nil || res.BytesPerPlan < 50 || res.RSS == 0) {
				t.Errorf("got %+v, want a restart, and sizes", res)
			}
		})
	}
	if got := redistest.Do(t, server.Addr, "DBSIZE"); got != int64(0) {
		t.Errorf("%v keys were left in Redis", got)
	}
}

func TestBenchmarksRefuse(t *testing.T) {
	for _, row := range []struct{ args, want string }{
		{"nonsense", `no benchmark "nonsense"`},
		{"burst --plans 0", "plans: 0 is not allowed; allowed: 1 to"},
		{"burst extra", `unexpected argument "extra"`},
		{"burst --driver etcd", "driver: etcd is not allowed; allowed: mem, redis"},
		{"burst --replicas 2", "replicas: 2 is not allowed; allowed: 1 with driver mem"},
		{"burst --driver redis --driver-redis-port x", "driver-redis-port: \"x\" is not allowed"},
		{"burst --driver redis --driver-redis-port 1", "127.0.0.1:1: connect: connection refused"},
		{"burst --plans x", `invalid value "x" for flag -plans`},
		{"burst --plan 5", "flag provided but not defined: -plan"},
		{"steady -o yaml", "output: yaml is not allowed; allowed: text, json"},
		{"burst --driver-mem-store-file .", "exists; give a directory that does not"},
	} {
		var out, errs bytes.Buffer
		err := bench.Run(t.Context(), append([]string{"forsun-bench"}, strings.Fields(row.args)...), &out, &errs)
		if err == nil || !strings.Contains(err.Error(), row.want) || out.Len() > 0 {
			t.Errorf("%s: got %v, stdout %q; want %q", row.args, err, &out, row.want)
		}
	}
}
