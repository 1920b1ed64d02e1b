package redistest_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
)

// dial connects and makes sure that the connection has gone all the way.
func dial(t *testing.T, addr string) *redistest.Conn {
	t.Helper()
	c, err := redistest.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if got, err := c.Do("PING"); got != "PONG" || err != nil {
		t.Fatalf("PING: got %v, %v", got, err)
	}
	return c
}

// wantSilence fails the test if anything comes within 50 ms, be it an end.
func wantSilence(t *testing.T, why string, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: got %d bytes, %v; want silence", why, n, err)
	}
}

// wantReset fails the test if the connection is not reset.
func wantReset(t *testing.T, why string, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%s: got %d bytes, %v; want %v", why, n, err, syscall.ECONNRESET)
	}
}

func TestProxyCuts(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr)
	for range 2 {
		c := dial(t, p.Addr)
		p.Cut()
		wantReset(t, "a connection that is cut", c)
		if _, err := redistest.Dial(p.Addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("connect while cut: got %v, want %v", err, syscall.ECONNREFUSED)
		}
		p.Heal()
	}
	c := dial(t, p.Addr)
	s.Kill()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the server dies: got %v, want the end of the connection", err)
	}
}

func TestProxyIsAHole(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr)
	idle, old := dial(t, p.Addr), dial(t, p.Addr)
	p.Hole()
	young, err := redistest.Dial(p.Addr)
	if err != nil {
		t.Fatalf("connect into a hole: %v", err)
	}
	defer young.Close()
	for _, c := range []*redistest.Conn{old, young} {
		if err := c.Send("INCR", "n"); err != nil {
			t.Errorf("send into a hole: %v", err)
		}
		wantSilence(t, "from a hole", c)
	}
	p.Heal()
	wantReset(t, "a connection that lost something", old)
	wantReset(t, "a connection made in the hole", young)
	if got, err := idle.Do("GET", "n"); got != nil || err != nil {
		t.Errorf("on a connection that lost nothing: got %v, %v; want nil, nil", got, err)
	}
}

func TestProxyHoldsAndDeliversLate(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr)
	patient, gone := dial(t, p.Addr), dial(t, p.Addr)
	p.Hold()
	patient.Send("APPEND", "a", "x")
	wantSilence(t, "held", patient)
	gone.Send("APPEND", "b", "x")
	gone.Close()
	if got := redistest.Do(t, s.Addr, "EXISTS", "a", "b"); got != int64(0) {
		t.Errorf("keys while held: got %v, want 0", got)
	}
	p.Heal()
	if got, err := patient.Receive(); got != int64(1) || err != nil {
		t.Errorf("the reply that was held: got %v, %v; want 1", got, err)
	}
	for deadline := time.Now().Add(10 * time.Second); redistest.Do(t, s.Addr, "GET", "b") != "x"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the request of a client that gave up never arrived")
		}
	}
}

func TestProxyDelays(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr)
	c := dial(t, p.Addr)
	const delay = 50 * time.Millisecond
	p.Delay(delay)
	start := time.Now()
	const n = 20
	for range n {
		c.Send("PING")
		time.Sleep(time.Millisecond)
	}
	for range n {
		if _, err := c.Receive(); err != nil {
			t.Fatal(err)
		}
	}
	if got := time.Since(start); got < 2*delay || got > n*delay {
		t.Errorf("%d requests in a row: took %s; want at least %s and far less than %s", n, got, 2*delay, n*2*delay)
	}
}

func TestProxySlices(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr)
	c := dial(t, p.Addr)
	p.Slice(3)
	text := strings.Repeat("0123456789", 50)
	if got, err := c.Do("ECHO", text); got != text || err != nil {
		t.Errorf("ECHO: got %v, %v", got, err)
	}
	p.Heal()
	text = strings.Repeat(text, 2000) // more than a chunk
	if got, err := c.Do("ECHO", text); got != text || err != nil {
		t.Errorf("ECHO of %d bytes: %v", len(text), err)
	}
}

