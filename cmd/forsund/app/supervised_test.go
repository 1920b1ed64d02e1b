package app

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/scheduler"
)

// manager is a service manager's end of the socket.
type manager struct {
	t       *testing.T
	address string
	conn    *net.UnixConn
}

func newManager(t *testing.T, address string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &manager{t, address, conn}
}

// next returns the next message, its lines with blanks between; "" if there is
// none within d.
func (m *manager) next(d time.Duration) string {
	m.t.Helper()
	b := make([]byte, 64<<10)
	m.conn.SetReadDeadline(time.Now().Add(d))
	n, err := m.conn.Read(b)
	if err != nil && !os.IsTimeout(err) {
		m.t.Fatal(err)
	}
	return strings.ReplaceAll(string(b[:n]), "\n", " ")
}

// until returns the first message that has a line, skipping others.
func (m *manager) until(line string) string {
	m.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if message := m.next(time.Until(deadline)); strings.Contains(" "+message+" ", " "+line+" ") {
			return message
		}
	}
	m.t.Fatalf("no message with %s", line)
	return ""
}

// TestSupervised is the life of a forsund under a service manager: it says when it
// is ready, gives signs of life, reloads at SIGHUP though it has no log file, and
// says that it stops and how long that may take. What it starts does not know of
// the manager.
func TestSupervised(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := newManager(t, filepath.Join(dir, "notify"))
	cmd := command("--port=0", "--admin=none", "--driver-mem-store-file=:memory:", "--drain-timeout=7s")
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.address, "WATCHDOG_USEC=300000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &forsund{t: t, cmd: cmd, exited: make(chan struct{})}
	go func() { cmd.Wait(); close(p.exited) }()
	t.Cleanup(p.kill)

	if got := m.next(patience); got != "READY=1 STATUS=serving" {
		t.Fatalf("first message %q, want that it is ready", got)
	}
	for range 3 {
		m.until("WATCHDOG=1")
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	reloading := m.until("RELOADING=1")
	_, usec, _ := strings.Cut(reloading, "MONOTONIC_USEC=")
	if n, err := strconv.ParseInt(usec, 10, 64); err != nil || n <= 0 {
		t.Errorf("got %q, want the time of the reload", reloading)
	}
	m.until("READY=1")
	m.until("WATCHDOG=1")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got, want := m.until("STOPPING=1"), fmt.Sprintf("STOPPING=1 STATUS=draining EXTEND_TIMEOUT_USEC=%d", (7*time.Second+stopMargin+5*time.Second).Microseconds()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if status := p.wait(); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
}

// TestSupervisorStuck: no progress, no sign of life, but a status that says why;
// and what does not even say whether there is progress counts as stuck.
func TestSupervisorStuck(t *testing.T) {
	t.Parallel()
	m := newManager(t, "@forsund-test-"+strconv.Itoa(os.Getpid()))
	env := environment(map[string]string{"NOTIFY_SOCKET": m.address, "WATCHDOG_USEC": "150000", "WATCHDOG_PID": "42"})
	if other := newSupervisor(env, 43, zerolog.Nop()); other.every != 0 {
		t.Errorf("a watchdog of process 42 is kept by 43: %v", other.every)
	}
	s := newSupervisor(env, 42, zerolog.Nop())
	var why atomic.Value
	why.Store("")
	asked, answer := make(chan struct{}, 1000), make(chan struct{})
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		s.run(stop, func() (stuck, status string) {
			asked <- struct{}{}
			if text := why.Load().(string); text != "hangs" {
				return text, "well"
			}
			<-answer
			return "", "well"
		})
	}()
	if got := m.next(patience); got != "WATCHDOG=1 STATUS=well" {
		t.Errorf("got %q", got)
	}
	m.until("WATCHDOG=1")
	why.Store("the ticker does not tick\nat all")
	m.until("STATUS=stuck:")
	for len(asked) > 0 {
		<-asked
	}
	for range 5 {
		<-asked
	}
	if got := m.next(time.Millisecond); got != "" {
		t.Errorf("while stuck: got %q", got)
	}
	why.Store("")
	m.until("WATCHDOG=1")
	why.Store("hangs")
	for m.next(500*time.Millisecond) != "" { // what was on its way
	}
	if got := m.next(500 * time.Millisecond); got != "" {
		t.Errorf("while nobody answers: got %q", got)
	}
	why.Store("")
	close(answer)
	m.until("WATCHDOG=1")
	close(stop)
	<-ended
}

// TestStuckLoop: what starting anew would mend is stuck; a store or a target that
// hangs is not.
func TestStuckLoop(t *testing.T) {
	const long, short = silentLoop + time.Second, time.Second
	shard := func(s scheduler.ShardHealth) scheduler.Health {
		return scheduler.Health{Shards: []scheduler.ShardHealth{{Shard: 1}, s}}
	}
	rows := []struct {
		why  string
		h    scheduler.Health
		want string
	}{
		{"all is well", scheduler.Health{TickSilent: short}, ""},
		{"no tick", scheduler.Health{TickSilent: long}, "the ticker has not ticked for 16s"},
		{"no tick any more", scheduler.Health{TickSilent: long, Stopping: true}, ""},
		{"the store is away", scheduler.Health{StoreSilent: time.Hour, TakesSilent: time.Hour, FinishSilent: time.Hour}, ""},
		{"the clock is wrong", scheduler.Health{ClockWrong: true, ClockOffset: time.Hour}, ""},
		{"a loop hangs", shard(scheduler.ShardHealth{Shard: 2, Leads: true, Silent: long}), "the loop of shard 2 has not come round for 16s"},
		{"a loop is between two rounds", shard(scheduler.ShardHealth{Shard: 2, Leads: true, Silent: short}), ""},
		{"another leads", shard(scheduler.ShardHealth{Shard: 2, Silent: long}), ""},
		{"passes fail", shard(scheduler.ShardHealth{Shard: 2, Leads: true, Silent: long, Failing: long}), ""},
		{"a dispatcher hangs", scheduler.Health{TakeStuck: []int{3}}, "the workers of shard 3 do not ask for firings any more"},
		{"attempts do not end", scheduler.Health{Slots: []scheduler.SlotHealth{{Action: "http", Slots: 2, Used: 2, Overrun: 2}}}, "all 2 slots of the action http hold attempts that do not end, long past their deadline"},
		{"a target hangs", scheduler.Health{Slots: []scheduler.SlotHealth{{Action: "http", Slots: 2, Used: 2, Overrun: 1}}}, ""},
	}
	for _, row := range rows {
		if got := stuckLoop(row.h); got != row.want {
			t.Errorf("%s: got %q, want %q", row.why, got, row.want)
		}
	}
}

// TestSupervisorNone: without a manager, and with one that is gone, everything
// goes on.
func TestSupervisorNone(t *testing.T) {
	none := newSupervisor(environment(nil), 1, zerolog.Nop())
	if none != nil || Supervised(environment(map[string]string{"NOTIFY_SOCKET": "relative"})) {
		t.Errorf("got %+v, want no supervisor", none)
	}
	none.ready()
	none.stopping(time.Second)
	none.run(nil, nil)
	gone := newSupervisor(environment(map[string]string{"NOTIFY_SOCKET": filepath.Join(t.TempDir(), "gone")}), 1, zerolog.Nop())
	gone.ready()
}
