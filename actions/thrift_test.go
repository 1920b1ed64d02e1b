package actions

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/snower/forsun/rpc/gen/forsun"
)

// thriftCall is what a receiver got.
type thriftCall struct {
	key    string
	ts     int32
	params map[string]string
}

// receiver is a Thrift service as users run one: generated code on the library's
// server, with the methods but forsun_call left out.
type receiver struct {
	forsun.Forsun
	handle func(ctx context.Context) error

	mu    sync.Mutex
	calls []thriftCall
}

func (r *receiver) ForsunCall(ctx context.Context, key string, ts int32, params map[string]string) error {
	r.mu.Lock()
	r.calls = append(r.calls, thriftCall{key, ts, params})
	r.mu.Unlock()
	if r.handle != nil {
		return r.handle(ctx)
	}
	return nil
}

func (r *receiver) received() []thriftCall {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]thriftCall(nil), r.calls...)
}

// countingListener counts connections, and can cut them all.
type countingListener struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
	total int
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns, c)
		l.total++
		l.mu.Unlock()
	}
	return c, err
}

// cut closes the connections accepted so far and returns how many were ever
// accepted.
func (l *countingListener) cut() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
	return l.total
}

func (l *countingListener) accepted() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// listen returns a listener on a free port, closed with the test, and the
// parameters of a plan for it.
func listen(t *testing.T) (*countingListener, map[string]string) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &countingListener{Listener: inner}
	t.Cleanup(func() { l.Close(); l.cut() })
	host, port, _ := net.SplitHostPort(inner.Addr().String())
	return l, map[string]string{"host": host, "port": port}
}

// serveThrift serves r unframed and binary, until the test ends.
func serveThrift(t *testing.T, r *receiver) (*countingListener, map[string]string) {
	t.Helper()
	l, params := listen(t)
	processor := forsun.NewForsunProcessor(r)
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer conn.Close()
				protocol := thrift.NewTBinaryProtocolConf(thrift.NewStreamTransportRW(conn), nil)
				for {
					if ok, err := processor.Process(context.Background(), protocol, protocol); !ok || err != nil && errors.Is(err, io.EOF) {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); l.cut(); served.Wait() })
	return l, params
}

func newThrift(t *testing.T) *Thrift {
	t.Helper()
	a := NewThrift(DefaultThriftOptions())
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return a
}

func TestThriftCheck(t *testing.T) {
	testCheck(t, newThrift(t), []checkRow{
		{"nothing given", nil, ""},
		{"everything", map[string]string{"host": "h", "port": "1", "max_connections": "9", "mine": "x"}, ""},
		{"host with port", map[string]string{"host": "h:1"}, "params.host: h:1 is not allowed; allowed: a host name or an IP address, without port"},
		{"port", map[string]string{"port": "99999"}, "params.port: 99999 is not allowed; allowed: 1 to 65535"},
		{"connections", map[string]string{"max_connections": "many"}, "params.max_connections: many is not allowed; allowed: 1 to 1024"},
	})
	if got, want := newThrift(t).Target(nil), "127.0.0.1:5643"; got != want {
		t.Errorf("Target: got %q, want %q", got, want)
	}
}

func TestThriftCalls(t *testing.T) {
	r := &receiver{}
	l, params := serveThrift(t, r)
	params["mine"] = "süß;\x00"
	params["forsun.timeout"] = "7"
	a := newThrift(t)
	for range 3 {
		must(t, a, testFiring(params))
	}
	calls := r.received()
	if len(calls) != 3 {
		t.Fatalf("got %d calls, want 3", len(calls))
	}
	for _, call := range calls {
		if call.key != "pläne/50%" || call.ts != 1700000000 || !maps.Equal(call.params, params) {
			t.Errorf("got %+v, want the key, the due second and all of %v", call, params)
		}
	}
	if n := l.accepted(); n != 1 {
		t.Errorf("three calls, one after another, took %d connections, want 1", n)
	}
}

