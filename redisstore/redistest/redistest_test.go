package redistest_test

import (
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/snower/forsun/redisstore/redistest"
)

func TestServerKeepsItsDataOverARestartIfToldTo(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "appendonly yes", "appendfsync always")
	if got, want := redistest.Do(t, s.Addr, "SET", "a", "1"), "OK"; got != want {
		t.Fatalf("SET: got %q, want %q", got, want)
	}
	s.Kill()
	if _, err := net.Dial("tcp", s.Addr); err == nil {
		t.Error("a killed server still accepts connections")
	}
	s.Restart()
	if got, want := redistest.Do(t, s.Addr, "GET", "a"), "1"; got != want {
		t.Errorf("GET after kill and restart: got %q, want %q", got, want)
	}
}

func TestServerTakesConfigurationLines(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "requirepass hunter2")
	if _, err := redistest.Try(s.Addr, "GET", "a"); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH") {
		t.Errorf("GET without password: got %v, want NOAUTH …", err)
	}
}

func TestServerHangsAndGoesOn(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c, err := redistest.Dial(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.Pause()
	c.Send("PING")
	wantSilence(t, "from a paused server", c)
	s.Resume()
	if got, err := c.Receive(); got != "PONG" || err != nil {
		t.Errorf("PING of a server that goes on: got %v, %v", got, err)
	}
	s.Pause()
	s.Stop()
	if got := s.PID(); got != 0 {
		t.Errorf("a paused server was stopped: got pid %d", got)
	}
}

func TestServerEndsWithItsTest(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		why string
		do  func(*redistest.Server)
	}{
		{"running", func(*redistest.Server) {}},
		{"paused", (*redistest.Server).Pause},
	} {
		var pid int
		t.Run(row.why, func(t *testing.T) {
			s := redistest.Start(t)
			pid = s.PID()
			row.do(s)
		})
		if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
			t.Errorf("signal 0 to the %s server of an ended test: got %v, want %v", row.why, err, syscall.ESRCH)
		}
	}
}
