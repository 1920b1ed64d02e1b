package app

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
)

// onRedis are the flags for a store on a server.
func onRedis(server *redistest.Server, more ...string) []string {
	return append([]string{"--driver=redis", "--driver-redis-port=" + strconv.Itoa(server.Port), "--driver-redis-db=1"}, more...)
}

// TestRedisFleet: a replica that only leads and one that only works are a
// scheduler together, and either takes plans.
func TestRedisFleet(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "appendonly yes")
	dir := t.TempDir()
	fires := func(p *forsund, name string) {
		t.Helper()
		file := filepath.Join(dir, name)
		p.create(once(name, "touch "+file))
		poll(t, "plan "+name+" to fire", func() bool { return exists(file) })
	}
	leader := start(t, "", onRedis(server, "--work=none", "--driver-redis-server-id=0-1")...)
	worker := start(t, "", onRedis(server, "--lead=false", "--driver-redis-server-id=0-1")...)
	fires(leader, "a")
	fires(worker, "b")
	if got := redistest.Do(t, server.Addr, "DBSIZE"); got != int64(0) {
		t.Errorf("database 0 has %v keys, want all in 1", got)
	}
	info, err := worker.client().Info(t.Context())
	if err != nil || info["current_store"] != "redis" || info["stores"] != "mem;redis" {
		t.Errorf("info: %v, %v, want the store redis", info, err)
	}

	// What nobody leads waits, what nobody works on, too.
	if status := leader.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
	late := filepath.Join(dir, "c")
	worker.create(once("c", "touch "+late))
	time.Sleep(2500 * time.Millisecond)
	if exists(late) {
		t.Error("a plan fired that nobody leads")
	}
	start(t, "", onRedis(server, "--work=none", "--driver-redis-server-id=0-1")...)
	poll(t, "what waited to fire", func() bool { return exists(late) })

	// A replica with other shards is told what is right.
	status, _, stderr := result(t, command(append(onRedis(server), "--port=0")...))
	if status != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "--driver-redis-server-id=0,1") || !strings.Contains(stderr, "--driver-redis-prefix") {
		t.Errorf("another set of shards: status %d, %q", status, stderr)
	}
}

// TestRedisIsDown: forsund waits for Redis, and can be stopped meanwhile.
func TestRedisIsDown(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "requirepass s3cret")
	server.Stop()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	waiting := func() *forsund {
		p := &forsund{t: t, log: filepath.Join(t.TempDir(), "log"), exited: make(chan struct{})}
		p.cmd = command(onRedis(server, "--port=0", "--log="+p.log, "--driver-redis-password-file="+password)...)
		p.cmd.Stderr = &p.stderr
		if err := p.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { p.cmd.Wait(); close(p.exited) }()
		t.Cleanup(p.kill)
		p.waitLog("Redis does not answer; waiting for it")
		return p
	}
	if status := waiting().stop(syscall.SIGTERM); status != 0 {
		t.Errorf("stopped while it waited: status %d, want 0", status)
	}
	p := waiting()
	server.Restart()
	p.waitLog("Redis answers")
	ready := p.waitLog("forsund is ready")
	p.address, _ = ready["thrift"].(string)
	file := filepath.Join(t.TempDir(), "fired")
	p.create(once("a", "touch "+file))
	poll(t, "the plan to fire", func() bool { return exists(file) })
	log, err := os.ReadFile(p.log)
	if err != nil || strings.Contains(string(log), "s3cret") {
		t.Errorf("the log shows the password: %v", err)
	}
}

// TestRedisIsForgotten: who gives the options of Redis and not the driver is told.
func TestRedisIsForgotten(t *testing.T) {
	t.Parallel()
	p := start(t, filepath.Join(t.TempDir(), "store"), "--driver-redis-host=redis.internal", "--driver-redis-prefix=mine")
	warned := p.waitLog("these options mean nothing without --driver=redis: plans are kept in the embedded store")
	if got := fmt.Sprint(warned["options"]); got != "[--driver-redis-host --driver-redis-prefix]" {
		t.Errorf("it warns of %s", got)
	}
}
