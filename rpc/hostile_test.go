package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/snower/forsun/rpc/gen/forsun"
	"github.com/snower/forsun/scheduler"
)

// closed waits until the server has closed c.
func closed(t testing.TB, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, c); err != nil && isTimeout(err) {
		t.Error("the connection was not closed within 10 s")
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// alive checks that the server answers a ping on c.
func alive(t testing.TB, c net.Conn) {
	t.Helper()
	want := unhex(t, goldenPong)
	if got := ask(t, c, unhex(t, goldenPing), len(want)); !bytes.Equal(got, want) {
		t.Errorf("ping: got %x, want %x", got, want)
	}
}

func framed(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

// TestBadMessages sends what no client should; another client is served before,
// between and after.
//
// It measures memory, so it does not run beside others; nor does
// TestManyConnections.
func TestBadMessages(t *testing.T) {
	_, addr := startThrift(t, func(o *Options) { o.MaxMessage = 1 << 20 })
	other := dial(t, addr)
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	bigMap := []byte{13, 0, 9, 11, 11, 0, 0xb7, 0x1b, 0} // params: 12 million entries
	bigList := []byte{15, 0, 1, 12, 0, 0xb7, 0x1b, 0}
	for _, row := range []struct {
		name    string
		request []byte
		want    string // in the answer, if there is one
	}{
		{"a map of 12 million", call("create", 1, bigMap), "exceeds the limit"},
		{"a map of 12 million, framed", framed(call("create", 1, bigMap)), ""},
		{"a list of 12 million", call("createMany", 1, bigList), "exceeds the limit"},
		{"a list of 12 million in an unknown field", call("ping", 1, bigList), "exceeds the limit"},
		{"a list of 12 million for an unknown method", call("nosuch", 1, bigList), "exceeds the limit"},
		{"a string of 2 GiB", call("get", 1, []byte{11, 0, 1, 0x7f, 0xff, 0xff, 0xff}), "size exceeded"},
		{"a string of -1", call("get", 1, []byte{11, 0, 1, 0xff, 0xff, 0xff, 0xff}), "negative size"},
		{"a key of 2 MiB", call("get", 1, str(1, strings.Repeat("k", 2<<20))), "size exceeded"},
		{"many strings of 2 MiB together", call("createMany", 1, slices.Concat([]byte{15, 0, 7, 11, 0, 0, 0, 200}, bytes.Repeat(append([]byte{0, 0, 40, 0}, make([]byte, 10240)...), 200))), "message too large"},
		{"a frame of 1 GiB", []byte{0x3f, 0xff, 0xff, 0xff, 0x80, 1, 0, 1}, ""},
		{"a frame of 2 bytes", []byte{0, 0, 0, 2, 0x80, 1}, ""},
		{"a name of 2 GiB", []byte{0x80, 1, 0, 1, 0x7f, 0xff, 0xff, 0xff}, ""},
		{"a reply", answered(2, "ping", 1), "not a call"},
		{"structs in structs", call("ping", 1, bytes.Repeat([]byte{12, 0, 1}, 10_000)), "Depth limit"},
		{"JSON", []byte(`[1,"ping",1,0,{}]`), ""},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), ""},
		{"not strict binary", []byte{0, 0, 0, 4, 'p', 'i', 'n', 'g', 1, 0, 0, 0, 0, 0}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := dial(t, addr)
			go c.Write(row.request) // the server may stop reading
			got, _ := io.ReadAll(c)
			if !strings.Contains(string(got), row.want) {
				t.Errorf("got %q, want %q in it", got, row.want)
			}
			alive(t, other)
		})
	}
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 256<<20 {
		t.Errorf("%d bytes were allocated, want at most 256 MiB", got)
	}
}

// TestBadKeys checks that a key of 1 MB and one with control characters are
// refused with a code, and the connection goes on.
func TestBadKeys(t *testing.T) {
	t.Parallel()
	_, addr := startThrift(t, nil)
	c := dial(t, addr)
	for _, row := range []struct {
		key  string
		code int16
	}{
		{strings.Repeat("k", 1_000_000), 1013},
		{"a\nb", 1008},
		{"a\x00", 1008},
		{"\xff\xfe", 1008},
		{"", 1007},
	} {
		head := answered(2, "get", 1)
		head = append(head, 12, 0, 1, 6, 0, 1)
		got := ask(t, c, call("get", 1, str(1, row.key)), len(head)+2)
		if code := int16(binary.BigEndian.Uint16(got[len(head):])); code != row.code {
			t.Errorf("key of %d bytes: got code %d, want %d", len(row.key), code, row.code)
		}
		// the message: field 2, its length, its text; two stops
		rest := ask(t, c, nil, 7)
		text := ask(t, c, nil, int(binary.BigEndian.Uint32(rest[3:]))+2)
		if len(text) > 300 {
			t.Errorf("key of %d bytes: a message of %d bytes", len(row.key), len(text))
		}
	}
	alive(t, c)
}

