package app

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
)

// TestActionsNotAllowed: after a restart with --actions a stored plan of another
// action is not run, its firings are dead letters that say why, and a new one is
// refused. A fleet must agree on what it allows.
func TestActionsNotAllowed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rows := []struct {
		driver string
		args   []string
		allow  func(*testing.T) // what is to be done before another --actions
	}{
		{"mem", nil, func(*testing.T) {}},
		{"redis", []string{"--driver=redis", "--driver-redis-port=" + strconv.Itoa(server.Port)}, func(t *testing.T) {
			status, _, stderr := result(t, command("--driver=redis", "--driver-redis-port="+strconv.Itoa(server.Port), "--port=0", "--actions=http"))
			if status != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "its actions are all, these are http") {
				t.Errorf("other actions than the fleet's: status %d, %q", status, stderr)
			}
			redistest.Do(t, server.Addr, "HSET", "forsun:layout", "actions", "http")
		}},
	}
	for _, row := range rows {
		t.Run(row.driver, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			store := filepath.Join(dir, "store")
			p := start(t, store, row.args...)
			r := once("minutely", "touch "+dir+"/ran")
			r.Schedule.Count = 0
			r.Schedule.Second = 2
			p.create(r)
			if status := p.stop(syscall.SIGTERM); status != 0 {
				t.Fatalf("exit status %d", status)
			}
			os.Remove(dir + "/ran") // it may have been due before
			row.allow(t)
			p = start(t, store, append(row.args, "--actions=http")...)
			var letter string
			poll(t, "a dead letter", func() bool {
				page, err := p.client().DeadLetters(t.Context(), "minutely", "", 1)
				if err == nil && len(page.Items) > 0 {
					letter = page.Items[0].Error
				}
				return letter != ""
			})
			if letter != "not allowed: action shell, by this deployment's --actions" {
				t.Errorf("dead letter: %s", letter)
			}
			if exists(dir + "/ran") {
				t.Error("it ran")
			}
			_, err := p.client().Create(t.Context(), scheduler.Request{Key: "new", Schedule: r.Schedule, Action: "shell", Params: r.Params})
			if err == nil || !strings.Contains(err.Error(), "1012") || !strings.Contains(err.Error(), "action: shell is not allowed; allowed: http (the server's --actions)") {
				t.Errorf("create: %v", err)
			}
		})
	}
}

// TestEgress: a target that may not be connected to is a dead letter after one
// attempt, which names address and option; forsund's own Redis, in the same network,
// is none.
func TestEgress(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	p := start(t, "", onRedis(server, "--egress-deny=127.0.0.0/8,::1")...)
	r := scheduler.Request{
		Key: "inside", Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 1, Count: 1}, Action: "redis",
		Params: map[string]string{"host": "localhost", "port": strconv.Itoa(server.Port), "command": "SET reached 1"},
	}
	p.create(r)
	poll(t, "a dead letter", func() bool {
		page, err := p.client().DeadLetters(t.Context(), "inside", "", 1)
		if err != nil || len(page.Items) == 0 {
			return false
		}
		if got := page.Items[0]; got.Attempt != 1 || !strings.Contains(got.Error, "address 127.0.0.1 is not allowed; allowed: addresses outside of 127.0.0.0/8 (the server's --egress-deny)") {
			t.Errorf("attempt %d: %s", got.Attempt, got.Error)
		}
		return true
	})
	if got := redistest.Do(t, server.Addr, "EXISTS", "reached"); got != int64(0) {
		t.Error("it was connected to")
	}
	r.Params["host"] = "127.0.0.1"
	_, err := p.client().Create(t.Context(), r)
	if err == nil || !strings.Contains(err.Error(), "1012") || !strings.Contains(err.Error(), "params.host: 127.0.0.1 is not allowed") {
		t.Errorf("create: %v", err)
	}
}

// TestSecretsAndCommands: what a plan refers to is the file's, also after it was read
// again; a file that is wrong keeps forsund from starting, and shows nothing. Commands
// that are not listed are refused.
func TestSecretsAndCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "secrets")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("TOKEN\n")
	status, out, errs := result(t, command("--port=0", "--driver-mem-store-file="+filepath.Join(dir, "none"), "--secrets-file="+file))
	if status != 1 || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "--secrets-file: "+file+": line 1: this line is not allowed") || strings.Contains(errs, "TOKEN") {
		t.Errorf("a wrong file: status %d, %q", status, errs)
	}
	if exists(filepath.Join(dir, "none")) {
		t.Error("a start that failed left a store behind")
	}

	write("token = first-one\n")
	const cmd = `printf %s "$T" > "$F"`
	p := start(t, ":memory:", "--secrets-file="+file, "--shell-allow="+cmd, "--shell-allow-env=T,F")
	fires := func(key, want string) {
		t.Helper()
		r := once(key, cmd)
		r.Params["env"] = "T=${secret:token};F=" + filepath.Join(dir, key)
		p.create(r)
		poll(t, key+" to say "+want, func() bool {
			got, _ := os.ReadFile(filepath.Join(dir, key))
			return string(got) == want
		})
	}
	fires("a", "first-one")
	write("token = second-one\n")
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	poll(t, "the file to be read again", func() bool {
		log, _ := os.ReadFile(p.log)
		return strings.Contains(string(log), `"what":"secrets file"`)
	})
	fires("b", "second-one")
	for _, r := range []scheduler.Request{once("c", cmd+"; id"), once("d", "id")} {
		_, err := p.client().Create(t.Context(), r)
		if err == nil || !strings.Contains(err.Error(), "1012") || !strings.Contains(err.Error(), "--shell-allow") {
			t.Errorf("%s: %v", r.Params["cmd"], err)
		}
	}
}
