package actions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/beanstalkd/go-beanstalk"

	"github.com/snower/forsun/actions/actionstest"
	"github.com/snower/forsun/scheduler"
)

func newBeanstalk(t *testing.T) *Beanstalk {
	t.Helper()
	a := NewBeanstalk(DefaultBeanstalkOptions())
	t.Cleanup(func() { a.Close() })
	return a
}

// addressOf are the parameters that lead to s.
func addressOf(s *actionstest.Server) map[string]string {
	return map[string]string{"host": s.Host, "port": s.Port}
}

func TestBeanstalkCheck(t *testing.T) {
	a := newBeanstalk(t)
	for _, row := range []struct {
		why    string
		params map[string]string
		kind   error
		field  string
	}{
		{"defaults, an empty job", map[string]string{}, nil, ""},
		{"everything", map[string]string{"host": "h", "port": "11301", "name": "etask", "body": "{}", "other": "x"}, nil, ""},
		{"every character a tube may have", map[string]string{"name": "aZ09-+/;.$_()"}, nil, ""},
		{"199 bytes", map[string]string{"name": strings.Repeat("n", 199)}, nil, ""},
		{"a body larger than the default limit: the server may have another", map[string]string{"body": strings.Repeat("b", 70000)}, nil, ""},
		{"200 bytes", map[string]string{"name": strings.Repeat("n", 200)}, scheduler.ErrParams, "params.name"},
		{"a blank", map[string]string{"name": "a b"}, scheduler.ErrParams, "params.name"},
		{"another command", map[string]string{"name": "a\r\nkick 1"}, scheduler.ErrParams, "params.name"},
		{"a first hyphen", map[string]string{"name": "-a"}, scheduler.ErrParams, "params.name"},
		{"a backslash", map[string]string{"name": `a\b`}, scheduler.ErrParams, "params.name"},
		{"not ASCII", map[string]string{"name": "é"}, scheduler.ErrParams, "params.name"},
		{"port", map[string]string{"port": "x"}, scheduler.ErrParams, "params.port"},
	} {
		wantField(t, row.why, a.Check(row.params), row.kind, row.field)
	}
	if got, want := a.Target(map[string]string{"host": "h"}), "h:11300"; got != want {
		t.Errorf("Target: got %q, want %q", got, want)
	}
	if got, want := a.Timeout(nil), 30*time.Second; got != want {
		t.Errorf("Timeout: got %s, want %s", got, want)
	}
}

// TestBeanstalkJobs: what a consumer finds.
func TestBeanstalkJobs(t *testing.T) {
	t.Parallel()
	s := actionstest.StartBeanstalkd(t)
	consumer, err := beanstalk.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	a := newBeanstalk(t)
	id := string(firingOf(nil).ID())
	for _, row := range []struct{ why, name, body, tube, want string }{
		{"the default tube", "", "{}", "default", "{}"},
		{"another tube", "etask", "{}", "etask", "{}"},
		{"back in the first, on the same connection", "", "a", "default", "a"},
		{"nothing", "etask", "", "etask", ""},
		{"bytes as stored", "etask", "\x00\r\n\xff'\\\"${x} ", "etask", "\x00\r\n\xff'\\\"${x} "},
		{"tokens", "etask", `{"id":"${firing.id}","due":${firing.due},"n":${firing.attempt}}`, "etask", `{"id":"` + id + `","due":1795345900,"n":1}`},
		{"as large as it may be", "etask", strings.Repeat("x", 65535), "etask", strings.Repeat("x", 65535)},
	} {
		out := must(t, a, firingOf(addressOf(s), "name", row.name, "body", row.body))
		job, body, err := beanstalk.NewTubeSet(consumer, row.tube).Reserve(5 * time.Second)
		if err != nil {
			t.Fatalf("%s: reserve: %v", row.why, err)
		}
		if string(body) != row.want {
			t.Errorf("%s: body: got %q, want %q", row.why, body, row.want)
		}
		if want := fmt.Sprintf("INSERTED %d", job); out != want {
			t.Errorf("%s: output: got %q, want %q", row.why, out, want)
		}
		stats, err := consumer.StatsJob(job)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"tube": row.tube, "pri": "2147483648", "delay": "0", "ttr": "7200"} {
			if got := stats[name]; got != want {
				t.Errorf("%s: %s: got %s, want %s", row.why, name, got, want)
			}
		}
		consumer.Delete(job)
	}
	stats, err := consumer.Stats()
	if got, want := stats["total-connections"], "2"; err != nil || got != want {
		t.Errorf("connections of the action and the consumer: got %s, %v, want %s", got, err, want)
	}
}

// silence at the end of a scripted answer keeps the connection open.
const silence = "…silence"

