package rpc

import (
	"context"
	"encoding/hex"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/snower/forsun/actions"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// goldenNow is the second the recorded answers of the Python forsun were given in.
const goldenNow = 0x6b02dac2 - 3600

// fixedClock stands still.
type fixedClock int64

func (c fixedClock) Now() time.Time { return time.Unix(int64(c), 0) }

// actionSet is a registry of actions.
type actionSet map[string]scheduler.Action

func (s actionSet) Get(name string) (scheduler.Action, bool) { a, ok := s[name]; return a, ok }
func (s actionSet) Names() (names []string) {
	for name := range s {
		names = append(names, name)
	}
	return names
}

// needsURL is an action with a required parameter.
type needsURL struct{ actions.Noop }

func (needsURL) Check(params map[string]string) error {
	if params["url"] == "" {
		return &scheduler.FieldError{Kind: scheduler.ErrMissing, Field: "params.url"}
	}
	return nil
}

// newStore opens an embedded store in memory.
func newStore(t testing.TB) scheduler.Store {
	t.Helper()
	opts := memstore.DefaultOptions()
	opts.Dir = ":memory:"
	store, err := memstore.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// newService returns a service on a store in memory, at the golden second.
func newService(t testing.TB, store scheduler.Store) *scheduler.Service {
	set := actionSet{"shell": actions.Noop{}, "noop": actions.Noop{}, "http": needsURL{}}
	return scheduler.NewService(store, set, fixedClock(goldenNow), new(scheduler.Counters), scheduler.DefaultServiceOptions())
}

// listen opens a port on loopback.
func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// shutdowner is a server of either kind.
type shutdowner interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

// serve runs a server until the test ends, and returns its address.
func serve(t testing.TB, s shutdowner) string {
	t.Helper()
	ln := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(ln); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		wg.Wait()
	})
	return ln.Addr().String()
}

// startThrift serves a new store over Thrift.
func startThrift(t testing.TB, change func(*Options)) (*Server, string) {
	t.Helper()
	opts := DefaultOptions()
	if change != nil {
		change(&opts)
	}
	s := NewServer(newService(t, newStore(t)), opts)
	return s, serve(t, s)
}

// dial connects to a server, with a deadline for the whole test.
func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c
}

// unhex returns the bytes of hexadecimal digits.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ask writes a request and reads as many bytes as are wanted.
func ask(t testing.TB, c net.Conn, request []byte, want int) []byte {
	t.Helper()
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, want)
	if n, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("after %d of %d bytes (%x): %v", n, want, got[:n], err)
	}
	return got
}

// eventually polls until ok or 10 s have passed.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}
