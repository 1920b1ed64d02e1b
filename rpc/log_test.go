package rpc

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/scheduler/memstore"
)

// logBuffer is what a logger wrote.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// codeOf sends a call and returns the code of the exception it is answered with.
func codeOf(t testing.TB, c net.Conn, name string, fields ...[]byte) int {
	t.Helper()
	head := append(answered(2, name, 1), 12, 0, 1, 6, 0, 1)
	got := ask(t, c, call(name, 1, fields...), len(head)+2+7)
	ask(t, c, nil, int(binary.BigEndian.Uint32(got[len(head)+5:]))+2)
	return int(binary.BigEndian.Uint16(got[len(head):]))
}

// TestLogs checks that changes are logged without secrets, and that a failure
// the client only gets a code for is logged with its cause.
func TestLogs(t *testing.T) {
	t.Parallel()
	storeOpts := memstore.DefaultOptions()
	storeOpts.Dir = ":memory:"
	store, err := memstore.Open(storeOpts)
	if err != nil {
		t.Fatal(err)
	}
	var logged logBuffer
	opts := DefaultOptions()
	opts.Logger = zerolog.New(&logged)
	svc := newService(t, store)
	c := dial(t, serve(t, NewServer(svc, opts)))
	base := "http://" + serve(t, NewHTTPServer(svc, opts))

	params := slices.Concat([]byte{13, 0, 10, 11, 11, 0, 0, 0, 1}, str(0, "passwd")[3:], str(0, "hush-hush")[3:])
	request := call("createTimeout", 1, str(1, "k"), i16(2, 5), str(9, "noop"), params)
	want := answered(2, "createTimeout", 1)
	if got := ask(t, c, request, len(want)); !bytes.Equal(got, want) {
		t.Fatalf("got %x", got)
	}
	if _, _, body := putPlan(t, base, `{"key":"h","seconds":5,"action":"noop","params":{"password":"hush-hush"}}`); !strings.Contains(body, "hush-hush") {
		t.Errorf("the client's own plan is masked: %s", body)
	}
	eventually(t, "both changes are logged", func() bool { return strings.Count(logged.String(), `"plan created"`) == 2 })
	if strings.Contains(logged.String(), "hush-hush") {
		t.Errorf("the log holds a secret:\n%s", &logged)
	}

	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	c = dial(t, c.RemoteAddr().String())
	for _, row := range []struct {
		name string
		code int
	}{{"create", 1004}, {"remove", 1005}, {"get", 1001}} {
		if got := codeOf(t, c, row.name, str(1, "k"), i16(2, 0), str(8, "noop")); got != row.code {
			t.Errorf("%s with the store closed: got %d, want %d", row.name, got, row.code)
		}
	}
	if _, _, body := putPlan(t, base, `{"key":"h","seconds":5,"action":"noop"}`); body != `{"errcode":1004,"errmsg":"保存计划错误","data":{}}` {
		t.Errorf("PUT with the store closed: got %s", body)
	}
	if got := strings.Count(logged.String(), "request failed"); got != 4 {
		t.Errorf("%d failures are logged, want 4:\n%s", got, &logged)
	}
}

// putPlan sends one plan over HTTP.
func putPlan(t testing.TB, base, body string) (status int, head http.Header, text string) {
	return request(t, "PUT", base+"/v1/plan", "", body)
}

// TestClientThatTakesNothing checks that an answer nobody reads does not hold its
// connection for ever.
func TestClientThatTakesNothing(t *testing.T) {
	t.Parallel()
	s, addr := startThrift(t, func(o *Options) { o.WriteTimeout = 200 * time.Millisecond })
	c := dial(t, addr)
	c.(*net.TCPConn).SetReadBuffer(4 << 10)
	key := strings.Repeat("k", 500)
	ask(t, c, call("createTimeout", 1, str(1, key), i16(2, 5), str(9, "noop"), slices.Concat([]byte{13, 0, 10, 11, 11, 0, 0, 0, 1}, str(0, "a")[3:], str(0, strings.Repeat("x", 200_000))[3:])), 29)
	many := bytes.Repeat(call("get", 1, str(1, key)), 100) // 20 MB of answers
	if _, err := c.Write(many); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection is closed", func() bool { return s.stats.connecting.Load() == 0 })
}