// scripted is a server that answers the next connection with answer as soon as
// it has got want bytes, and closes it. It returns what it got.
func scripted(t *testing.T, want int, answer string) (params map[string]string, got func() string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var request []byte
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		request = make([]byte, want)
		n, _ := io.ReadFull(c, request)
		request = request[:n]
		io.WriteString(c, strings.TrimSuffix(answer, silence))
		if strings.HasSuffix(answer, silence) {
			c.Read(make([]byte, 1)) // until the action closes it
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	host, port, _ := net.SplitHostPort(l.Addr().String())
	return map[string]string{"host": host, "port": port}, func() string { wg.Wait(); return string(request) }
}

// TestBeanstalkWire: byte for byte what the Python forsun sent, and what becomes
// of each answer, of which a real server gives some only when it is in trouble.
func TestBeanstalkWire(t *testing.T) {
	t.Parallel()
	const request = "use etask\r\nput 2147483648 0 7200 2\r\n{}\r\n"
	for _, row := range []struct {
		answer    string
		ok        bool
		retryable bool
		text      string
	}{
		{"USING etask\r\nINSERTED 12\r\n", true, false, ""},
		{"USING etask\r\nJOB_TOO_BIG\r\n", false, false, "the body has 2 bytes; beanstalkd takes 65535"},
		{"USING etask\r\nEXPECTED_CRLF\r\n", false, false, "expected CR LF"},
		{"BAD_FORMAT\r\nINSERTED 12\r\n", false, false, "bad command format"},
		{"USING etask\r\nDRAINING\r\n", false, true, "draining"},
		{"OUT_OF_MEMORY\r\nOUT_OF_MEMORY\r\n", false, true, "out of memory"},
		{"USING etask\r\nINTERNAL_ERROR\r\n", false, true, "internal error"},
		{"USING etask\r\nBURIED 12\r\n", false, true, "BURIED 12"},
		{"HTTP/1.1 400 Bad Request\r\n\r\n", false, false, "unknown response"},
		{strings.Repeat("x", 100000) + "\r\n", false, false, "…"},
		{"USING etask\r\nINSER" + silence, false, true, "deadline"},
		{"USING etask\r\nINSER", false, true, "EOF"},
		{"", false, true, "EOF"},
	} {
		params, got := scripted(t, len(request), row.answer)
		a := newBeanstalk(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if !strings.HasSuffix(row.answer, silence) {
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
		}
		out, err := a.Execute(ctx, firingOf(params, "name", "etask", "body", "{}"))
		cancel()
		why := scheduler.Shorten(row.answer, 40)
		if row.ok {
			if err != nil || string(out) != "INSERTED 12" {
				t.Errorf("%s: got %q, %v", why, out, err)
			}
		} else {
			wantFailure(t, why, err, row.retryable, row.text)
			if err != nil && len(err.Error()) > maxErrorText+10 {
				t.Errorf("%s: the error has %d bytes", why, len(err.Error()))
			}
		}
		a.Close()
		if got := got(); got != request {
			t.Errorf("%s: request: got %q, want %q", why, got, request)
		}
	}
}

func TestBeanstalkServerErrors(t *testing.T) {
	t.Parallel()
	s := actionstest.StartBeanstalkd(t, "-z", "100")
	a := newBeanstalk(t)
	_, err := attempt(t, a, firingOf(addressOf(s), "body", strings.Repeat("x", 101)))
	wantFailure(t, "larger than -z", err, false, "beanstalk "+s.Addr, "job too big", "101 bytes")
	if !errors.Is(err, beanstalk.ErrJobTooBig) {
		t.Errorf("got %v, want an error that is ErrJobTooBig", err)
	}
	must(t, a, firingOf(addressOf(s), "body", strings.Repeat("x", 100)))

	if err := syscall.Kill(s.PID(), syscall.SIGUSR1); err != nil { // drain
		t.Fatal(err)
	}
	waitFor(t, "the server to drain", func() bool {
		_, err = attempt(t, a, firingOf(addressOf(s), "body", "x"))
		return err != nil && strings.Contains(err.Error(), "draining")
	})
	wantFailure(t, "draining", err, true, "draining")
	s.Restart()
	must(t, a, firingOf(addressOf(s), "body", "x"))
	s.Stop()
	_, err = attempt(t, a, firingOf(addressOf(s), "body", "x"))
	wantFailure(t, "stopped", err, true, s.Addr)
}

// TestBeanstalkReconnects: a connection that broke while it was idle costs
// nothing.
func TestBeanstalkReconnects(t *testing.T) {
	t.Parallel()
	s := actionstest.StartBeanstalkd(t)
	a := newBeanstalk(t)
	for _, restart := range []bool{false, true} {
		must(t, a, firingOf(addressOf(s), "body", "x"))
		l, err := a.pool.Get(t.Context(), s.Addr, 1)
		if err != nil || !l.Reused {
			t.Fatalf("get the idle connection: %v, reused %t", err, l.Reused)
		}
		first := l.Conn
		first.conn.used = time.Now().Add(-time.Minute)
		l.Release()
		if restart {
			s.Restart()
		}
		if got, want := must(t, a, firingOf(addressOf(s), "body", "x")), "INSERTED "; !strings.HasPrefix(got, want) {
			t.Errorf("restart %t: got %q, want %q…", restart, got, want)
		}
		if l, err = a.pool.Get(t.Context(), s.Addr, 1); err != nil {
			t.Fatal(err)
		}
		if got, want := l.Conn == first, !restart; got != want {
			t.Errorf("restart %t: same connection: got %t, want %t", restart, got, want)
		}
		l.Release()
	}
}

func TestBeanstalkEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	wantEndAtDeadline(t, newBeanstalk(t), firingOf(addressOf(actionstest.StartSilent(t)), "body", "x"))
}

// TestBeanstalkMaxIdle: the bound on unused connections holds over all targets.
func TestBeanstalkMaxIdle(t *testing.T) {
	t.Parallel()
	options := DefaultBeanstalkOptions()
	options.MaxIdle = 1
	a := NewBeanstalk(options)
	defer a.Close()
	first, second := actionstest.StartBeanstalkd(t), actionstest.StartBeanstalkd(t)
	must(t, a, firingOf(addressOf(first), "body", "x"))
	must(t, a, firingOf(addressOf(second), "body", "x"))
	l, err := a.pool.Get(t.Context(), first.Addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	if l.Reused {
		t.Error("the first target's connection is still there; MaxIdle is 1")
	}
	l.Discard()
}