// TestRandomBytes checks that no bytes stop the server.
func TestRandomBytes(t *testing.T) {
	t.Parallel()
	_, addr := startThrift(t, func(o *Options) { o.MessageTimeout = 200 * time.Millisecond })
	const seed = 1
	r := rand.New(rand.NewPCG(seed, seed))
	good := [][]byte{unhex(t, goldenPing), unhex(t, goldenCreate), framed(unhex(t, goldenCreate))}
	for range 300 {
		b := slices.Clone(good[r.IntN(len(good))])
		for range r.IntN(6) {
			b[r.IntN(len(b))] = byte(r.Uint32())
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.Write(b)
		c.(*net.TCPConn).CloseWrite()
		closed(t, c)
		c.Close()
	}
	alive(t, dial(t, addr))
}

// TestSlowMessages checks that a message that has begun must arrive in time,
// while a connection without one may stay.
func TestSlowMessages(t *testing.T) {
	t.Parallel()
	_, addr := startThrift(t, func(o *Options) { o.MessageTimeout = 150 * time.Millisecond })
	idle := dial(t, addr)
	alive(t, idle)
	create := unhex(t, goldenCreate)
	for _, part := range [][]byte{create[:2], create[:len(create)/2], framed(create)[:30]} {
		c := dial(t, addr)
		start := time.Now()
		c.Write(part)
		closed(t, c)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("half a message was waited for for %s", took)
		}
	}
	alive(t, idle) // it has been idle for longer than the bound
}

// TestManyConnections opens more idle connections than there may be. The oldest
// are closed; a client that works is not disturbed, and what the rest cost is
// bounded.
func TestManyConnections(t *testing.T) {
	const limit, opened = 1000, 2000
	s, addr := startThrift(t, func(o *Options) { o.MaxConns = limit })
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	working := dial(t, addr)
	var idle []net.Conn
	for i := range opened {
		idle = append(idle, dial(t, addr))
		if i%50 == 0 {
			alive(t, idle[i]) // the server has let in all so far, however slow it is
			alive(t, working)
		}
	}
	closed(t, idle[0])
	alive(t, idle[opened-1])
	alive(t, working)
	eventually(t, "the number of connections is at its limit", func() bool { return s.stats.connecting.Load() <= limit })
	var after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&after)
	if got := int64(after.HeapInuse+after.StackInuse) - int64(before.HeapInuse+before.StackInuse); got > 64<<20 {
		t.Errorf("%d bytes in use for %d connections, want at most 64 MiB", got, limit)
	}
}

// TestLargeMessagesWait checks that of large messages only so many are read at
// a time, and that small ones do not wait for them.
func TestLargeMessagesWait(t *testing.T) {
	t.Parallel()
	_, addr := startThrift(t, func(o *Options) { o.MaxLarge = 1; o.MessageTimeout = time.Second })
	large := call("get", 1, str(1, strings.Repeat("k", 100_000)))
	first := dial(t, addr)
	first.Write(large[:50_000])
	second := dial(t, addr)
	time.Sleep(100 * time.Millisecond) // lets the first take its slot; if not, the test proves less but holds
	start := time.Now()
	go second.Write(large)
	alive(t, dial(t, addr))
	if took := time.Since(start); took > 800*time.Millisecond {
		t.Errorf("a small call waited %s for large ones", took)
	}
	closed(t, first) // its time is over, and the slot free
	ask(t, second, nil, len(answered(2, "get", 1)))
}

// TestPanics checks that a panic in a method is an answer, and no more.
func TestPanics(t *testing.T) {
	t.Parallel()
	s := NewServer(newService(t, newStore(t)), DefaultOptions())
	s.methods["preview"] = bind(forsun.NewForsunPreviewArgs, func(context.Context, *forsun.ForsunPreviewArgs) (thrift.TStruct, error) {
		panic("a defect")
	})
	c := dial(t, serve(t, s))
	want := answered(3, "preview", 5)
	if got := ask(t, c, call("preview", 5, str(1, "k")), len(want)); !bytes.Equal(got, want) {
		t.Errorf("got %x, want an exception %x", got, want)
	}
	text := ask(t, c, nil, 7)
	ask(t, c, nil, int(binary.BigEndian.Uint32(text[3:]))+8) // the message, the type, a stop
	alive(t, c)
}

