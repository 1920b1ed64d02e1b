package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/rpc/client"
	"github.com/snower/forsun/scheduler"
)

// program is the forsund that TestMain built.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "forsund-test-")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "forsund")
	args := slices.Concat([]string{"build"}, buildFlags, []string{"-ldflags", "-X main.version=v0.0.0-test", "-o", program, ".."})
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go %s: %v\n%s", strings.Join(args, " "), err, out)
		os.Exit(1)
	}
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// patience bounds what these tests wait for: far more than it takes, also on a
// machine that is busy with other tests.
const patience = 60 * time.Second

// forsund is a process of the built program.
type forsund struct {
	t       *testing.T
	cmd     *exec.Cmd
	log     string // its log file
	address string // where its Thrift server listens
	http    string // and its HTTP server, if asked for
	admin   string // and its admin server
	stderr  bytes.Buffer
	exited  chan struct{}
}

// command is the program with a plain environment.
func command(args ...string) *exec.Cmd { return commandOf(program, args...) }

func commandOf(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "NO_COLOR=1", "FORSUN_ADMIN=127.0.0.1:0"}
	return cmd
}

// start starts forsund on a store and any free port, and waits until it serves.
// It is killed at the end of the test at the latest.
func start(t *testing.T, store string, args ...string) *forsund {
	t.Helper()
	return startProgram(t, program, store, args...)
}

// startProgram is start for another program.
func startProgram(t *testing.T, path, store string, args ...string) *forsund {
	t.Helper()
	p := &forsund{t: t, log: filepath.Join(t.TempDir(), "log"), exited: make(chan struct{})}
	p.cmd = commandOf(path, slices.Concat([]string{"--port=0", "--driver-mem-store-file=" + store, "--log=" + p.log}, args)...)
	p.cmd.Stderr = &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.cmd.Wait(); close(p.exited) }()
	t.Cleanup(func() { p.kill() })
	ready := p.waitLog("forsund is ready")
	p.address, _ = ready["thrift"].(string)
	p.http, _ = ready["http"].(string)
	p.admin, _ = ready["admin"].(string)
	return p
}

// waitLog waits for a log line with the message and returns its fields.
func (p *forsund) waitLog(message string) map[string]any {
	p.t.Helper()
	var found map[string]any
	poll(p.t, "log line "+message, func() bool {
		found = findLog(p.t, p.log, message)
		select {
		case <-p.exited:
			if found == nil {
				p.t.Fatalf("forsund ended (%v) before it logged %q; stderr: %s", p.cmd.ProcessState, message, p.stderr.String())
			}
		default:
		}
		return found != nil
	})
	return found
}

// findLog returns the first line of a JSON log with the message, or nil.
func findLog(t *testing.T, path, message string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		var fields map[string]any
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // being written
		}
		if err := json.Unmarshal(line, &fields); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		if fields["message"] == message {
			return fields
		}
	}
	return nil
}

// poll waits until done says so.
func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for: %s", patience, what)
		}
	}
}

// kill ends the process as kill -9 does, if it has not ended, and waits for it.
func (p *forsund) kill() {
	p.cmd.Process.Kill()
	<-p.exited
}

// stop sends a signal and returns the exit status.
func (p *forsund) stop(sig syscall.Signal) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	return p.wait()
}

// wait waits for the end and returns the exit status.
func (p *forsund) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("forsund does not end")
		return 0
	}
}

// client returns a client of the process.
func (p *forsund) client() *client.Client {
	c := client.New(client.DefaultOptions(p.address))
	p.t.Cleanup(func() { c.Close() })
	return c
}

// create stores a plan.
func (p *forsund) create(r scheduler.Request) {
	p.t.Helper()
	if _, err := p.client().Create(p.t.Context(), r); err != nil {
		p.t.Fatalf("create %s: %v", r.Key, err)
	}
}