// The bytes are those of an unframed, strict binary call.
func TestThriftWire(t *testing.T) {
	l, params := listen(t)
	request := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			request <- err.Error()
			return
		}
		defer conn.Close()
		b := make([]byte, 4096)
		n, _ := conn.Read(b) // a call is one write
		request <- string(b[:n])
		io.WriteString(conn, "\x80\x01\x00\x02\x00\x00\x00\x0bforsun_call\x00\x00\x00\x01\x00")
		conn.Read(b) // until the action closes it
	}()
	a := newThrift(t)
	f := testFiring(params)
	f.Plan.Key = "k"
	must(t, a, f)
	got := <-request
	want := "\x80\x01\x00\x01\x00\x00\x00\x0bforsun_call\x00\x00\x00\x01" + // strict call, seqid 1
		"\x0b\x00\x01\x00\x00\x00\x01k" + // 1: key
		"\x08\x00\x02\x65\x53\xf1\x00" + // 2: ts
		"\x0d\x00\x03\x0b\x0b\x00\x00\x00\x02" // 3: params, two of them
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "\x00") {
		t.Errorf("got %q, want %q…", got, want)
	}
}

func TestThriftFailures(t *testing.T) {
	refused, refusing := listen(t)
	refused.Close()
	tests := []struct {
		why   string
		reply func(conn net.Conn, seq uint32) // nil: nobody listens
		retry bool
		texts []string
	}{
		{"nobody listens", nil, true, []string{"connection refused"}},
		{"closed without a reply", func(net.Conn, uint32) {}, true, []string{"no reply", "EOF"}},
		{
			"no such method", func(c net.Conn, seq uint32) {
				writeException(c, seq, thrift.UNKNOWN_METHOD, "Unknown function forsun_call")
			},
			false,
			[]string{"exception", "Unknown function forsun_call"},
		},
		{
			"failed inside", func(c net.Conn, seq uint32) {
				writeException(c, seq, thrift.INTERNAL_ERROR, "no disk, password s3cret")
			},
			true,
			[]string{"exception", "no disk, password ***"},
		},
		{"not Thrift", func(c net.Conn, _ uint32) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, true, []string{"no reply"}},
		{"of another call", func(c net.Conn, seq uint32) { writeException(c, seq+1, thrift.INTERNAL_ERROR, "late") }, true, []string{"no reply", "out of order"}},
		{"half of a reply", func(c net.Conn, seq uint32) { io.WriteString(c, "\x80\x01\x00\x02\x00\x00\x00\x0bforsun") }, true, []string{"no reply"}},
		{"a bomb", func(c net.Conn, seq uint32) { io.WriteString(c, "\x80\x01\x00\x02\x7f\xff\xff\xff") }, true, []string{"no reply"}},
	}
	for _, tt := range tests {
		params := refusing
		if tt.reply != nil {
			var l *countingListener
			l, params = listen(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				seq, err := readCall(conn)
				if err != nil {
					t.Errorf("%s: read the call: %v", tt.why, err)
				}
				tt.reply(conn, seq)
			}()
			defer func() { l.Close(); <-done }()
		}
		params = maps.Clone(params)
		params["password"] = "s3cret"
		_, err := attempt(t, newThrift(t), testFiring(params))
		wantFailure(t, tt.why, err, tt.retry, append(tt.texts, "thrift 127.0.0.1:"+params["port"])...)
	}
}

// readCall reads a forsun_call and returns its sequence id.
func readCall(conn net.Conn) (seq uint32, err error) {
	r := bufio.NewReader(conn)
	head := make([]byte, 4+4+len("forsun_call")+4)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, err
	}
	protocol := thrift.NewTBinaryProtocolConf(thrift.NewStreamTransportR(r), nil)
	return binary.BigEndian.Uint32(head[len(head)-4:]), protocol.Skip(context.Background(), thrift.STRUCT)
}

// writeException replies with an exception.
func writeException(conn net.Conn, seq uint32, kind int32, text string) {
	ctx := context.Background()
	protocol := thrift.NewTBinaryProtocolConf(thrift.NewStreamTransportW(conn), nil)
	protocol.WriteMessageBegin(ctx, "forsun_call", thrift.EXCEPTION, int32(seq))
	thrift.NewTApplicationException(kind, text).Write(ctx, protocol)
	protocol.WriteMessageEnd(ctx)
	protocol.Flush(ctx)
}

// After an exception the connection serves on.
func TestThriftExceptionKeepsConnection(t *testing.T) {
	r := &receiver{handle: func(context.Context) error { return errors.New("not today") }}
	l, params := serveThrift(t, r)
	a := newThrift(t)
	for range 3 {
		_, err := attempt(t, a, testFiring(params))
		wantFailure(t, "an error of the handler", err, true, "exception", "not today")
	}
	if n, calls := l.accepted(), len(r.received()); n != 1 || calls != 3 {
		t.Errorf("%d connections, %d calls; want 1, 3", n, calls)
	}
}

