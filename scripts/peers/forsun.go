package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Names of forsun in the tables.
const (
	onRedis  = "forsun (redis)"
	onShards = "forsun (4 shards)"
	embedded = "forsun (embedded)"
)

// newForsun is forsun-bench in one of the ways to run forsun: the scheduler, its store and
// its workers in one process, with history, and for creates a server (Thrift, or in bulk HTTP) and its clients.
func newForsun(name, program string) *contestant {
	c := &contestant{
		name: name, note: "one shard, one replica; history kept",
		works: []string{create, ahead, bulk, burst, million, steady200, steady2000},
		ready: func() error { _, err := exec.LookPath("redis-server"); return err },
	}
	driver, shards := "redis", "0"
	switch name {
	case onShards:
		c.note, shards = "on Redis, too; one replica", "0-3"
		c.works = []string{burst, million}
	case embedded:
		driver, c.note = "mem", "every claim and create synced; history kept"
		c.works = []string{create, ahead, bulk, burst, steady200, steady2000}
		c.ready = func() error { return nil }
	}
	c.once = func(ctx context.Context, t task) (f figures, err error) {
		args := []string{"--params", strconv.Itoa(payloadBytes), "-o", "json", "--driver", driver}
		if driver == "redis" {
			server, err := startRedis(ctx)
			if err != nil {
				return f, err
			}
			defer server.stop()
			args = append(args, "--driver-redis-port", strconv.Itoa(server.port), "--driver-redis-server-id", shards)
		}
		switch t.work {
		case create:
			args = append([]string{"create", "--thrift", "--clients", strconv.Itoa(createClients)}, args...)
		case ahead:
			args = append([]string{"create", "--thrift", "--clients", strconv.Itoa(createClients), "--in-flight", strconv.Itoa(createAhead)}, args...)
		case bulk:
			args = append([]string{"create", "--http", "--clients", "4", "--bulk", "1000"}, args...)
		case burst, million:
			args = append([]string{"burst"}, args...)
		default:
			args = append([]string{"steady", "--rate", strconv.Itoa(t.rate), "--seconds", strconv.Itoa(t.seconds)}, args...)
		}
		if t.rate == 0 {
			args = append(args, "--plans", strconv.Itoa(t.jobs))
		}
		program, err := filepath.Abs(program)
		if err != nil {
			return f, err
		}
		var errs strings.Builder
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Stderr = &errs
		// Interrupted, it removes what it stored.
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = 10 * time.Second
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT}
		out, err := cmd.Output()
		if said := lastLine(errs.String()); strings.Contains(said, errLate.Error()) {
			return f, fmt.Errorf("forsun-bench %s: %w", strings.Join(args, " "), errLate)
		} else if err != nil {
			return f, fmt.Errorf("forsun-bench %s: %w: %s", strings.Join(args, " "), err, said)
		}
		result := struct {
			figures
			Others *late `json:"other_clients_ms"`
		}{}
		if err := json.Unmarshal(out, &result); err != nil {
			return f, err
		}
		if result.Others != nil {
			result.OtherP99 = result.Others.P99
		}
		return result.figures, nil
	}
	return c
}
