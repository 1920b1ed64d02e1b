package app

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// supervisor tells the service manager that started this process how it is, as
// sd_notify(3) has it: each message is a datagram of lines NAME=value. A nil
// supervisor is that of a process that nobody supervises; it does nothing.
type supervisor struct {
	address string        // of the manager's socket; a leading @ is Linux' abstract namespace
	every   time.Duration // between signs of life; 0: none are wanted
	log     zerolog.Logger
}

const (
	// notifyTimeout bounds what telling the manager may take. It reads at once, or
	// not at all.
	notifyTimeout = time.Second
	// statusEvery is how often the status is told to a manager that wants no signs
	// of life.
	statusEvery = 10 * time.Second
	// leastWatchdog keeps a wrong WATCHDOG_USEC from keeping a processor busy.
	leastWatchdog = 100 * time.Millisecond
)

// Supervised returns whether a service manager wants to be told how this process
// is: then SIGHUP is its reload, with or without files to read again.
func Supervised(env func(string) (string, bool)) bool {
	address, ok := env("NOTIFY_SOCKET")
	return ok && (strings.HasPrefix(address, "/") || strings.HasPrefix(address, "@"))
}

// newSupervisor reads the manager's wishes from the environment: NOTIFY_SOCKET, and
// WATCHDOG_USEC if they are for this process.
func newSupervisor(env func(string) (string, bool), pid int, log zerolog.Logger) *supervisor {
	if !Supervised(env) {
		return nil
	}
	s := &supervisor{log: log}
	s.address, _ = env("NOTIFY_SOCKET")
	if text, ok := env("WATCHDOG_USEC"); ok {
		usec, err := strconv.ParseInt(text, 10, 64)
		of, named := env("WATCHDOG_PID")
		if err == nil && usec > 0 && (!named || of == strconv.Itoa(pid)) {
			// A third, so that one that comes late is no death.
			s.every = max(time.Duration(usec)*time.Microsecond, leastWatchdog) / 3
		}
	}
	return s
}

// tell sends a message. That it cannot be sent is no reason to stop.
func (s *supervisor) tell(lines ...string) {
	if s == nil {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.address, Net: "unixgram"})
	if err == nil {
		conn.SetDeadline(time.Now().Add(notifyTimeout))
		_, err = conn.Write([]byte(strings.Join(lines, "\n")))
		conn.Close()
	}
	if err != nil {
		s.log.Warn().Err(err).Msg("cannot tell the service manager")
	}
}

// starting says what the start waits for.
func (s *supervisor) starting(what string) { s.tell("STATUS=" + what) }

// ready says that everything serves, at the start and after a reload.
func (s *supervisor) ready() { s.tell("READY=1", "STATUS=serving") }

// reloading says that files are being read again.
func (s *supervisor) reloading() {
	s.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", monotonic().Microseconds()))
}

// stopping says that the process ends, and by when it will have ended: however
// long a drain was asked for, the manager is not to cut it off.
func (s *supervisor) stopping(bound time.Duration) {
	s.tell("STOPPING=1", "STATUS=draining", fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (bound+5*time.Second).Microseconds()))
}

// run gives signs of life and the status until stop is closed. progress says why
// this process makes none, "" if it does, and what it does; it is asked before
// every sign of life, so one that does not return gives none either.
func (s *supervisor) run(stop <-chan struct{}, progress func() (stuck, status string)) {
	if s == nil {
		return
	}
	every := statusEvery
	if s.every > 0 {
		every = s.every
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	said, saidAt, wrong := "", time.Time{}, ""
	for {
		var lines []string
		why, text := progress()
		if why != "" {
			text = "stuck: " + why
			if wrong == "" {
				s.log.Error().Str("why", why).Msg("no progress: the service manager gets no sign of life")
			}
		} else if s.every > 0 {
			lines = append(lines, "WATCHDOG=1")
		}
		if text != said && (why != "" || time.Since(saidAt) >= statusEvery) {
			said, saidAt = text, time.Now()
			lines = append(lines, "STATUS="+oneLineText(text))
		}
		wrong = why
		if len(lines) > 0 {
			s.tell(lines...)
		}
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

// oneLineText is text that cannot be taken for more than one line.
func oneLineText(s string) string { return strings.ReplaceAll(s, "\n", "; ") }

// forgetSupervisor takes the manager's wishes out of the environment: they are
// this process's, not those of what it starts.
func forgetSupervisor() {
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		os.Unsetenv(name)
	}
}