// once is a plan that runs a shell command one second from now.
func once(key, cmd string) scheduler.Request {
	return scheduler.Request{
		Key: key, Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 1, Count: 1},
		Action: "shell", Params: map[string]string{"cmd": cmd},
	}
}

// exists says whether a file is there.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// result runs the program to its end.
func result(t *testing.T, cmd *exec.Cmd) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer late.Stop()
	cmd.Wait()
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	if status, out, _ := result(t, command("--version")); status != 0 || out != "forsund v0.0.0-test\n" {
		t.Errorf("--version: got %d, %q", status, out)
	}
	// Asked for help, nothing else that is wrong matters.
	for _, args := range [][]string{{"-h"}, {"--help"}, {"--port=x", "-h"}} {
		if status, out, _ := result(t, command(args...)); status != 0 || out != HelpText() {
			t.Errorf("%v: got %d, %q", args, status, out)
		}
	}
}

// TestRefusals: whatever keeps forsund from starting is one line on standard
// error and an exit status, and nothing is left half started.
func TestRefusals(t *testing.T) {
	t.Parallel()
	running := start(t, filepath.Join(t.TempDir(), "taken"), "--http=127.0.0.1:0")
	_, port, _ := strings.Cut(running.address, ":")
	taken := filepath.Dir(strings.TrimPrefix(running.cmd.Args[2], "--driver-mem-store-file=")) + "/taken"

	dump := filepath.Join(t.TempDir(), "forsun.session")
	if err := os.WriteFile(dump, []byte("\x83\xa5plans\x90"), 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(t.TempDir(), "store")
	redis := strconv.Itoa(redistest.Start(t, "requirepass secret").Port)
	rows := []struct {
		why    string
		args   []string
		status int
		want   []string // parts of the line
	}{
		{"unknown flag", []string{"--prot=1"}, 2, []string{"--prot: no such option, did you mean --port?"}},
		{"bad value", []string{"--port=http"}, 2, []string{`--port: "http" is not allowed; allowed: a number from 0 to 65535`}},
		{"leftover", []string{"--demon", "true", "now"}, 2, []string{`"now": forsund takes options only`}},
		{"Redis refuses", []string{"--port=0", "--driver=redis", "--driver-redis-port=" + redis}, 1, []string{"NOAUTH", "--driver-redis-password"}},
		{"port in use", []string{"--port=" + port}, 1, []string{"--port: 127.0.0.1:" + port + " is in use"}},
		{"http port in use", []string{"--port=0", "--http=" + running.http}, 1, []string{"--http: " + running.http + " is in use"}},
		{"no such address", []string{"--port=0", "--bind=192.0.2.1"}, 1, []string{"--bind: ", "192.0.2.1"}},
		{"log cannot be written", []string{"--port=0", "--log=/proc/forsund.log"}, 1, []string{"--log: ", "/proc/forsund.log"}},
		{"pid file cannot be written", []string{"--port=0", "--pid-file=/proc/forsund.pid", "--driver-mem-store-file=:memory:"}, 1, []string{"--pid-file", "/proc/forsund.pid"}},
		{"store is locked", []string{"--port=0", "--driver-mem-store-file=" + taken}, 1, []string{taken, fmt.Sprint(running.cmd.Process.Pid)}},
		{"store is a file", []string{"--port=0", "--driver-mem-store-file=" + dump}, 1, []string{dump}},
		{"daemon, bad value", []string{"--demon", "--port=-1"}, 2, []string{`--port: "-1" is not allowed`}},
		{"daemon, port in use", []string{"--demon", "--port=" + port}, 1, []string{"--port: 127.0.0.1:" + port + " is in use"}},
		{"daemon, store is locked", []string{"--demon", "--port=0", "--driver-mem-store-file=" + taken}, 1, []string{taken, fmt.Sprint(running.cmd.Process.Pid)}},
	}
	for _, row := range rows {
		args := append([]string{"--driver-mem-store-file=" + fresh}, row.args...)
		status, out, errs := result(t, command(args...))
		if status != row.status || out != "" || strings.Count(errs, "\n") != 1 || !strings.HasPrefix(errs, "forsund: ") {
			t.Errorf("%s: got status %d, stdout %q, stderr %q; want status %d and one line on stderr", row.why, status, out, errs, row.status)
		}
		for _, want := range row.want {
			if !strings.Contains(errs, want) {
				t.Errorf("%s: stderr %q lacks %q", row.why, errs, want)
			}
		}
	}
	if exists(fresh) {
		t.Error("a start that failed left a store behind")
	}
	if data, _ := os.ReadFile(dump); string(data) != "\x83\xa5plans\x90" {
		t.Errorf("the file in place of a store was changed: %q", data)
	}
}

// TestDemon: the parent prints the pid of a process that serves, without terminal
// or directory, and that stops at SIGTERM.
func TestDemon(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log, pidFile := filepath.Join(dir, "log"), filepath.Join(dir, "pid")
	cmd := command("--demon", "--port=0", "--driver-mem-store-file=store/a", "--log=log", "--pid-file=pid")
	cmd.Dir = dir
	status, out, errs := result(t, cmd)
	var pid int
	if _, err := fmt.Sscanf(out, "%d\n", &pid); err != nil || status != 0 || errs != "" {
		t.Fatalf("got status %d, stdout %q, stderr %q; want 0, a pid, nothing", status, out, errs)
	}
	t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) })

	ready := findLog(t, log, "forsund is ready")
	address, _ := ready["thrift"].(string)
	c := client.New(client.DefaultOptions(address))
	defer c.Close()
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
	if text, _ := os.ReadFile(pidFile); string(text) != out {
		t.Errorf("pid file holds %q, want %q", text, out)
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || cwd != "/" {
		t.Errorf("working directory: got %q, %v, want /", cwd, err)
	}
	for fd, want := range []string{"/dev/null", "/dev/null", "/dev/null"} {
		if got, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); err != nil || got != want {
			t.Errorf("descriptor %d: got %q, %v, want %s", fd, got, err, want)
		}
	}
	if session := statField(t, pid, 6); session != fmt.Sprint(pid) {
		t.Errorf("session: got %s, want its own, %d", session, pid)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	poll(t, "the daemon to stop", func() bool { return findLog(t, log, "stopped") != nil })
	poll(t, "the pid file to go", func() bool { return !exists(pidFile) })
}