func TestProxyDropsTheReplyAndNotTheRequest(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr)
	for _, row := range []struct {
		why  string
		send func(c net.Conn, requests []byte)
	}{
		{"in one piece", func(c net.Conn, b []byte) { c.Write(b) }},
		{"cut anywhere", func(c net.Conn, b []byte) {
			for i := range b {
				c.Write(b[i : i+1])
				if i%7 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}},
	} {
		redistest.Do(t, s.Addr, "FLUSHALL")
		other, c := dial(t, p.Addr), dial(t, p.Addr)
		var seen []string
		dropped := p.DropNextReplyMatching(func(request []byte) bool {
			seen = append(seen, string(request))
			return bytes.Contains(request, []byte("INCR\r\n$1\r\nb\r\n"))
		})
		var all []byte
		var want []string
		for _, key := range []string{"a", "b", "c"} {
			request := redistest.Request("INCR", key)
			all, want = append(all, request...), append(want, string(request))
		}
		row.send(c, all)
		select {
		case <-dropped:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: the reply was not dropped", row.why)
		}
		if got, want := redistest.Do(t, s.Addr, "MGET", "a", "b", "c"), []any{"1", "1", nil}; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: a, b, c: got %v, want %v", row.why, got, want)
		}
		if !reflect.DeepEqual(seen, want[:2]) {
			t.Errorf("%s: match was given %q, want %q", row.why, seen, want[:2])
		}
		// The reply to a may have come before b was sent.
		var reset error
		for reset == nil {
			_, reset = c.Receive()
		}
		// A write that met the reset leaves EOF to the read.
		if !errors.Is(reset, syscall.ECONNRESET) && reset != io.EOF {
			t.Errorf("%s: the client got %v, want %v", row.why, reset, syscall.ECONNRESET)
		}
		if got, err := other.Do("INCR", "b"); got != int64(2) || err != nil {
			t.Errorf("%s: another connection: got %v, %v; want 2", row.why, got, err)
		}
	}
}

func TestProxyDropsAsManyRepliesAsItIsTold(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr)
	p.DropReplies(2)
	for i, lost := range []bool{true, true, false} {
		if _, err := redistest.Try(p.Addr, "INCR", "n"); (err != nil) != lost {
			t.Errorf("request %d: got %v, want lost %t", i, err, lost)
		}
	}
	if got := redistest.Do(t, s.Addr, "GET", "n"); got != "3" {
		t.Errorf("requests executed: got %v, want 3", got)
	}
	p.DropReplies(1)
	p.Heal()
	if _, err := redistest.Try(p.Addr, "INCR", "n"); err != nil {
		t.Errorf("healed before it happened: got %v", err)
	}
}

// TestProxyLeavesNothingBehind runs alone, for it counts goroutines.
func TestProxyLeavesNothingBehind(t *testing.T) {
	s := redistest.Start(t)
	before := runtime.NumGoroutine()
	for _, fault := range []func(*redistest.Proxy){
		func(*redistest.Proxy) {},
		(*redistest.Proxy).Cut,
		(*redistest.Proxy).Hole,
		(*redistest.Proxy).Hold,
		func(p *redistest.Proxy) { p.Delay(time.Hour) },
		func(p *redistest.Proxy) { p.DropReplies(1) },
	} {
		p := redistest.NewProxy(t, s.Addr)
		c := dial(t, p.Addr)
		fault(p)
		c.Send("BLPOP", "nothing", "0")
		p.Close()
		if got := p.Connections(); got != 0 {
			t.Errorf("connections of a closed proxy: got %d, want 0", got)
		}
		p.Heal()
		if _, err := redistest.Dial(p.Addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("connect to a closed proxy: got %v, want %v", err, syscall.ECONNREFUSED)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("goroutines: %d before, %d after\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
	}
}
