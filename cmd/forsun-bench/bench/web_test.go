package bench

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestWebChecks: what does not tell that all plans are stored is no success.
func TestWebChecks(t *testing.T) {
	const one, two = `{"key":"bench-0000000007","second":30000}`, `{"key":"bench-0000000008","second":30000}`
	var status int
	var answer, asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var b strings.Builder
		_ = r.Write(&b)
		asked = b.String()[strings.Index(b.String(), "["):]
		w.WriteHeader(status)
		_, _ = w.Write([]byte(answer))
	}))
	defer server.Close()
	o := &options{prefix: "bench-", action: actionNoop}
	c, err := o.dialWeb(server.Listener.Addr().String(), map[string]string{"payload": `"x"`})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for _, row := range []struct {
		name   string
		status int
		answer string
		ok     bool
	}{
		{"stored", 200, `{"errcode":0,"errmsg":"","data":[` + one + `,` + two + `]}`, true},
		{"one is missing", 200, `{"errcode":0,"errmsg":"","data":[` + one + `]}`, false},
		{"a code", 200, `{"errcode":1004,"errmsg":"","data":[` + one + `,` + two + `]}`, false},
		{"one has a code", 200, `{"errcode":0,"errmsg":"","data":[` + one + `,{"key":"bench-0000000008","errcode":1004}]}`, false},
		{"plans of others", 200, `{"errcode":0,"errmsg":"","data":[{"key":"a"},{"key":"b"}]}`, false},
		{"a status", 500, `{"errcode":0,"errmsg":"","data":[` + one + `,` + two + `]}`, false},
		{"nothing", 200, "", false},
	} {
		status, answer = row.status, row.answer
		if err := c.make(t.Context(), 7, 2); (err == nil) != row.ok {
			t.Errorf("%s: got %v", row.name, err)
		}
	}
	const rest = `","action":"noop","count":1,"params":{"payload":"\"x\""},"second":30000}`
	if want := `[{"key":"bench-0000000007` + rest + `,{"key":"bench-0000000008` + rest + `]`; asked != want {
		t.Errorf("it asked %s\nwant %s", asked, want)
	}
	status, answer = 200, `{"errcode":0,"errmsg":"","data":[{"key":"bench-1234567890"}]}`
	if err := c.make(t.Context(), 1234567890, 1); err != nil || !strings.HasPrefix(asked, `[{"key":"bench-1234567890"`) {
		t.Errorf("%v: it asked %s", err, asked)
	}
}