// TestShutdown checks that a call in progress is answered, an idle connection
// is closed at once, and a call that does not end is cut off.
func TestShutdown(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		release bool
		want    error
	}{
		{"the call ends", true, nil},
		{"the call does not end", false, context.DeadlineExceeded},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := NewServer(newService(t, newStore(t)), DefaultOptions())
			var entered atomic.Bool
			release := make(chan struct{})
			s.methods["ping"] = bind(forsun.NewForsunPingArgs, func(ctx context.Context, _ *forsun.ForsunPingArgs) (thrift.TStruct, error) {
				entered.Store(true)
				select {
				case <-release:
				case <-ctx.Done():
				}
				return &forsun.ForsunPingResult{Success: new(int16)}, nil
			})
			ln := listen(t)
			served := make(chan error, 1)
			go func() { served <- s.Serve(ln) }()
			idle, busy := dial(t, ln.Addr().String()), dial(t, ln.Addr().String())
			busy.Write(unhex(t, goldenPing))
			eventually(t, "the call is in progress", entered.Load)

			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			if row.release {
				ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
			}
			defer cancel()
			down := make(chan error, 1)
			go func() { down <- s.Shutdown(ctx) }()
			closed(t, idle)
			if row.release {
				close(release)
				want := unhex(t, goldenPong)
				if got := ask(t, busy, nil, len(want)); !bytes.Equal(got, want) {
					t.Errorf("got %x, want %x", got, want)
				}
			}
			closed(t, busy)
			if err := <-down; !errors.Is(err, row.want) {
				t.Errorf("Shutdown: got %v, want %v", err, row.want)
			}
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
			if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
				t.Error("the port still accepts")
			}
		})
	}
}

func TestAccepts(t *testing.T) {
	t.Parallel()
	public := []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	for _, row := range []struct {
		addr  string
		allow []netip.Prefix
		want  bool
		why   string
	}{
		{"127.0.0.1:1", nil, true, "loopback"},
		{"[::1]:1", nil, true, "loopback"},
		{"[::ffff:127.0.0.1]:1", nil, true, "loopback, mapped"},
		{"10.1.2.3:1", nil, true, "private"},
		{"192.168.1.1:1", nil, true, "private"},
		{"[fd00::1]:1", nil, true, "private"},
		{"8.8.8.8:1", nil, false, "public"},
		{"[2001:db8::1]:1", nil, false, "public"},
		{"203.0.113.9:1", public, true, "listed"},
		{"[::ffff:203.0.113.9]:1", public, true, "listed, mapped"},
		{"[2001:db8::1]:1", public, true, "listed"},
		{"8.8.8.8:1", public, false, "not listed"},
		{"10.1.2.3:1", public, false, "private, but the list says who"},
		{"127.0.0.1:1", public, true, "loopback always"},
	} {
		at := netip.MustParseAddrPort(row.addr)
		opts := Options{AllowCIDR: row.allow}
		if got := opts.accepts(scheduler.NewPeer(at), at.Addr()); got != row.want {
			t.Errorf("%s with %v (%s): got %t, want %t", row.addr, row.allow, row.why, got, row.want)
		}
	}
}

// strangers is a listener whose connections come from elsewhere.
type strangers struct{ net.Listener }

func (l strangers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return stranger{c}, nil
}

type stranger struct{ net.Conn }

func (stranger) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4711} }

// TestPeers checks that a stranger is not served at all, and that one who is let
// in but not on this machine cannot create shell plans.
func TestPeers(t *testing.T) {
	t.Parallel()
	svc := newService(t, newStore(t))
	for _, row := range []struct {
		allow  string
		served bool
	}{
		{"", false},
		{"192.0.2.0/24", true},
	} {
		opts := DefaultOptions()
		if row.allow != "" {
			opts.AllowCIDR = []netip.Prefix{netip.MustParsePrefix(row.allow)}
		}
		s := NewServer(svc, opts)
		ln := listen(t)
		done := make(chan error, 1)
		go func() { done <- s.Serve(strangers{ln}) }()
		c := dial(t, ln.Addr().String())
		if row.served {
			alive(t, c)
			head := append(answered(2, "createTimeout", 0), 12, 0, 1, 6, 0, 1)
			got := ask(t, c, unhex(t, goldenCreate), len(head)+2)
			if code := binary.BigEndian.Uint16(got[len(head):]); code != 1012 {
				t.Errorf("a shell plan from afar: got code %d, want 1012", code)
			}
			c.Close()
		} else {
			closed(t, c)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestOptionsValidate(t *testing.T) {
	t.Parallel()
	if err := DefaultOptions().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	err := Options{}.Validate()
	for _, name := range []string{"MaxConns", "MaxMessage", "MaxLarge", "MaxList", "ArriveTimeout", "MessageTimeout", "WriteTimeout"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("empty options: got %v, want %s named", err, name)
		}
	}
}