// statField returns a field of /proc/PID/stat, counted from 1.
func statField(t *testing.T, pid, n int) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// The second field is a name in parentheses, which may hold blanks.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	return fields[n-3]
}

// TestBindsNoWider: 0.0.0.0 means every IPv4 address and no IPv6 one, and a
// warning says who may come in.
func TestBindsNoWider(t *testing.T) {
	t.Parallel()
	p := start(t, ":memory:", "--bind=0.0.0.0")
	if !strings.HasPrefix(p.address, "0.0.0.0:") {
		t.Errorf("listens on %s, want 0.0.0.0 only", p.address)
	}
	warning := p.waitLog("listening beyond this machine: whoever is let in may create, read and remove plans")
	if warning["level"] != "warn" || warning["shell_plans_from"] != "loopback" {
		t.Errorf("got %v", warning)
	}
}

// TestDrain: at SIGTERM an action that runs is waited for, nobody is let in any
// more, and the firing has run once.
func TestDrain(t *testing.T) {
	t.Parallel()
	dir, store := t.TempDir(), filepath.Join(t.TempDir(), "store")
	p := start(t, store)
	p.create(once("slow", fmt.Sprintf("cd %s; echo x >> begun; while [ -e begun -a ! -e go ]; do sleep 0.05; done; echo x >> done", dir)))
	poll(t, "the action to begin", func() bool { return exists(dir + "/begun") })
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	poll(t, "the port to be closed", func() bool {
		c := client.New(client.DefaultOptions(p.address))
		defer c.Close()
		return c.Ping(t.Context()) != nil
	})
	if err := os.WriteFile(dir+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if status := p.wait(); status != 0 || p.stderr.Len() > 0 {
		t.Errorf("got status %d, stderr %q, want 0 and nothing", status, p.stderr.String())
	}
	if !exists(dir + "/done") {
		t.Error("the action was cut off")
	}

	again := start(t, store)
	page, err := again.client().History(t.Context(), "slow", "", 10)
	if err != nil || len(page.Items) != 1 || page.Items[0].Outcome != scheduler.Succeeded {
		t.Errorf("history after restart: got %+v, %v, want one success", page.Items, err)
	}
	if status := again.stop(syscall.SIGINT); status != 0 {
		t.Errorf("SIGINT: got status %d, want 0", status)
	}
	if begun, _ := os.ReadFile(dir + "/begun"); string(begun) != "x\n" {
		t.Errorf("the action began %d times, want once", len(begun)/2)
	}
}

// TestDrainTimeout: an action that outlasts the bound is cut off and handed
// back: it runs again after the restart, under the same id.
func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	dir, store := t.TempDir(), filepath.Join(t.TempDir(), "store")
	p := start(t, store, "--drain-timeout=500ms")
	p.create(once("stuck", fmt.Sprintf("cd %s; echo $FORSUN_FIRING_ID >> begun; while [ -e begun -a ! -e go ]; do sleep 0.05; done", dir)))
	poll(t, "the action to begin", func() bool { return exists(dir + "/begun") })
	began := time.Now()
	if status := p.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("got status %d, stderr %q, want 0", status, p.stderr.String())
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("stopping took %s", took)
	}
	if err := os.WriteFile(dir+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	again := start(t, store)
	poll(t, "the firing to end", func() bool {
		page, err := again.client().History(t.Context(), "stuck", "", 10)
		return err == nil && slices.ContainsFunc(page.Items, func(a scheduler.Attempt) bool { return a.Outcome == scheduler.Succeeded })
	})
	begun, _ := os.ReadFile(dir + "/begun")
	if ids := strings.Fields(string(begun)); len(ids) != 2 || ids[0] != ids[1] {
		t.Errorf("firing ids: got %q, want the same one twice", ids)
	}
}

