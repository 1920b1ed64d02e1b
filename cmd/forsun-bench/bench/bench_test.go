package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
		{"create --plans 300 --clients 2 --in-flight 16 --thrift", 0, 300},
		{"create --plans 1230 --clients 2 --bulk 100 --http", 0, 1230},
		{"pending --plans 3000", 0, 3000},
		{"burst --plans 2000 --replicas 3 --driver-redis-server-id 0-3" + redis, 2000, 0},
		{"create --plans 300 --clients 4 --thrift" + redis, 0, 300},
		{"create --plans 1230 --clients 2 --bulk 100 --http" + redis, 0, 1230},
		{"pending --plans 3000" + redis, 0, 3000},
		{"recover --plans 3000 --running 40", 41, 3000},
		// Firings of a scheduler on Redis that died run again some 9 s later; what is due fires sooner.
		{"recover --plans 3000 --running 0" + redis, 1, 3000},
	} {
		t.Run(row.args, func(t *testing.T) {
			res := measure(t, row.args)
			if res.Fired != row.fired || res.Plans != row.plans || res.Early != 0 || res.Duplicates != 0 || res.PerSecond <= 0 {
				t.Errorf("got %+v, want %d fired, %d stored, none early or twice", res, row.fired, row.plans)
			}
			burst := strings.HasPrefix(row.args, "burst")
			if burst && (res.CPU <= 0 || res.Allocs <= 0 || res.Late == nil || res.Late.Max < res.Late.P50) {
				t.Errorf("got %+v, want what a firing costs", res)
			}
			if burst && strings.Contains(row.args, redis) && (res.RedisCPU <= 0 || res.BytesPerPlan < 50 || res.Others == nil || res.Others.Max <= 0) {
				t.Errorf("got %+v, want what Redis and its clients show", res)
			}
			if strings.HasPrefix(row.args, "recover") && (res.Restart == nil || *res.Restart > res.Seconds) {
				t.Errorf("got %+v, want a restart before the last firing", res)
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

// measure runs a benchmark and returns its figures.
func measure(t testing.TB, args string) (res bench.Result) {
	t.Helper()
	var out, errs bytes.Buffer
	if err := bench.Run(context.Background(), slices.Concat([]string{"forsun-bench"}, strings.Fields(args), []string{"-o", "json"}), &out, &errs); err != nil {
		t.Fatal(err, errs.String())
	}
	var names map[string]any
	if err := errors.Join(json.Unmarshal(out.Bytes(), &res), json.Unmarshal(out.Bytes(), &names)); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	// The names that do not change are there whatever was measured.
	for name := range strings.FieldsSeq("fired seconds per_second late_ms early duplicates bytes_per_plan rss_bytes redis_cpu_us_per_firing forsund_cpu_us_per_firing") {
		if _, there := names[name]; !there {
			t.Errorf("there is no %s in %s", name, out.String())
		}
	}
	if late, _ := names["late_ms"].(map[string]any); res.Fired > 0 && (late["p50"] == nil || late["p99"] == nil || late["p999"] == nil || late["max"] == nil) {
		t.Errorf("late_ms lacks a name in %s", out.String())
	}
	return res
}

func TestBenchmarksRefuse(t *testing.T) {
	for _, row := range []struct{ args, want string }{
		{"nonsense", `no benchmark "nonsense"`},
		{"burst --plans 0", "plans: 0 is not allowed; allowed: 1 to"},
		{"burst extra", `unexpected argument "extra"`},
		{"create --http --thrift", "http: not together with --thrift"},
		{"create --http --target 127.0.0.1:1", "http: not together with --target"},
		{"burst --driver etcd", "driver: etcd is not allowed; allowed: mem, redis"},
		{"burst --replicas 2", "replicas: 2 is not allowed; allowed: 1 with driver mem"},
		{"burst --driver redis --driver-redis-port x", "driver-redis-port: \"x\" is not allowed"},
		{"burst --driver redis --driver-redis-port 1", "127.0.0.1:1: connect: connection refused"},
		{"burst --plans x", `invalid value "x" for flag -plans`},
		{"burst --plan 5", "flag provided but not defined: -plan"},
		{"recover --target x:1", "flag provided but not defined: -target"},
		{"recover --driver-mem-store-file :memory:", "driver-mem-store-file: :memory: is not allowed"},
		{"burst --action http", "action: needs --target"},
		{"burst --target nonsense", `target: "nonsense" is not allowed; allowed: HOST:PORT`},
		{"burst --target 127.0.0.1:1 --action shell", "action: shell is not allowed; allowed: noop, http"},
		{"burst --target 127.0.0.1:1 --replicas 3", "replicas: not together with --target"},
		{"burst --target 127.0.0.1:1", "cannot reach a server at 127.0.0.1:1"},
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
