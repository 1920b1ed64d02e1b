package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal with the program on it.
type terminal struct {
	t      *testing.T
	master *os.File

	mu     sync.Mutex
	screen strings.Builder // all that was written to it
}

// openTerminal returns both ends of a new pseudo-terminal of 80 columns.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// onTerminal runs the program on a terminal until the test ends. wait returns its
// exit status.
func (s *server) onTerminal(t *testing.T, state string, args ...string) (term *terminal, wait func() int) {
	t.Helper()
	dir := program(t)
	master, slave := openTerminal(t)
	cmd := exec.Command(filepath.Join(dir, "forsun"), args...)
	cmd.Env = []string{
		"FORSUN_HOST=" + s.host, "FORSUN_PORT=" + s.port, "TZ=UTC", "TERM=xterm", "XDG_STATE_HOME=" + state,
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	term = &terminal{t: t, master: master}
	var reading sync.WaitGroup
	reading.Go(func() {
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			term.mu.Lock()
			term.screen.Write(b[:n])
			term.mu.Unlock()
			if err != nil { // EIO, when the program is gone
				return
			}
		}
	})
	ended := make(chan int, 1)
	go func() {
		cmd.Wait()
		ended <- cmd.ProcessState.ExitCode()
	}()
	code, done := 0, false
	wait = func() int {
		if !done {
			select {
			case code = <-ended:
			case <-time.After(10 * time.Second):
				t.Errorf("the program did not end; the terminal shows\n%s", term.shows())
				cmd.Process.Kill()
				code = <-ended
			}
			done = true
		}
		return code
	}
	t.Cleanup(func() {
		if !done {
			cmd.Process.Kill()
			wait()
		}
		reading.Wait()
		master.Close()
	})
	return term, wait
}

func (term *terminal) shows() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.screen.String()
}

// types presses keys and waits until what was written since has want in it.
func (term *terminal) types(keys, want string) {
	term.t.Helper()
	before := len(term.shows())
	if _, err := term.master.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
	eventually(term.t, fmt.Sprintf("%q shows %q", keys, want), func() bool {
		return strings.Contains(term.shows()[before:], want)
	})
}

func TestPrompt(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	state := t.TempDir()
	term, wait := s.onTerminal(t, state)
	term.types("", "forsun> ")
	term.types("set hello */60/1 * * * * * shell 'echo hi'\r", "2026-11-22 11:11:39+00:00 hello */60/1 * * * * * shell \"cmd='echo hi'\"")
	term.types("nosuch; ls\r", "Unknown cmd")
	term.types("get hel\t", "get hello")
	term.types("\r", `"cmd='echo hi'"`)
	term.types("half a line\x03", "\r\n") // Ctrl-C
	term.types("set p */60/1 * * * * * mysql 'sql=a;passwd=hunter2'\r", "passwd='***'")
	term.types(" get p\r", "passwd='***'")
	term.types("\x12nosu", "nosuch; ls") // Ctrl-R
	term.types("\x03help rm\r", "remove a plan")
	term.types("import -\r", "allowed here: a file")
	term.types("shards\r", "\x1b[31m(none)\x1b[0m") // a leader is missing, in red
	if _, err := term.master.WriteString("exit\r"); err != nil {
		t.Fatal(err)
	}
	if code := wait(); code != 0 {
		t.Errorf("exit status %d, want 0", code)
	}

	file := filepath.Join(state, "forsun", "history")
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the history has mode %o, want 600", info.Mode().Perm())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := "set hello */60/1 * * * * * shell 'echo hi'\nnosuch; ls\nget hello\nhelp rm\nimport -\nshards\nexit\n"
	if string(text) != want {
		t.Errorf("history:\n%s\nwant, without the password and the line that begins with a blank,\n%s", text, want)
	}

	// The next prompt has it. Ctrl-D ends.
	term, wait = s.onTerminal(t, state)
	term.types("", "forsun> ")
	term.types("\x1b[A\x1b[A\x1b[A\x1b[A", "help rm")
	term.types("\r", "remove a plan")
	if _, err := term.master.WriteString("\x04"); err != nil {
		t.Fatal(err)
	}
	if code := wait(); code != 0 {
		t.Errorf("exit status after Ctrl-D %d, want 0", code)
	}
}

// On a terminal an import shows how far it is.
func TestImportOnTerminal(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	file := filepath.Join(t.TempDir(), "plans")
	lines := strings.Repeat("bad\n", 10) + strings.Repeat("k */60 * * * * * shell ls\n", 5000)
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	term, wait := s.onTerminal(t, t.TempDir(), "import", file)
	if code := wait(); code != 1 {
		t.Errorf("exit status %d, want 1", code)
	}
	eventually(t, "the whole output", func() bool { return strings.Contains(term.shows(), "5000 stored, 10 failed\r\n") })
	if !strings.Contains(term.shows(), "import") || !strings.Contains(term.shows(), "%") {
		t.Errorf("no progress: %s", term.shows())
	}
}