// A connection the peer closed while it was idle costs a new one, not the attempt.
func TestThriftClosedWhileIdle(t *testing.T) {
	r := &receiver{}
	l, params := serveThrift(t, r)
	a := newThrift(t)
	must(t, a, testFiring(params))
	l.cut()
	must(t, a, testFiring(params))
	if n, calls := l.accepted(), len(r.received()); n != 2 || calls != 2 {
		t.Errorf("%d connections, %d calls; want 2, 2", n, calls)
	}
}

// A connection that breaks after the call was sent fails the attempt: the call is
// not made twice within it.
func TestThriftBreaksDuringCall(t *testing.T) {
	r := &receiver{}
	cut := make(chan *countingListener, 1)
	r.handle = func(context.Context) error {
		if len(r.received()) == 2 {
			(<-cut).cut()
		}
		return nil
	}
	l, params := serveThrift(t, r)
	cut <- l
	a := newThrift(t)
	must(t, a, testFiring(params))
	_, err := attempt(t, a, testFiring(params))
	wantFailure(t, "cut during the call", err, true, "no reply")
	if calls := len(r.received()); calls != 2 {
		t.Errorf("got %d calls, want 2", calls)
	}
}

func TestThriftHangingPeer(t *testing.T) {
	_, params := listen(t) // accepts into its backlog, and never answers
	wantEndAtDeadline(t, newThrift(t), testFiring(params))
}

func TestThriftMaxConnections(t *testing.T) {
	var mu sync.Mutex
	running, most := 0, 0
	r := &receiver{handle: func(context.Context) error {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		time.Sleep(5 * time.Millisecond) // let the calls overlap
		mu.Lock()
		running--
		mu.Unlock()
		return nil
	}}
	l, params := serveThrift(t, r)
	params["max_connections"] = "3"
	a := newThrift(t)
	var calls sync.WaitGroup
	for range 24 {
		calls.Go(func() {
			if _, err := attempt(t, a, testFiring(params)); err != nil {
				t.Errorf("Execute: %v", err)
			}
		})
	}
	calls.Wait()
	if n, got := l.accepted(), len(r.received()); n > 3 || most > 3 || got != 24 {
		t.Errorf("%d connections, %d calls at once, %d in all; want at most 3, at most 3, 24", n, most, got)
	}
}

// A receiver written in Python with the IDL, as existing ones are.
func TestThriftPythonReceiver(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("thrift", "--gen", "py", "-out", dir, "../rpc/forsun.thrift").CombinedOutput(); err != nil {
		t.Fatalf("thrift compiler: %v\n%s", err, out)
	}
	server := exec.Command("/usr/bin/python3", "-u", "-c", `
import sys
sys.path.insert(0, sys.argv[1])
from forsun import Forsun
from thrift.transport import TSocket, TTransport
from thrift.protocol import TBinaryProtocol
from thrift.server import TServer
class Handler:
    def forsun_call(self, key, ts, params):
        print(key, ts, sorted(params.items()))
listener = TSocket.TServerSocket("127.0.0.1", 0)
listener.listen()
print(listener.handle.getsockname()[1])
listener.listen = lambda: None
TServer.TSimpleServer(Forsun.Processor(Handler()), listener, TTransport.TBufferedTransportFactory(), TBinaryProtocol.TBinaryProtocolFactory()).serve()
`, dir)
	printed, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints strings.Builder
	server.Stderr = &complaints
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		server.Process.Kill()
		server.Wait()
		if t.Failed() {
			t.Logf("the receiver says: %s", complaints.String())
		}
	}()
	lines := bufio.NewScanner(printed)
	if !lines.Scan() {
		t.Fatal("the receiver did not start")
	}
	params := map[string]string{"port": lines.Text(), "mine": "süß"}
	must(t, newThrift(t), testFiring(params))
	if !lines.Scan() {
		t.Fatal("the receiver printed nothing")
	}
	want := fmt.Sprintf("pläne/50%% 1700000000 [('mine', 'süß'), ('port', '%s')]", params["port"])
	if got := lines.Text(); got != want {
		t.Errorf("the receiver got %s, want %s", got, want)
	}
}
