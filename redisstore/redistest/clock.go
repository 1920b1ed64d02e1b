package redistest

import (
	_ "embed"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest/proc"
)

//go:embed clock/shim.c
var clockShim []byte

// ClockServer is a redis-server whose wall clock the test steps.
type ClockServer struct {
	*Server

	offset time.Duration
	file   *os.File // holds offset, mapped by the server
}

// StartWithClock runs a redis-server, with the given lines added to its
// configuration, whose wall clock is this machine's plus what Step added. It
// compiles a library that the server is started with, which takes about 0.1 s,
// gcc, and Linux.
func StartWithClock(t testing.TB, conf ...string) *ClockServer {
	t.Helper()
	s := &ClockServer{Server: newServer(t)}
	source, library := filepath.Join(s.Dir, "shim.c"), filepath.Join(s.Dir, "shim.so")
	if err := os.WriteFile(source, clockShim, 0o600); err != nil {
		t.Fatal(err)
	}
	gcc := proc.Find(t, "gcc", "gcc", "cc")
	if out, err := exec.Command(gcc, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source).CombinedOutput(); err != nil {
		t.Fatalf("compile the clock of redis-server: %v\n%s", err, out)
	}
	var err error
	if s.file, err = os.Create(filepath.Join(s.Dir, "clock")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.file.Close() })
	s.Step(0)
	s.env = []string{"LD_PRELOAD=" + library, "REDISTEST_CLOCK=" + s.file.Name()}
	onFreePorts(t, func() error {
		s.choosePort()
		s.configure(conf...)
		return s.start()
	})
	return s
}

// Step moves the server's wall clock by d, ahead or back, at once. A restart
// keeps what it is ahead or behind.
func (s *ClockServer) Step(d time.Duration) {
	s.t.Helper()
	s.offset += d
	if _, err := s.file.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(s.offset)), 0); err != nil {
		s.t.Fatalf("step the clock of redis-server: %v", err)
	}
}

// Offset returns how far the server's clock is ahead of this machine's.
func (s *ClockServer) Offset() time.Duration { return s.offset }
