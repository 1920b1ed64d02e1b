package rpc

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/snower/forsun/scheduler"
)

// memory is a client that has sent all it will.
type memory struct {
	io.Reader
	bytes.Buffer
}

func (m *memory) Read(p []byte) (int, error)  { return m.Reader.Read(p) }
func (m *memory) Write(p []byte) (int, error) { return m.Buffer.Write(p) }
func (*memory) Open() error                   { return nil }
func (*memory) Close() error                  { return nil }
func (*memory) IsOpen() bool                  { return true }
func (*memory) Flush(context.Context) error   { return nil }
func (*memory) RemainingBytes() uint64        { return thrift.UnknownRemainingBytes }

// FuzzThrift gives the dispatcher what a client might send. It must neither
// panic nor store a plan that is not allowed.
func FuzzThrift(f *testing.F) {
	for _, seed := range []string{goldenPing, goldenCreate} {
		b := unhex(f, seed)
		f.Add(b)
		f.Add(framed(b))
		f.Add(append(slices.Clone(b), b...))
	}
	f.Add(call("createMany", 1, slices.Concat([]byte{15, 0, 1, 12, 0, 0, 0, 1}, str(1, "k"), i16(2, 5), []byte{0})))
	f.Add(call("listPlans", 1, str(1, "k"), i32(3, 10)))
	f.Add([]byte{0x82, 0x21, 1, 4, 'p', 'i', 'n', 'g', 0}) // compact
	f.Add(append([]byte{0, 0, 0, 31, 0x0f, 0xff, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0}, unhex(f, goldenPing)...))

	svc := newService(f, newStore(f))
	opts := DefaultOptions()
	opts.Info = NewInfo(svc, About{})
	h := newHandler(svc, opts)
	methods := h.methods()
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &memory{Reader: bytes.NewReader(b)}
		d := newDispatcher(t.Context(), m, 64<<10, h, methods, &stats{})
		d.panicked = func(method string, v any, stack []byte) { t.Errorf("%s panicked: %v\n%s", method, v, stack) }
		for d.next(t.Context()) == nil {
		}
		plans, _, err := svc.List(t.Context(), scheduler.ListQuery{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range plans {
			if err := scheduler.ValidateKey(p.Key); err != nil {
				t.Errorf("stored: %v", err)
			}
			if p.Due < goldenNow {
				t.Errorf("stored %+v, due in the past", p)
			}
			if _, err := svc.Remove(t.Context(), p.Key); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzHTTP gives the HTTP interface bodies of both types. Every answer must be
// an envelope, or a refusal that is the client's fault.
func FuzzHTTP(f *testing.F) {
	f.Add("PUT", "application/json", `{"key":"k","seconds":"5","params":{"a":1,"b":"c"},"action":"noop"}`)
	f.Add("POST", "", `[{"key":"k","method":"create","second":0},{"key":"l"}]`)
	f.Add("POST", "application/crontab", "k */5/2 * * * * * noop 'a=1;b=\\'x\\''\nl 0 30 16 * * 1 http http://h/?a=1")
	svc := newService(f, newStore(f))
	s := NewHTTPServer(svc, DefaultOptions())
	f.Fuzz(func(t *testing.T, method, kind, body string) {
		r := httptest.NewRequest(http.MethodPost, "/v1/plan", strings.NewReader(body))
		if method == http.MethodPut {
			r.Method = method
		}
		r.Header.Set("Content-Type", kind)
		r = r.WithContext(withVisitor(r.Context(), &visitor{from: origin{peer: scheduler.Peer{Loopback: true}}}))
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, r)
		switch w.Code {
		case 200:
			if got := w.Body.String(); !strings.HasPrefix(got, `{"errcode":`) || !utf8.ValidString(got) {
				t.Errorf("answer %q", got)
			}
			if strings.HasPrefix(w.Body.String(), `{"errcode":1001`) {
				t.Errorf("unexpected error: %s", w.Body)
			}
		case 400, 413:
		default:
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
	})
}
