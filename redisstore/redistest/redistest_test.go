package redistest_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
)

// do sends one inline command on a connection of its own and returns the first
// two lines of the answer, joined.
func do(t *testing.T, addr, command string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(c, "%s\r\n", command)
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(line, "$") && !strings.HasPrefix(line, "$-1") {
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	return strings.TrimSpace(line)
}

func TestServerKeepsItsDataOverARestartIfToldTo(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "appendonly yes", "appendfsync always")
	if got, want := do(t, s.Addr, "SET a 1"), "+OK"; got != want {
		t.Fatalf("SET: got %q, want %q", got, want)
	}
	s.Kill()
	if _, err := net.Dial("tcp", s.Addr); err == nil {
		t.Error("a killed server still accepts connections")
	}
	s.Restart()
	if got, want := do(t, s.Addr, "GET a"), "1"; got != want {
		t.Errorf("GET after kill and restart: got %q, want %q", got, want)
	}
}

func TestServerTakesConfigurationLines(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "requirepass hunter2")
	if got, want := do(t, s.Addr, "GET a"), "-NOAUTH"; !strings.HasPrefix(got, want) {
		t.Errorf("GET without password: got %q, want %s…", got, want)
	}
}

func TestServerEndsWithItsTest(t *testing.T) {
	t.Parallel()
	var pid int
	t.Run("one", func(t *testing.T) { pid = redistest.Start(t).PID() })
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("signal 0 to the server of an ended test: got %v, want %v", err, syscall.ESRCH)
	}
}
