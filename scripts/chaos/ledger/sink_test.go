package ledger

import (
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/snower/forsun/redisstore/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// httpCall calls a sink as a firing does, and returns when it was answered.
func httpCall(t *testing.T, url, key string) time.Time {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"X-FORSUN-TIMESTAMP": "1795345900", "X-FORSUN-ATTEMPT": "2", "X-FORSUN-FIRING-ID": "id-" + key, "X-FORSUN-KEY": key, "User-Agent": "agent",
	} {
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("status %s, %q, %v", response.Status, body, err)
	}
	return time.Now()
}

// thriftCall sends a call byte by byte as the protocol has it: see COMPAT.
func thriftCall(t *testing.T, addr, name, key string) (answer string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	text := func(s string) string { return "\x00\x00\x00" + string(rune(len(s))) + s }
	request := "\x80\x01\x00\x01" + text(name) + "\x00\x00\x00\x07" +
		"\x0b\x00\x01" + text(key) + "\x08\x00\x02\x6b\x02\xda\xec" + // 1795349228
		"\x0d\x00\x03\x0b\x0b\x00\x00\x00\x01" + text("a") + text("b") + "\x00"
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1024)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// TestSinkRecords: what calls over HTTP and Thrift say is in the sink's book, and in
// that of who reads its file.
func TestSinkRecords(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "receipts")
	s, err := NewSink(path)
	if err != nil {
		t.Fatal(err)
	}
	followed, err := Follow(path)
	if err != nil {
		t.Fatal(err)
	}
	httpCall(t, s.URL, "k\t\"1\"")
	slow := time.Now()
	if took := httpCall(t, s.URL+"/slow", "k2").Sub(slow); took < slowAnswer {
		t.Errorf("/slow took %s", took)
	}
	if got, want := thriftCall(t, s.Thrift, "forsun_call", "kéy"), "\x80\x01\x00\x02\x00\x00\x00\x0bforsun_call\x00\x00\x00\x07\x00"; got != want {
		t.Errorf("forsun_call is answered %q, want %q", got, want)
	}
	if got := thriftCall(t, s.Thrift, "ping", "k"); !strings.HasPrefix(got, "\x80\x01\x00\x03\x00\x00\x00\x04ping") {
		t.Errorf("another function is answered %q, want an exception", got)
	}
	want := []Receipt{
		{Firing: "id-k\t\"1\"", Key: "k\t\"1\"", Due: 1795345900, Attempt: 2, Agent: "agent"},
		{Firing: "id-k2", Key: "k2", Due: 1795345900, Attempt: 2, Agent: "agent"},
		{Key: "kéy", Due: 1795349228},
	}
	times := cmpopts.IgnoreFields(Receipt{}, "At", "Done")
	wall := cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })
	own, file := s.Receipts(), followed.Receipts()
	if diff := cmp.Diff(want, own, times); diff != "" {
		t.Errorf("the book: %s", diff)
	}
	for i := range own {
		if own[i].At.IsZero() || own[i].Done.Before(own[i].At) {
			t.Errorf("%s: received %s, answered %s", own[i].Key, own[i].At, own[i].Done)
		}
	}
	if diff := cmp.Diff(own, file, wall); diff != "" {
		t.Errorf("who follows the file reads: %s", diff)
	}

	held := make(chan time.Time)
	go func() { held <- httpCall(t, s.URL+"/hold", "k3") }() // ends with the sink
	for deadline := time.Now().Add(10 * time.Second); followed.Running()["agent"] == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a call that is held is not seen to run")
		}
	}
	select {
	case <-held:
		t.Error("a call that is held was answered")
	default:
	}
	released := time.Now()
	httpCall(t, s.URL+ReleasePath, "nothing")
	if (<-held).Before(released) {
		t.Error("a call that is held was answered before the release")
	}
	if n := followed.Running()["agent"]; n != 0 || followed.Count() != 4 || !followed.Called("agent", slow) || followed.Called("other", slow) {
		t.Errorf("%d run, %d came", n, followed.Count())
	}
	http.DefaultClient.CloseIdleConnections()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := followed.Close(); err != nil {
		t.Error(err)
	}
}

// TestFollowRefuses: a file that is no book's is not taken for one.
func TestFollowRefuses(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"", "+\t1\t\"id\"\t2\t1\t\"a\"", "+\tx\t\"id\"\t2\t1\t\"a\"\t\"k\"", "+\t1\t\"id\"\t2\t1\ta\t\"k\"", "-\t0\t5", "x\t0", "?\t1"} {
		b := &Book{}
		if err := b.read(line); err == nil || b.Count() != 0 && !strings.HasPrefix(line, "+") {
			t.Errorf("%q is read", line)
		}
	}
}

// TestListRecords: what firings add to a list of Redis, with the time of Redis.
func TestListRecords(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	l, err := NewList(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// As an action sends it: tokens replaced, and the words apart.
	plan := RedisPlan("some-key", Spec{Every: 1, Count: 1}, server.Addr)
	command := strings.NewReplacer("${firing.id}", "id", "${firing.due}", "1795345900", "${firing.attempt}", "3").Replace(plan.Params["command"])
	script, rest, ok := strings.Cut(strings.TrimPrefix(command, `EVAL "`), `" `)
	if !ok || plan.Params["host"] != "127.0.0.1" {
		t.Fatalf("the plan is %v", plan.Params)
	}
	before := time.Now().Truncate(time.Microsecond)
	redistest.Do(t, server.Addr, append([]string{"EVAL", script}, strings.Fields(rest)...)...)
	after := time.Now()
	got, err := l.Receipts(t.Context())
	if err != nil || len(got) != 1 {
		t.Fatalf("the list has %v, %v", got, err)
	}
	if at := got[0].At; at.Before(before) || at.After(after) || got[0].Done != at {
		t.Errorf("received at %s, answered at %s, want between %s and %s", at, got[0].Done, before, after)
	}
	want := Receipt{Firing: "id", Key: "some-key", Due: 1795345900, Attempt: 3}
	if diff := cmp.Diff(want, got[0], cmpopts.IgnoreFields(Receipt{}, "At", "Done")); diff != "" {
		t.Error(diff)
	}
	path := filepath.Join(t.TempDir(), "receipts")
	if err := l.Save(path); err != nil {
		t.Fatal(err)
	}
	saved, err := Follow(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, saved.Receipts()); diff != "" {
		t.Errorf("saved: %s", diff)
	}
	if err := saved.Close(); err != nil {
		t.Error(err)
	}
	redistest.Do(t, server.Addr, "RPUSH", listKey, "nonsense")
	if got, err := l.Receipts(t.Context()); err == nil {
		t.Errorf("nonsense is read as %v", got)
	}
}
