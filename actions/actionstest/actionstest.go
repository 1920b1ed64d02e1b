// Package actionstest starts throwaway servers that actions talk to: a real
// MariaDB and a real beanstalkd, on free ports of 127.0.0.1, with directories of
// their own, gone with the test; and a peer that never answers. A server that is
// not installed fails the test. For Redis see redisstore/redistest.
package actionstest

import (
	"errors"
	"net"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/snower/forsun/redisstore/redistest/proc"
)

// portAttempts is how many ports are tried: between finding a port free and the
// server binding it another process may take it.
const portAttempts = 5

// Server is a running server.
type Server struct {
	Host string // 127.0.0.1
	Port string
	Addr string // host:port

	t     testing.TB
	path  string
	args  func(port string) []string
	ready func(printed string) error
	proc  *proc.Process // nil while stopped
}

// StartMariaDB runs a mariadbd with a data directory of its own and further
// arguments ("--max-connections=5"). Its account root has no password and may
// come in from 127.0.0.1. It takes 2 to 3 s: share one between subtests.
func StartMariaDB(t testing.TB, args ...string) *Server {
	t.Helper()
	install := proc.Find(t, "mariadb-server", "mariadb-install-db", "mysql_install_db")
	dir := t.TempDir()
	common := []string{"--no-defaults", "--datadir=" + dir}
	if u, err := user.Current(); err == nil && u.Uid == "0" {
		common = append(common, "--user=root") // it refuses to run as root unless told to
	}
	out, err := exec.Command(install, append(common[:len(common):len(common)],
		"--auth-root-authentication-method=normal", "--skip-test-db")...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", install, err, out)
	}
	s := &Server{t: t, path: proc.Find(t, "mariadb-server", "mariadbd", "mysqld")}
	s.args = func(port string) []string {
		return append(append(common[:len(common):len(common)],
			"--port="+port,
			"--bind-address=127.0.0.1",
			"--socket="+filepath.Join(dir, "s"),
			"--pid-file="+filepath.Join(dir, "pid"),
			"--skip-log-bin",
			"--innodb-buffer-pool-size=8M",
			"--innodb-flush-log-at-trx-commit=0", // nobody needs its data after a crash
		), args...)
	}
	s.ready = func(printed string) error {
		if !strings.Contains(printed, "ready for connections") {
			return errors.New("mariadbd does not listen yet")
		}
		return nil
	}
	s.startOnFreePort()
	return s
}

// StartBeanstalkd runs a beanstalkd, with further arguments ("-z", "100").
func StartBeanstalkd(t testing.TB, args ...string) *Server {
	t.Helper()
	s := &Server{t: t, path: proc.Find(t, "beanstalkd", "beanstalkd")}
	s.args = func(port string) []string {
		return append([]string{"-V", "-l", "127.0.0.1", "-p", port}, args...) // -V: it prints what it bound
	}
	s.ready = func(printed string) error {
		if !strings.Contains(printed, "bind ") {
			return errors.New("beanstalkd does not listen yet")
		}
		return nil
	}
	s.startOnFreePort()
	return s
}

func (s *Server) startOnFreePort() {
	s.t.Helper()
	s.t.Cleanup(s.Stop)
	var err error
	for range portAttempts {
		s.Host, s.Port = "127.0.0.1", strconv.Itoa(proc.FreePort(s.t))
		s.Addr = net.JoinHostPort(s.Host, s.Port)
		if err = s.start(); err == nil {
			return
		}
		if !strings.Contains(err.Error(), "ddress already in use") {
			break
		}
	}
	s.t.Fatal(err)
}

func (s *Server) start() error {
	p, err := proc.Start(s.path, s.args(s.Port), s.ready)
	if err != nil {
		return err
	}
	s.proc = p
	return nil
}

// Stop ends the server and waits for its end.
func (s *Server) Stop() {
	s.t.Helper()
	if s.proc == nil {
		return
	}
	if err := s.proc.Stop(); err != nil {
		s.t.Errorf("%s: %v", s.path, err)
	}
	s.proc = nil
}

// Restart stops the server if it runs and starts it again on the same port.
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

// StartSilent listens, accepts connections, and never says a word: the peer that
// hangs.
func StartSilent(t testing.TB) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		var held []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			held = append(held, c)
		}
		for _, c := range held {
			c.Close()
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	s := &Server{t: t, Addr: l.Addr().String()}
	s.Host, s.Port, _ = net.SplitHostPort(s.Addr)
	return s
}