// TestSecondSignal: who asks twice does not wait.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, filepath.Join(dir, "store"))
	p.create(once("slow", fmt.Sprintf("cd %s; touch begun; while [ -e begun ]; do sleep 0.2; done", dir)))
	poll(t, "the action to begin", func() bool { return exists(dir + "/begun") })
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.waitLog("stopping")
	if status := p.stop(syscall.SIGTERM); status != 1 {
		t.Errorf("got status %d, want 1", status)
	}
	p.waitLog("second signal, ending at once")
}

// TestLogReopens: after SIGHUP lines go to a new file of the old name.
func TestLogReopens(t *testing.T) {
	t.Parallel()
	p := start(t, ":memory:")
	if err := os.Rename(p.log, p.log+".1"); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if reloaded := p.waitLog("reloaded"); reloaded["what"] != "log file" {
		t.Errorf("got %v", reloaded)
	}
	if status := p.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("got status %d", status)
	}
	if findLog(t, p.log, "stopped") == nil || findLog(t, p.log+".1", "stopped") != nil {
		t.Error("the last line is not in the new file only")
	}
}

// TestConfFile: a file of the Python forsun is all that forsund needs, and what it
// says is what plans see.
func TestConfFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	agent := make(chan string, 10)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		agent <- r.UserAgent()
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer target.Close()
	conf := filepath.Join(dir, "forsun.conf")
	text := fmt.Sprintf("port=0\nadmin=none\nbind_address=127.0.0.1\nhttp_bind=127.0.0.1:0\nlog_file=%[1]s/log\nlog_level=DEBUG\nlog_format=\nlog_rotate=400B\nlog_backup_count=100\n"+
		"[store]\ndriver=mem\nmem_store_file=%[1]s/store\nredis_bulk_size=5\n"+
		"[action]\nretry_delay_seconds=0\nretry_max_count=2\nshell_cwd=%[1]s\nhttp_user_agent=reports/7\n", dir)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := command("--conf", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &forsund{t: t, cmd: cmd, log: filepath.Join(dir, "log"), exited: make(chan struct{})}
	go func() { cmd.Wait(); close(p.exited) }()
	t.Cleanup(p.kill)
	// Its log is in many files by now.
	find := func(message string) (found map[string]any) {
		poll(t, "log line "+message, func() bool {
			logs, _ := filepath.Glob(p.log + "*")
			for _, log := range logs {
				if found == nil {
					found = findLog(t, log, message)
				}
			}
			return found != nil
		})
		return found
	}
	p.address, _ = find("forsund is ready")["thrift"].(string)
	find(conf + ":13: redis_bulk_size means nothing here: forsund sends what there is to Redis in pipelines over few connections")
	p.create(once("where", "touch here"))
	p.create(scheduler.Request{
		Key: "who", Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Count: 1},
		Action: "http", Params: map[string]string{"url": target.URL},
	})
	for range 3 { // the first attempt and two retries
		select {
		case got := <-agent:
			if got != "reports/7" {
				t.Errorf("User-Agent: got %q, want reports/7", got)
			}
		case <-time.After(patience):
			t.Fatal("no request")
		}
	}
	poll(t, "the shell plan in shell_cwd", func() bool { return exists(filepath.Join(dir, "here")) })
	if status := p.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
	if files, _ := filepath.Glob(p.log + ".*"); len(files) < 2 {
		t.Errorf("log_rotate=400B: rotated files %q", files)
	}
	if len(agent) > 0 {
		t.Errorf("%d attempts more than retry_max_count allows", len(agent))
	}
}

