package redistest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest/proc"
)

// portAttempts is how often ports are chosen: between finding a port free and
// redis-server binding it another process may take it.
const portAttempts = 5

// settleTimeout is how long replicas, clusters and sentinels may take until they
// agree: generous, because tests of many packages share the machine.
const settleTimeout = 30 * time.Second

// Server is a redis-server: a standalone one, a replica, a node of a Cluster, or
// a sentinel.
type Server struct {
	Addr string // "127.0.0.1:port"
	Dir  string // its working directory: RDB, AOF and config file
	Port int

	t         testing.TB
	path      string
	args      []string      // after the config file
	env       []string      // beside the test's own
	listening string        // what it prints once it listens
	proc      *proc.Process // nil while stopped
	paused    bool
}

// Start runs a redis-server on a free port with the given lines added to its
// configuration ("requirepass secret", "appendonly yes") and waits until it
// answers. Without lines it persists nothing. It stops when the test ends. A
// missing redis-server fails the test.
func Start(t testing.TB, conf ...string) *Server {
	t.Helper()
	s := newServer(t)
	onFreePorts(t, func() error {
		s.choosePort()
		s.configure(conf...)
		return s.start()
	})
	return s
}

// FreePort returns a TCP port of 127.0.0.1 that nobody listened on a moment ago,
// for a "tls-port" line.
func FreePort(t testing.TB) int {
	t.Helper()
	return proc.FreePort(t)
}

// onFreePorts calls start, which chooses ports and starts servers on them, again
// for as long as others take the ports first.
func onFreePorts(t testing.TB, start func() error) {
	t.Helper()
	var err error
	for range portAttempts {
		if err = start(); err == nil {
			return
		}
		if !strings.Contains(err.Error(), "Address already in use") {
			break
		}
	}
	t.Fatal(err)
}

// newServer returns a server that has a directory, and no port yet.
func newServer(t testing.TB) *Server {
	t.Helper()
	s := &Server{
		t: t, Dir: t.TempDir(), path: proc.Find(t, "redis-server", "redis-server"),
		listening: "Ready to accept connections",
	}
	t.Cleanup(s.Kill)
	return s
}

func (s *Server) choosePort() {
	s.t.Helper()
	s.Port = FreePort(s.t)
	s.Addr = addrOf(s.Port)
}

func addrOf(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// configure writes the config file: conf after, and so above, what every server
// of this package has.
func (s *Server) configure(conf ...string) {
	s.t.Helper()
	lines := append([]string{
		"bind 127.0.0.1",
		"port " + strconv.Itoa(s.Port),
		"dir " + s.Dir,
		"daemonize no",
		"loglevel notice",
		`save ""`,
		"appendonly no",
	}, replicationConf()...)
	s.write("redis.conf", append(lines, conf...))
}

// write writes a file of lines into the server's directory.
func (s *Server) write(name string, lines []string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// Stop ends the server as an operator would (SIGTERM) and waits for its end.
func (s *Server) Stop() {
	s.t.Helper()
	if s.proc == nil {
		return
	}
	if err := s.proc.Stop(); err != nil {
		s.t.Errorf("redis-server: %v", err)
	}
	s.proc, s.paused = nil, false
}

// Kill ends the server as a crash would (SIGKILL), paused or not, and waits for
// its end.
func (s *Server) Kill() {
	if s.proc == nil {
		return
	}
	s.proc.Kill()
	s.proc, s.paused = nil, false
}

// Restart stops the server if it runs and starts it again: same port, same
// directory, same configuration.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
}

// Pause stops the server where it stands (SIGSTOP) until Resume: it accepts
// connections and answers nothing, as a machine that hangs.
func (s *Server) Pause() {
	s.t.Helper()
	if s.proc == nil {
		s.t.Fatalf("pause redis-server %s: it does not run", s.Addr)
	}
	if err := s.proc.Pause(); err != nil {
		s.t.Fatalf("pause redis-server: %v", err)
	}
	s.paused = true
}

// Resume lets a paused server go on (SIGCONT).
func (s *Server) Resume() {
	s.t.Helper()
	if s.proc == nil {
		s.t.Fatalf("resume redis-server %s: it does not run", s.Addr)
	}
	if err := s.proc.Resume(); err != nil {
		s.t.Fatalf("resume redis-server: %v", err)
	}
	s.paused = false
}

// runs says whether the server can answer.
func (s *Server) runs() bool { return s.proc != nil && !s.paused }

// PID returns the process id of the running server, 0 while it is stopped.
func (s *Server) PID() int {
	if s.proc == nil {
		return 0
	}
	return s.proc.PID()
}

func (s *Server) start() error {
	cmd := exec.Command(s.path, append([]string{filepath.Join(s.Dir, "redis.conf")}, s.args...)...)
	if len(s.env) > 0 {
		cmd.Env = append(cmd.Environ(), s.env...)
	}
	p, err := proc.StartCommand(cmd, s.ready)
	if err != nil {
		return err
	}
	s.proc = p
	return nil
}

// ready returns nil if the server says that it listens, and answers commands: any
// answer counts (one that wants a password says NOAUTH) but that it is still
// loading its data.
func (s *Server) ready(printed string) error {
	if !strings.Contains(printed, s.listening) {
		return errors.New("redis-server does not listen yet")
	}
	_, err := Try(s.Addr, "PING")
	if refused := ReplyError(""); errors.As(err, &refused) && !strings.HasPrefix(string(refused), "LOADING") {
		return nil
	}
	return err
}

// eventually polls until check returns nil, and fails the test with what it
// returned last if that takes longer than settleTimeout.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(settleTimeout); ; time.Sleep(20 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, settleTimeout, err)
		}
	}
}

// info returns a field of INFO, or why it cannot be had.
func info(addr, section, field string) (string, error) {
	reply, err := Try(addr, "INFO", section)
	if err != nil {
		return "", err
	}
	text, _ := reply.(string)
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("%s: INFO %s has no field %s", addr, section, field)
}
