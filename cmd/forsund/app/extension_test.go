package app

import (
	"bufio"
	"errors"
	"fmt"
	"net"
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
	"github.com/snower/forsun/redisstore/redistest/proc"
	"github.com/snower/forsun/rpc/client"
	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
)

// lineServer is a TCP server that keeps the lines it gets, and answers each but those
// that say "hang".
type lineServer struct {
	port string
	mu   sync.Mutex
	got  map[string]int
}

func startLineServer(t *testing.T) *lineServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &lineServer{got: make(map[string]int)}
	_, s.port, _ = net.SplitHostPort(listener.Addr().String())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				line, err := bufio.NewReader(c).ReadString('\n')
				if err != nil {
					return
				}
				s.mu.Lock()
				s.got[line]++
				s.mu.Unlock()
				if line == "hang\n" {
					c.Read(make([]byte, 1)) // until it is closed
					return
				}
				c.Write([]byte("got " + line))
			})
		}
	})
	t.Cleanup(func() { listener.Close(); serving.Wait() })
	return s
}

func (s *lineServer) lines() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

// extensions copies the examples to a directory of the test, where they may write.
func extensions(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"tcp_line", "spool"} {
		program, err := os.ReadFile(filepath.Join(root, "deploy/extensions", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := proc.WriteProgram(filepath.Join(dir, name), program); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// in is a plan that runs an action once, n seconds from now.
func in(key, action string, n int, params ...string) scheduler.Request {
	r := scheduler.Request{
		Key: key, Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: n, Count: 1}, Action: action, Params: make(map[string]string),
	}
	for i := 0; i+1 < len(params); i += 2 {
		r.Params[params[i]] = params[i+1]
	}
	return r
}

// createAll stores plans.
func (p *forsund) createAll(rs []scheduler.Request) {
	p.t.Helper()
	results, err := p.client().CreateMany(p.t.Context(), rs)
	if err != nil {
		p.t.Fatal(err)
	}
	for i, r := range results {
		if r.Err != nil {
			p.t.Fatalf("%s: %v", rs[i].Key, r.Err)
		}
	}
}

// readyPIDs are the pids of an extension's processes, in the order they came.
func (p *forsund) readyPIDs(name string) (pids []int) {
	p.t.Helper()
	data, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, `"an extension is ready"`) && strings.Contains(line, `"extension":"`+name+`"`) {
			_, rest, _ := strings.Cut(line, `"pid":`)
			digits, _, _ := strings.Cut(rest, ",")
			pid, err := strconv.Atoi(digits)
			if err != nil {
				p.t.Fatalf("%s: %v", line, err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// died waits for the dead letter of a plan and returns its error.
func (p *forsund) died(key string) (said string) {
	p.t.Helper()
	poll(p.t, "the dead letter of "+key, func() bool {
		page, err := p.client().DeadLetters(p.t.Context(), key, "", 1)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, d := range page.Items {
			said = d.Error
		}
		return said != ""
	})
	return said
}

// refused returns the code and the message that a create is refused with.
func (p *forsund) refused(r scheduler.Request) (wire.Code, string) {
	p.t.Helper()
	_, err := p.client().Create(p.t.Context(), r)
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		p.t.Fatalf("%s is not refused: %v", r.Key, err)
	}
	return e.Code, e.Message
}

// TestExtensions: the examples in Python and shell run thousands of firings, are killed
// meanwhile, and time out cleanly. Nothing is lost.
func TestExtensions(t *testing.T) {
	t.Parallel()
	server := startLineServer(t)
	dir := extensions(t)
	p := start(t, ":memory:", "--extension-path="+dir, "--extension=tcp_line,spool", "--retries=20", "--retry-delay=0.2")
	const lines, files = 3000, 100
	var plans []scheduler.Request
	for i := range lines {
		plans = append(plans, in(fmt.Sprintf("line-%d", i), "tcp_line", 1+i%4, "port", server.port, "line", fmt.Sprintf("line %d ${firing}", i), "reply", "true"))
	}
	for i := range files {
		plans = append(plans, in(fmt.Sprintf("file-%d", i), "spool", 1+i%4, "queue", "mail", "text", fmt.Sprintf("text %d\n'\"\\\t$", i)))
	}
	p.createAll(plans)

	for _, name := range []string{"tcp_line", "spool"} { // while they run
		want := files / 4
		if name == "tcp_line" {
			want = lines / 4
		}
		poll(t, "some of "+name, func() bool {
			written, _ := os.ReadDir(filepath.Join(dir, "spooled", "mail"))
			return name == "tcp_line" && server.lines() > want || name == "spool" && len(written) > want
		})
		pids := p.readyPIDs(name)
		if err := syscall.Kill(pids[len(pids)-1], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		poll(t, name+" to be back", func() bool { return len(p.readyPIDs(name)) == len(pids)+1 })
	}
	poll(t, "all lines", func() bool { return server.lines() == lines })
	poll(t, "all files", func() bool {
		written, err := filepath.Glob(filepath.Join(dir, "spooled", "mail", "[0-9a-f]*"))
		return err == nil && len(written) == files
	})
	texts := make(map[string]bool)
	written, _ := filepath.Glob(filepath.Join(dir, "spooled", "mail", "[0-9a-f]*"))
	for _, file := range written {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[string(text)] = true
	}
	for i := range files {
		if want := fmt.Sprintf("text %d\n'\"\\\t$", i); !texts[want] {
			t.Errorf("no file says %q", want)
		}
	}
	poll(t, "every firing to have ended", func() bool {
		states, err := p.client().Shards(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if states[0].Dead > 0 {
			t.Fatalf("%d dead letters", states[0].Dead)
		}
		return states[0].Backlog() == 0
	})

	// An execution whose time is over is cancelled, and the extension goes on.
	before := len(p.readyPIDs("tcp_line")) + len(p.readyPIDs("spool"))
	p.create(in("hang", "tcp_line", 0, "port", server.port, "line", "hang", "reply", "true", "forsun.timeout", "0.3", "forsun.retries", "0"))
	p.create(in("delay", "spool", 0, "queue", "print", "text", "x", "delay", "60", "forsun.timeout", "0.5", "forsun.retries", "0"))
	if said := p.died("hang"); !strings.Contains(said, "no end after 300ms") || !strings.Contains(said, "without a reply") {
		t.Errorf("hang: %s", said)
	}
	if said := p.died("delay"); !strings.Contains(said, "no end after 500ms") || !strings.Contains(said, "cancelled") {
		t.Errorf("delay: %s", said)
	}
	p.create(in("nobody", "tcp_line", 0, "port", "1", "line", "x", "forsun.retries", "0"))
	if said := p.died("nobody"); !strings.Contains(said, "extension tcp_line: ") || !strings.Contains(said, "refused") {
		t.Errorf("nobody: %s", said)
	}
	if after := len(p.readyPIDs("tcp_line")) + len(p.readyPIDs("spool")); after != before {
		t.Errorf("%d processes were started again for that", after-before)
	}

	for _, row := range []struct {
		plan scheduler.Request
		code wire.Code
		says string
	}{
		{in("k", "tcp_line", 60, "line", "x"), wire.Missing, "port"},
		{in("k", "tcp_line", 60, "port", "http", "line", "x"), wire.BadParams, "params.port"},
		{in("k", "tcp_line", 60, "port", "1", "line", "x", "reply", "maybe"), wire.BadParams, "allowed: true, false"},
		{in("k", "spool", 60, "queue", "../etc", "text", "x"), wire.BadParams, "allowed: mail, print, report"},
		{in("k", "spool", 60, "queue", "mail", "text", "\xff"), wire.BadParams, "UTF-8"},
	} {
		if code, message := p.refused(row.plan); code != row.code || !strings.Contains(message, row.says) {
			t.Errorf("%v: %d %s, want %d that says %s", row.plan.Params, code, message, row.code, row.says)
		}
	}
	info, err := p.client().Info(t.Context())
	if err != nil || info["extensions"] != "tcp_line;spool" || !strings.Contains(info["actions"], "tcp_line") {
		t.Errorf("info: %v %s %s", err, info["extensions"], info["actions"])
	}
	pids := slices.Concat(p.readyPIDs("tcp_line"), p.readyPIDs("spool"))
	if status := p.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
	for _, pid := range pids {
		poll(t, fmt.Sprintf("process group %d to be gone", pid), func() bool { return !groupRuns(t, pid) })
	}
}

// groupRuns says whether anything of a process group runs: what only nobody has waited
// for does not.
func groupRuns(t *testing.T, group int) bool {
	t.Helper()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		return syscall.Kill(-group, 0) == nil
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		// pid (name) state parent group …; the name may hold anything but ends at the last ")".
		fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))
		if len(fields) > 2 && fields[0] != "Z" && fields[2] == strconv.Itoa(group) {
			return true
		}
	}
	return false
}

// TestExtensionDiesWithForsund: not even a forsund that is killed leaves an extension.
func TestExtensionDiesWithForsund(t *testing.T) {
	t.Parallel()
	p := start(t, ":memory:", "--extension-path="+extensions(t), "--extension=tcp_line")
	pid := p.readyPIDs("tcp_line")[0]
	p.kill()
	poll(t, "the extension to end", func() bool { return !groupRuns(t, pid) })
}

// TestExtensionStart: what can never work is one line and a status, and nothing is
// left of it; what may work later does not keep forsund from starting.
func TestExtensionStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, body := range map[string]string{
		"nonsense": "echo hello; cat",
		"future":   `read -r hello; echo '{"type":"hello","protocol":2,"name":"future"}'; cat`,
		"short":    "exit 3",
	} {
		if err := proc.WriteProgram(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body+"\n")); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct{ name, says string }{
		{"nonsense", "its line hello cannot be used"},
		{"future", "protocol: 2 is not allowed; allowed: 1"},
		{"absent", "no such file"},
	} {
		status, _, stderr := result(t, command("--port=0", "--driver-mem-store-file=:memory:", "--extension-path="+dir, "--extension="+row.name))
		last := stderr[strings.LastIndex(strings.TrimSuffix(stderr, "\n"), "\n")+1:]
		if status != 1 || !strings.HasPrefix(last, "forsund: --extension: extension "+row.name+": ") || !strings.Contains(last, row.says) {
			t.Errorf("%s: status %d, %q", row.name, status, stderr)
		}
	}
	p := start(t, ":memory:", "--extension-path="+dir, "--extension=short")
	if away := p.waitLog("an extension is away; it is started again"); away["extension"] != "short" || away["error"] != "it ended: exit status 3" {
		t.Errorf("logged: %v", away)
	}
	if code, message := p.refused(in("k", "short", 60)); code != wire.NotAllowed || !strings.Contains(message, "exit status 3") || !strings.Contains(message, "try again later") {
		t.Errorf("create: %d %s", code, message)
	}
	p.create(once("k", "true"))
}

// TestExtensionFleet: a replica without an extension leads its plans and leaves their
// firings to those that have it; while there are none they wait.
func TestExtensionFleet(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "appendonly yes")
	dir := extensions(t)
	with := func() *forsund {
		return start(t, "", onRedis(server, "--driver-redis-server-id=0-3", "--extension-path="+dir, "--extension=spool")...)
	}
	a := with()
	b := start(t, "", onRedis(server, "--driver-redis-server-id=0-3")...)
	b.waitLog("another replica has an action that this one has not: its plans are claimed here, and run there")
	poll(t, "both to lead", func() bool {
		leaders := make(map[string]bool)
		states, err := a.client().Shards(t.Context())
		for _, s := range states {
			leaders[s.Leader] = true
		}
		return err == nil && len(leaders) == 2 && !leaders[""]
	})
	files := func() int {
		written, _ := filepath.Glob(filepath.Join(dir, "spooled", "mail", "[0-9a-f]*"))
		return len(written)
	}
	plans := func(kind string, n, seconds int) {
		var all []scheduler.Request
		for i := range n {
			all = append(all, in(fmt.Sprintf("%s-%d", kind, i), "spool", seconds, "queue", "mail", "text", "x"))
		}
		a.createAll(all)
	}
	plans("both", 100, 1)
	poll(t, "the files", func() bool { return files() == 100 })

	if code, _ := b.refused(in("k", "spool", 60, "queue", "mail", "text", "x")); code != wire.UnknownAction {
		t.Errorf("a replica without the extension: %d, want %d", code, wire.UnknownAction)
	}
	plans("later", 50, 3)
	if status := a.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
	queued := func() (n int64) {
		states, err := b.client().Shards(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range states {
			n += s.Queued["spool"]
			if s.Dead > 0 || s.Quarantined > 0 {
				t.Fatalf("shard %d: %d dead letters, %d in quarantine", s.Shard, s.Dead, s.Quarantined)
			}
		}
		return n
	}
	poll(t, "them to be claimed without anybody who runs them", func() bool { return queued() == 50 })
	with()
	poll(t, "the files of what waited", func() bool { return files() == 150 })
	poll(t, "the queue to be empty", func() bool { return queued() == 0 })
}

// TestOwnAction: the forsund of deploy/extensions/go has an action more.
func TestOwnAction(t *testing.T) {
	t.Parallel()
	sink, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	own := filepath.Join(t.TempDir(), "forsund-udp")
	args := slices.Concat([]string{"build"}, buildFlags, []string{"-o", own, root + "/deploy/extensions/go"})
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	status, _, stderr := result(t, exec.Command(own, "--actions=upd"))
	if status != 2 || !strings.Contains(stderr, "thrift, noop, udp") {
		t.Errorf("--actions=upd: status %d, %q", status, stderr)
	}
	p := startProgram(t, own, ":memory:", "--actions=udp", "--slots=udp=7", "--work=udp")
	if code, message := p.refused(in("k", "udp", 60, "address", "nowhere")); code != wire.BadParams || !strings.Contains(message, "params.address: nowhere is not allowed; allowed: host:port") {
		t.Errorf("%d %s", code, message)
	}
	if code, _ := p.refused(once("k", "true")); code == 0 {
		t.Error("shell is allowed")
	}
	p.create(in("k", "udp", 0, "address", sink.LocalAddr().String(), "data", "tick:1|c"))
	sink.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 100)
	if n, _, err := sink.ReadFrom(b); err != nil || string(b[:n]) != "tick:1|c" {
		t.Errorf("got %q, %v", b[:n], err)
	}
	if status := p.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
}