// TestConfigCommand: forsund config prints and starts nothing; what it refuses, it
// refuses as forsund does.
func TestConfigCommand(t *testing.T) {
	t.Parallel()
	cmd := command("config", "--port=7000")
	cmd.Env = append(cmd.Env, "FORSUN_DRIVER_REDIS_PASSWORD=pl4nted")
	status, stdout, stderr := result(t, cmd)
	if status != 0 || stderr != "" || !strings.Contains(stdout, "7000") || strings.Contains(stdout, "pl4nted") {
		t.Errorf("got status %d, %s%s", status, stdout, stderr)
	}
	cmd = command("config")
	cmd.Env = append(cmd.Env, "FORSUN_PROT=7000")
	status, stdout, stderr = result(t, cmd)
	want := "forsund: FORSUN_PROT: no option has this variable, did you mean FORSUN_PORT? (forsund -h lists the options)\n"
	if status != 2 || stdout != "" || stderr != want {
		t.Errorf("got status %d, %q, %q, want 2 and %q", status, stdout, stderr, want)
	}
}

// TestConsole: without --log, readable lines go to standard error, without
// colours where that is no terminal.
func TestConsole(t *testing.T) {
	t.Parallel()
	cmd := command("--port=0", "--driver-mem-store-file=:memory:")
	cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, "NO_COLOR") })
	lines, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	defer context.AfterFunc(ctx, func() { cmd.Process.Kill() })()
	var once sync.Once
	var seen []string
	for s := bufio.NewScanner(lines); s.Scan(); {
		seen = append(seen, s.Text())
		if strings.Contains(s.Text(), "forsund is ready") {
			once.Do(func() { cmd.Process.Signal(syscall.SIGTERM) })
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("got %v", err)
	}
	text := strings.Join(seen, "\n")
	if !strings.Contains(text, " INF forsund is ready ") || !strings.Contains(text, " plans=0 ") || !strings.HasSuffix(text, " INF stopped") ||
		strings.ContainsAny(text, "\x1b{") || strings.Contains(text, "a first plan") {
		t.Errorf("got %s", text)
	}
}
