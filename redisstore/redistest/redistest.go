// Package redistest starts throwaway redis-servers for tests: real ones, on free
// ports of 127.0.0.1, with a directory of their own, gone with the test.
package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest/proc"
)

// portAttempts is how many ports are tried: between finding a port free and
// redis-server binding it another process may take it.
const portAttempts = 5

// Server is a standalone redis-server.
type Server struct {
	Addr string // "127.0.0.1:port"
	Dir  string // its working directory: RDB, AOF and config file
	Port int

	t    testing.TB
	path string
	proc *proc.Process // nil while stopped
}

// Start runs a redis-server on a free port with the given lines added to its
// configuration ("requirepass secret", "appendonly yes") and waits until it
// answers. Without lines it persists nothing. It stops when the test ends. A
// missing redis-server fails the test.
func Start(t testing.TB, conf ...string) *Server {
	t.Helper()
	s := &Server{t: t, path: proc.Find(t, "redis-server", "redis-server"), Dir: t.TempDir()}
	t.Cleanup(s.Kill)
	var err error
	for range portAttempts {
		s.Port = FreePort(t)
		s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port))
		lines := append([]string{
			"bind 127.0.0.1",
			"port " + strconv.Itoa(s.Port),
			"dir " + s.Dir,
			"daemonize no",
			"loglevel notice",
			`save ""`,
			"appendonly no",
			"repl-diskless-sync-delay 0",
		}, conf...)
		if err := os.WriteFile(s.config(), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err = s.start(); err == nil {
			return s
		}
		if !strings.Contains(err.Error(), "Address already in use") {
			break
		}
	}
	t.Fatal(err)
	return nil
}

// FreePort returns a TCP port of 127.0.0.1 that nobody listened on a moment ago,
// for a "tls-port" line.
func FreePort(t testing.TB) int {
	t.Helper()
	return proc.FreePort(t)
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
	s.proc = nil
}

// Kill ends the server as a crash would (SIGKILL) and waits for its end.
func (s *Server) Kill() {
	if s.proc == nil {
		return
	}
	s.proc.Kill()
	s.proc = nil
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

// PID returns the process id of the running server, 0 while it is stopped.
func (s *Server) PID() int {
	if s.proc == nil {
		return 0
	}
	return s.proc.PID()
}

func (s *Server) config() string { return filepath.Join(s.Dir, "redis.conf") }

func (s *Server) start() error {
	p, err := proc.Start(s.path, []string{s.config()}, s.ready)
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
	if !strings.Contains(printed, "Ready to accept connections") {
		return errors.New("redis-server does not listen yet")
	}
	c, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err
	}
	if strings.HasPrefix(line, "-LOADING") {
		return fmt.Errorf("redis-server: %s", strings.TrimSpace(line))
	}
	return nil
}
