package rpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/rs/zerolog"

	"github.com/snower/forsun/rpc/access"
	"github.com/snower/forsun/rpc/access/accesstest"
	"github.com/snower/forsun/rpc/gen/forsun"
	"github.com/snower/forsun/scheduler"
)

// Tokens of the tests; each is its name, made long.
const (
	readToken    = "planted-token-of-dashboard"
	writeToken   = "planted-token-of-billing"
	adminToken   = "planted-token-of-ops"
	limitedToken = "planted-token-of-limited"
	badToken     = "planted-token-of-nobody"
)

const tokenText = "dashboard read " + readToken + "\nbilling write " + writeToken + "\nops admin " + adminToken +
	"\nlimited write " + limitedToken + " keys=mine: actions=noop\n"

// guarded is both servers on one service, with whatever guards them.
type guarded struct {
	thrift, http string // addresses
	tokens       *access.Tokens
	tokenFile    string
	log          *logBuffer
	audit        *logBuffer
}

// startGuarded starts one with tokens whose proxies are on loopback: who says the
// word of a proxy first comes from wherever he likes.
func startGuarded(t *testing.T, change func(*Options)) *guarded {
	t.Helper()
	g := &guarded{log: new(logBuffer), audit: new(logBuffer), tokenFile: filepath.Join(t.TempDir(), "tokens")}
	g.write(t, tokenText)
	var err error
	if g.tokens, err = access.LoadTokens(g.tokenFile, []string{"shell", "noop", "http"}); err != nil {
		t.Fatal(err)
	}
	opts := DefaultOptions()
	opts.Logger, opts.Audit = zerolog.New(g.log), zerolog.New(g.audit)
	opts.Tokens = g.tokens
	opts.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	if change != nil {
		change(&opts)
	}
	svc := newService(t, newStore(t))
	g.thrift, g.http = serve(t, NewServer(svc, opts)), serve(t, NewHTTPServer(svc, opts))
	t.Cleanup(func() {
		for _, text := range []string{g.log.String(), g.audit.String()} {
			if strings.Contains(text, "planted") {
				t.Errorf("a log holds a token or a secret: %s", text)
			}
		}
	})
	return g
}

func (g *guarded) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(g.tokenFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// from is what a proxy says first for somebody at an address.
func from(addr string) string {
	family := "TCP4"
	if strings.Contains(addr, ":") {
		family = "TCP6"
	}
	return fmt.Sprintf("PROXY %s %s %s 4711 6458\r\n", family, addr, addr)
}

// dialFrom connects as somebody at an address.
func dialFrom(t *testing.T, server, addr string) net.Conn {
	t.Helper()
	c := dial(t, server)
	if _, err := io.WriteString(c, from(addr)); err != nil {
		t.Fatal(err)
	}
	return c
}

// reply is how a call ended: with a code and message, or with neither.
type reply struct {
	code    int
	message string
}

// do sends a call and reads its answer.
func do(t *testing.T, c net.Conn, name string, fields ...[]byte) (r reply, err error) {
	t.Helper()
	if _, err := c.Write(call(name, 1, fields...)); err != nil {
		return r, err
	}
	return readReply(t, c)
}

func readReply(t *testing.T, c net.Conn) (r reply, err error) {
	ctx := context.Background()
	proto := thrift.NewTBinaryProtocolConf(thrift.NewStreamTransportR(c), &thrift.TConfiguration{})
	_, kind, _, err := proto.ReadMessageBegin(ctx)
	if err != nil {
		return r, err
	}
	if kind == thrift.EXCEPTION {
		app := thrift.NewTApplicationException(0, "")
		if err := app.Read(ctx, proto); err != nil {
			return r, err
		}
		r.message = app.Error()
		return r, nil
	}
	proto.ReadStructBegin(ctx)
	for {
		_, fieldType, id, err := proto.ReadFieldBegin(ctx)
		if err != nil {
			return r, err
		}
		switch {
		case fieldType == thrift.STOP:
			return r, nil
		case id == 1 && fieldType == thrift.STRUCT:
			e := forsun.NewForsunPlanError()
			if err := e.Read(ctx, proto); err != nil {
				return r, err
			}
			r = reply{int(e.Code), e.Message}
		default:
			if err := proto.Skip(ctx, fieldType); err != nil {
				return r, err
			}
		}
	}
}

// must is do for a call that is answered.
func must(t *testing.T, c net.Conn, name string, fields ...[]byte) reply {
	t.Helper()
	r, err := do(t, c, name, fields...)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return r
}

// web sends a request as somebody at an address ("": as the proxy itself), with a
// token if there is one.
func web(t *testing.T, server, addr, token, method, path, body string, headers ...string) (status int, head http.Header, a answer) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", server)
		if err == nil && addr != "" {
			_, err = io.WriteString(c, from(addr))
		}
		return c, err
	}}}
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+server+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, nil, answer{Errmsg: err.Error()}
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 {
		return resp.StatusCode, resp.Header, answer{Errmsg: string(text)}
	}
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatalf("%s %s: %s", method, path, text)
	}
	return 200, resp.Header, a
}

// TestRights tries every method and endpoint as everybody: it is refused exactly
// where permissions says so.
func TestRights(t *testing.T) {
	t.Parallel()
	g := startGuarded(t, nil)
	callers := []struct {
		name, addr, token string
		right             access.Right
	}{
		{"a stranger", "203.0.113.9", "", access.None},
		{"a stranger over IPv6", "2001:db8::9", "", access.None},
		{"the proxy itself", "", "", access.Open},
		{"reading", "203.0.113.9", readToken, access.Read},
		{"reading, from a private network", "10.0.0.9", readToken, access.Read},
		{"writing", "203.0.113.9", writeToken, access.Write},
		{"the proxy, writing", "", writeToken, access.Write},
		{"everything", "203.0.113.9", adminToken, access.Admin},
		{"from a private network", "10.0.0.9", "", access.Admin},
		{"from loopback", "127.0.0.1", "", access.Admin},
	}
	for _, who := range callers {
		for _, p := range permissions() {
			for _, name := range p.thrift {
				if name == "auth" {
					continue // TestAuth
				}
				var c net.Conn
				if who.addr == "" {
					c = dial(t, g.thrift)
				} else {
					c = dialFrom(t, g.thrift, who.addr)
				}
				if who.token != "" {
					if got := must(t, c, "auth", str(1, who.token)); got != (reply{}) {
						t.Fatalf("%s: auth: %+v", who.name, got)
					}
				}
				got := must(t, c, name)
				if refused := strings.Contains(got.message, "not allowed:"); refused != (who.right < p.need) || strings.Contains(got.message, "planted") {
					t.Errorf("%s (right %s), %s (needs %s): got %+v", who.name, who.right, name, p.need, got)
				}
				if who.right == access.None {
					if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
						t.Errorf("%s, after %s: %v, want the connection to be closed", who.name, name, err)
					}
				} else if got := must(t, c, "ping"); got != (reply{}) {
					t.Errorf("%s, ping after %s: %+v", who.name, name, got)
				}
				c.Close()
			}
			for _, endpoint := range p.http {
				method, path, _ := strings.Cut(endpoint, " ")
				status, head, got := web(t, g.http, who.addr, who.token, method, path, "{}")
				if who.right == access.None {
					if status != 401 || head.Get("WWW-Authenticate") != `Bearer realm="forsun"` || !strings.Contains(got.Errmsg, "show a token") {
						t.Errorf("%s, %s: %d, %v, %s", who.name, endpoint, status, head, got.Errmsg)
					}
					continue
				}
				if refused := strings.Contains(got.Errmsg, "not allowed:"); refused != (who.right < p.need) || refused && got.Errcode != 1012 {
					t.Errorf("%s (right %s), %s (needs %s): %d, %+v", who.name, who.right, endpoint, p.need, status, got)
				}
			}
		}
	}
}

// TestScopedToken: the limits of a token hold over both interfaces.
func TestScopedToken(t *testing.T) {
	t.Parallel()
	g := startGuarded(t, nil)
	admin, limited := dialFrom(t, g.thrift, "10.0.0.9"), dialFrom(t, g.thrift, "203.0.113.9")
	must(t, limited, "auth", str(1, limitedToken))
	params := func(id byte) []byte { return []byte{13, 0, id, 11, 11, 0, 0, 0, 0} }
	create := func(c net.Conn, key, action string) reply {
		return must(t, c, "createTimeout", str(1, key), i16(2, 3600), i16(8, 1), str(9, action), params(10))
	}
	if got := create(admin, "theirs", "noop"); got != (reply{}) {
		t.Fatal(got)
	}
	if got := create(limited, "mine:1", "noop"); got != (reply{}) {
		t.Errorf("its own: %+v", got)
	}
	if got := create(limited, "theirs", "noop"); got.code != 1012 || !strings.Contains(got.message, "keys that begin with mine:") {
		t.Errorf("another's: %+v", got)
	}
	if got := create(limited, "mine:2", "shell"); got.code != 1012 || !strings.Contains(got.message, "allowed: noop, for this token") {
		t.Errorf("another action: %+v", got)
	}
	if got := must(t, limited, "remove", str(1, "theirs")); got.code != 1012 {
		t.Errorf("remove: %+v", got)
	}
	if got := must(t, limited, "get", str(1, "absent")); got.code != 1012 {
		t.Errorf("whether another's is there can be seen: %+v", got)
	}
	_, _, got := web(t, g.http, "203.0.113.9", limitedToken, "GET", "/v1/keys", "")
	if string(got.Data) != `["mine:1"]` {
		t.Errorf("keys: %s, %s", got.Data, got.Errmsg)
	}
	_, _, got = web(t, g.http, "203.0.113.9", limitedToken, "DELETE", "/v1/plan?key=theirs", "")
	if got.Errcode != 1012 {
		t.Errorf("DELETE: %+v", got)
	}
	_, _, got = web(t, g.http, "10.0.0.9", "", "GET", "/v1/keys", "")
	if string(got.Data) != `["mine:1","theirs"]` {
		t.Errorf("keys of all: %s", got.Data)
	}
}

// TestShellPlans: an authenticated peer may create them from anywhere; another is
// told what to do.
func TestShellPlans(t *testing.T) {
	t.Parallel()
	g := startGuarded(t, nil)
	body := `{"key":"s","seconds":3600,"count":1,"action":"shell","params":{"cmd":"true","password":"planted-secret"}}`
	rows := []struct {
		addr, token string
		code        int
	}{
		{"10.0.0.9", "", 1012},
		{"127.0.0.1", "", 0},
		{"10.0.0.9", writeToken, 0},
		{"203.0.113.9", writeToken, 0},
	}
	for _, row := range rows {
		_, _, got := web(t, g.http, row.addr, row.token, "PUT", "/v1/plan", body)
		if got.Errcode != row.code {
			t.Errorf("from %s with %q: %+v, want %d", row.addr, row.token, got, row.code)
		}
		if row.code != 0 {
			for _, part := range []string{"shell is not allowed", "loopback or an authenticated peer", row.addr, "show a token", "--token-file", "--shell-from"} {
				if !strings.Contains(got.Errmsg, part) {
					t.Errorf("%q lacks %q", got.Errmsg, part)
				}
			}
		}
	}
	audited := g.audit.String()
	for _, part := range []string{`"peer":"127.0.0.1:4711"`, `"as":"billing"`, `"key":"s"`, `"action":"shell"`, "audit: plan created", "audit: plan changed"} {
		if !strings.Contains(audited, part) {
			t.Errorf("the audit lacks %s: %s", part, audited)
		}
	}
}

// TestProxyWords: whom the proxy speaks for is let in or not by his own address;
// what is no header, or a bad one, gains nothing.
func TestProxyWords(t *testing.T) {
	t.Parallel()
	g := startGuarded(t, func(o *Options) { o.Tokens = nil })
	ping := string(call("ping", 1))
	rows := []struct {
		why, first string
		served     bool
	}{
		{"private", from("10.0.0.9"), true},
		{"loopback", from("127.0.0.1"), true},
		{"public", from("203.0.113.9"), false},
		{"public, IPv6", from("2001:db8::9"), false},
		{"mapped public", "PROXY TCP6 ::ffff:203.0.113.9 ::1 1 2\r\n", false},
		{"version 2, public", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x09\x0a\x00\x00\x01\x12\x67\x19\x3a", false},
		{"version 2, private", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x0a\x00\x00\x09\x0a\x00\x00\x01\x12\x67\x19\x3a", true},
		{"nobody", "PROXY UNKNOWN\r\n", true},
		{"a health check", "", true},
		{"bad", "PROXY TCP4 here there 1 2\r\n", false},
		{"too long", "PROXY " + strings.Repeat("x", 200) + "\r\n", false},
		{"twice", from("10.0.0.9") + from("127.0.0.1"), false},
	}
	for _, row := range rows {
		c := dial(t, g.thrift)
		if _, err := io.WriteString(c, row.first+ping); err != nil {
			t.Fatal(err)
		}
		got, err := readReply(t, c)
		if served := err == nil && got == (reply{}); served != row.served {
			t.Errorf("%s: %+v, %v, want served %t", row.why, got, err, row.served)
		}
		c.Close()
		web := dial(t, g.http)
		if _, err := io.WriteString(web, row.first+"GET /v1/ping HTTP/1.0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(web)
		if served := bytes.HasPrefix(text, []byte("HTTP/1.0 200")); served != row.served {
			t.Errorf("%s over HTTP: %s, want served %t", row.why, text, row.served)
		}
		web.Close()
	}
	// Who does not say whom he speaks for is told so.
	c := dial(t, g.thrift)
	if got := must(t, c, "get", str(1, "k")); got.code != 1012 || !strings.Contains(got.message, "the proxy at 127.0.0.1:") || !strings.Contains(got.message, "did not say whom it speaks for") {
		t.Errorf("the proxy itself: %+v", got)
	}
}

// TestUntrustedWords: nobody else is believed.
func TestUntrustedWords(t *testing.T) {
	t.Parallel()
	g := startGuarded(t, func(o *Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	c := dialFrom(t, g.thrift, "203.0.113.9")
	if _, err := c.Write(call("ping", 1)); err != nil {
		t.Fatal(err)
	}
	if got, err := readReply(t, c); err == nil && got == (reply{}) {
		t.Error("a header of somebody else was read")
	}
	for _, forwarded := range []string{"203.0.113.9", "junk"} {
		if status, _, got := web(t, g.http, "", "", "GET", "/v1/keys", "", "X-Forwarded-For", forwarded); status != 200 || got.Errcode != 0 {
			t.Errorf("X-Forwarded-For %s of somebody else: %d, %+v", forwarded, status, got)
		}
	}
}

func TestForwardedFor(t *testing.T) {
	t.Parallel()
	g := startGuarded(t, func(o *Options) {
		o.TrustedProxies = append(o.TrustedProxies, netip.MustParsePrefix("10.0.0.5/32"))
	})
	shell := `{"key":"s","seconds":3600,"count":1,"action":"shell"}`
	rows := []struct {
		why, proxied string // "": no PROXY header
		forwarded    []string
		token        string
		status, code int
	}{
		{"public", "", []string{"203.0.113.9"}, "", 401, 0},
		{"public with a token", "", []string{"203.0.113.9"}, writeToken, 200, 0},
		{"public with a bad token", "", []string{"203.0.113.9"}, badToken, 401, 0},
		{"private", "", []string{"10.0.0.9"}, "", 200, 1012},
		{"loopback, by a proxy on loopback", "", []string{"127.0.0.1"}, "", 200, 0},
		{"loopback, by a proxy elsewhere", "", []string{"127.0.0.1, 10.0.0.5"}, "", 200, 1012},
		{"loopback, made up", "", []string{"127.0.0.1, 203.0.113.9"}, "", 401, 0},
		{"in two headers", "", []string{"127.0.0.1", "203.0.113.9"}, "", 401, 0},
		{"nobody", "", nil, "", 200, 1012},
		{"junk", "", []string{"127.0.0.1, junk"}, "", 400, 0},
		{"by two proxies", "10.0.0.5", []string{"203.0.113.9"}, "", 401, 0},
		{"loopback, by a proxy behind one", "10.0.0.5", []string{"127.0.0.1"}, "", 200, 1012},
		{"behind somebody else", "10.0.0.9", []string{"127.0.0.1"}, "", 200, 1012},
	}
	for _, row := range rows {
		var headers []string
		for _, f := range row.forwarded {
			headers = append(headers, "X-Forwarded-For", f)
		}
		status, _, got := web(t, g.http, row.proxied, row.token, "PUT", "/v1/plan", shell, headers...)
		if status != row.status || got.Errcode != row.code {
			t.Errorf("%s: %d, %+v, want %d, %d", row.why, status, got, row.status, row.code)
		}
	}
}

// TestAuth: a token that is not valid is refused late and ends the connection; what
// a valid one may do follows its file.
func TestAuth(t *testing.T) {
	t.Parallel()
	g := startGuarded(t, nil)
	for _, addr := range []string{"203.0.113.9", "10.0.0.9"} {
		c := dialFrom(t, g.thrift, addr)
		began := time.Now()
		got := must(t, c, "auth", str(1, badToken))
		if got.code != 1012 || !strings.Contains(got.message, "none of those") || strings.Contains(got.message, "planted") {
			t.Errorf("bad token from %s: %+v", addr, got)
		}
		if took := time.Since(began); took < failureDelay {
			t.Errorf("answered after %s", took)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after it: %v, want the end", err)
		}
	}

	c := dialFrom(t, g.thrift, "203.0.113.9")
	if got := must(t, c, "auth", str(1, writeToken)); got != (reply{}) {
		t.Fatal(got)
	}
	if got := must(t, c, "remove", str(1, "absent")); got.code != 1003 {
		t.Errorf("with the right to write: %+v", got)
	}
	g.write(t, strings.Replace(tokenText, "billing write", "billing read", 1))
	if err := g.tokens.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := must(t, c, "remove", str(1, "absent")); got.code != 1012 || !strings.Contains(got.message, "billing has the right read, this needs write") {
		t.Errorf("with less: %+v", got)
	}
	if got := must(t, c, "get", str(1, "absent")); got.code != 1003 {
		t.Errorf("with the right to read: %+v", got)
	}
	// Another token on the same connection takes its place.
	if got := must(t, c, "auth", str(1, adminToken)); got != (reply{}) {
		t.Fatal(got)
	}
	if got := must(t, c, "remove", str(1, "absent")); got.code != 1003 {
		t.Errorf("with another: %+v", got)
	}
	g.write(t, "left read "+readToken+"\n")
	if err := g.tokens.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := must(t, c, "get", str(1, "absent")); got.code != 1012 {
		t.Errorf("with a token that is no more: %+v", got)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after it: %v, want the end", err)
	}

	// Where there are no tokens none is valid.
	none := startGuarded(t, func(o *Options) { o.Tokens, o.TrustedProxies = nil, nil })
	c = dial(t, none.thrift)
	if got := must(t, c, "auth", str(1, adminToken)); got.code != 1012 || !strings.Contains(got.message, "--auth-token-file") {
		t.Errorf("without tokens: %+v", got)
	}
	alive(t, c)
}

// secureOptions adds TLS.
func secureOptions(t *testing.T, authority *accesstest.Authority, o *Options) {
	t.Helper()
	cert, key := authority.Server("forsun")
	var err error
	if o.TLS, err = access.LoadCertificates(cert, key, authority.CA); err != nil {
		t.Fatal(err)
	}
}

// dialTLS connects as somebody at an address, with a certificate if one is named.
func dialTLS(t *testing.T, server, addr string, files access.ClientFiles) net.Conn {
	t.Helper()
	config, err := files.Config()
	if err != nil {
		t.Fatal(err)
	}
	config.ServerName = "localhost"
	c := tls.Client(dialFrom(t, server, addr), config)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTLS(t *testing.T) {
	t.Parallel()
	authority, others := accesstest.NewAuthority(t), accesstest.NewAuthority(t)
	var certs *access.Certificates
	g := startGuarded(t, func(o *Options) {
		secureOptions(t, authority, o)
		certs = o.TLS
	})
	cert, key := authority.Client("robot")
	plain, mine := access.ClientFiles{CA: authority.CA}, access.ClientFiles{CA: authority.CA, Cert: cert, Key: key}

	rows := []struct {
		why, addr string
		files     access.ClientFiles
		token     string
		code      int // of remove absent
	}{
		{"public", "203.0.113.9", plain, "", 1012},
		{"public with a token", "203.0.113.9", plain, writeToken, 1003},
		{"public with a certificate", "203.0.113.9", mine, "", 1003},
		{"a token decides, beside a certificate, too", "203.0.113.9", mine, readToken, 1012},
		{"private", "10.0.0.9", plain, "", 1003},
	}
	for _, row := range rows {
		c := dialTLS(t, g.thrift, row.addr, row.files)
		if row.token != "" {
			must(t, c, "auth", str(1, row.token))
		}
		if got := must(t, c, "remove", str(1, "absent")); got.code != row.code {
			t.Errorf("%s: %+v, want %d", row.why, got, row.code)
		}
		c.Close()

		web := dialTLS(t, g.http, row.addr, row.files)
		request := "DELETE /v1/plan?key=absent HTTP/1.0\r\n"
		if row.token != "" {
			request += "Authorization: bearer " + row.token + "\r\n"
		}
		if _, err := io.WriteString(web, request+"\r\n"); err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(web)
		want := fmt.Sprintf(`{"errcode":%d,`, row.code)
		if row.why == "public" {
			want = "401 Unauthorized"
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("%s over HTTP: %s, want %s", row.why, text, want)
		}
		web.Close()
	}

	// A proxy's certificate is not that of those it speaks for.
	web := dialTLS(t, g.http, "127.0.0.1", mine)
	if _, err := io.WriteString(web, "GET /v1/keys HTTP/1.0\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if text, _ := io.ReadAll(web); !bytes.Contains(text, []byte("401 Unauthorized")) {
		t.Errorf("behind a proxy with a certificate: %s", text)
	}

	// A certificate stops being good on open connections, too.
	c := dialTLS(t, g.thrift, "203.0.113.9", mine)
	if got := must(t, c, "get", str(1, "absent")); got.code != 1003 {
		t.Errorf("before: %+v", got)
	}
	other, err := os.ReadFile(others.CA)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(authority.CA)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(authority.CA, other, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := certs.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := must(t, c, "get", str(1, "absent")); got.code != 1012 {
		t.Errorf("after: %+v", got)
	}
	if err := os.WriteFile(authority.CA, before, 0o600); err != nil {
		t.Fatal(err)
	}

	// Who does not speak TLS gets nothing.
	clear := dialFrom(t, g.thrift, "10.0.0.9")
	if got, err := do(t, clear, "ping"); err == nil {
		t.Errorf("in the clear: %+v", got)
	}
}

// TestSlowArrivals: who does not get through with a header or a handshake, or does
// not show a token, is closed in time; and of such there is a bound, beyond which
// those that are let in are left alone.
func TestSlowArrivals(t *testing.T) {
	t.Parallel()
	authority := accesstest.NewAuthority(t)
	for _, secure := range []bool{false, true} {
		g := startGuarded(t, func(o *Options) {
			o.ArriveTimeout = 300 * time.Millisecond
			o.MaxConns = 8
			if secure {
				secureOptions(t, authority, o)
			}
		})
		var idle net.Conn
		if secure {
			idle = dialTLS(t, g.thrift, "10.0.0.9", access.ClientFiles{CA: authority.CA})
		} else {
			idle = dialFrom(t, g.thrift, "10.0.0.9")
		}
		if got := must(t, idle, "ping"); got != (reply{}) {
			t.Fatal(got)
		}
		for _, server := range []string{g.thrift, g.http} {
			for _, first := range []string{"", "P", "PROXY TCP4 10.0.0.9 ", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x10\x00", from("203.0.113.9"), from("203.0.113.9") + "\x80\x01"} {
				if server == g.http && !secure && (first == "" || strings.HasSuffix(first, "\n") || strings.HasSuffix(first, "\x01")) {
					continue // net/http's own time, or a bad request
				}
				c := dial(t, server)
				if _, err := io.WriteString(c, first); err != nil {
					t.Fatal(err)
				}
				if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
					t.Errorf("secure %t, %q: %v, want the end", secure, first, err)
				}
				c.Close()
			}
		}
		var crowd []net.Conn
		for range 30 {
			c := dial(t, g.thrift)
			io.WriteString(c, from("203.0.113.9")) // may be closed already
			crowd = append(crowd, c)
		}
		if got := must(t, idle, "ping"); got != (reply{}) {
			t.Errorf("secure %t: somebody who is let in was displaced: %+v", secure, got)
		}
		for _, c := range crowd {
			if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
				t.Errorf("secure %t, one of a crowd: %v, want the end", secure, err)
			}
			c.Close()
		}
		if got := must(t, idle, "ping"); got != (reply{}) {
			t.Errorf("secure %t: ping: %+v", secure, got)
		}
	}
}

// TestStrangersMessages: a stranger's message is not read beyond what a token
// takes.
func TestStrangersMessages(t *testing.T) {
	t.Parallel()
	g := startGuarded(t, nil)
	c := dialFrom(t, g.thrift, "203.0.113.9")
	long := call("auth", 1, str(1, strings.Repeat("x", 64<<10)))
	go c.Write(long) // it may be cut off
	if got, err := readReply(t, c); err == nil && !strings.Contains(got.message, "message too large") {
		t.Errorf("a long token: %+v", got)
	}
	for _, size := range []int{4200, 5000, 9000, 20_000} { // of what is not read at all
		c := dialFrom(t, g.thrift, "203.0.113.9")
		go c.Write(call("get", 1, str(1, strings.Repeat("k", size))))
		if got, err := readReply(t, c); err != nil || got == (reply{}) {
			t.Errorf("a call of %d bytes without a token: %+v, %v", size, got, err)
		}
	}
	// Who is known has all the room there is.
	c = dialFrom(t, g.thrift, "203.0.113.9")
	must(t, c, "auth", str(1, writeToken))
	value := strings.Repeat("v", 64<<10)
	params := append([]byte{13, 0, 10, 11, 11, 0, 0, 0, 1}, append(str(0, "p")[3:], str(0, value)[3:]...)...)
	if got := must(t, c, "createTimeout", str(1, "large"), i16(2, 3600), i16(8, 1), str(9, "noop"), params); got != (reply{}) {
		t.Errorf("a large plan: %+v", got)
	}
}

// TestAudit: every change is told, by whom, and nothing else.
func TestAudit(t *testing.T) {
	t.Parallel()
	g := startGuarded(t, nil)
	c := dialFrom(t, g.thrift, "203.0.113.9")
	must(t, c, "auth", str(1, adminToken))
	params := append([]byte{13, 0, 10, 11, 11, 0, 0, 0, 1}, append(str(0, "password")[3:], str(0, "planted-secret")[3:]...)...)
	must(t, c, "createTimeout", str(1, "t://user:planted@h/"), i16(2, 3600), i16(8, 1), str(9, "noop"), params)
	must(t, c, "create", str(1, "c"), i16(2, 5), str(8, "noop"))
	must(t, c, "create", str(1, "c"), i16(2, 5), str(8, "http")) // refused: it has no url
	must(t, c, "create", str(1, "c"), i16(2, 6), str(8, "noop"))
	must(t, c, "get", str(1, "c"))
	must(t, c, "remove", str(1, "c"))
	must(t, c, "remove", str(1, "c")) // there is none
	must(t, c, "purge", str(2, "c"))
	must(t, c, "redrive", []byte{2, 0, 3, 1})
	web(t, g.http, "10.0.0.9", "", "PUT", "/v1/plan", `[{"key":"h1","seconds":3600,"count":1,"action":"noop"},{"key":"h2","seconds":3600,"count":1,"action":"noop"}]`)
	web(t, g.http, "10.0.0.9", "", "PUT", "/v1/plan", `[{"key":"h3","seconds":3600,"count":1,"action":"noop"},{"key":"h2","seconds":60,"count":1,"action":"noop"},{"key":"h3","seconds":60,"count":1,"action":"noop"}]`)
	web(t, g.http, "10.0.0.9", "", "DELETE", "/v1/plan?key=h1", "")
	web(t, g.http, "10.0.0.9", "", "POST", "/v1/dead/purge", `{"all":true}`)
	var got []string
	for line := range strings.Lines(g.audit.String()) {
		var e struct {
			Message, Method, Peer, As, Key, Action string
			All                                    bool
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s | %s %s %s %s %s %t", e.Message, e.Method, e.Peer, e.As, e.Key, e.Action, e.All))
	}
	want := []string{
		"audit: plan created | createTimeout 203.0.113.9:4711 ops t://***@h/ noop false",
		"audit: plan created | create 203.0.113.9:4711 ops c noop false",
		"audit: plan changed | create 203.0.113.9:4711 ops c noop false",
		"audit: plan removed | remove 203.0.113.9:4711 ops c noop false",
		"audit: dead letters purged | purge 203.0.113.9:4711 ops c  false",
		"audit: dead letters redriven | redrive 203.0.113.9:4711 ops   true",
		"audit: plan created | PUT /v1/plan 10.0.0.9:4711  h1 noop false",
		"audit: plan created | PUT /v1/plan 10.0.0.9:4711  h2 noop false",
		"audit: plan created | PUT /v1/plan 10.0.0.9:4711  h3 noop false",
		"audit: plan changed | PUT /v1/plan 10.0.0.9:4711  h2 noop false",
		"audit: plan changed | PUT /v1/plan 10.0.0.9:4711  h3 noop false",
		"audit: plan removed | DELETE /v1/plan 10.0.0.9:4711  h1 noop false",
		"audit: dead letters purged | purge 10.0.0.9:4711    true",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// unsure is a store that stores, and is not sure of it.
type unsure struct{ scheduler.Store }

func (u unsure) Put(ctx context.Context, plans []*scheduler.Plan) []error {
	errs := u.Store.Put(ctx, plans)
	for i := range errs {
		errs[i] = scheduler.ErrUnsure
	}
	return errs
}

// TestUnsurePlans: of a bulk create each plan that may be stored says so.
func TestUnsurePlans(t *testing.T) {
	t.Parallel()
	api := NewHTTPServer(newService(t, unsure{newStore(t)}), DefaultOptions()).api
	body := strings.NewReader(`[{"key":"a","seconds":60,"count":1,"action":"noop"},{"key":"b","seconds":60,"count":1,"action":"noop"}]`)
	data, err := api.create(t.Context(), httptest.NewRequest("PUT", "/v1/plan", body))
	if !errors.Is(err, scheduler.ErrUnsure) {
		t.Errorf("got %v, want ErrUnsure", err)
	}
	text := data.(jsonAppender).appendJSON(nil)
	var got []struct {
		Key     string
		Code    int    `json:"errcode"`
		Due     int64  `json:"next_time"`
		Message string `json:"errmsg"`
	}
	if err := json.Unmarshal(text, &got); err != nil || len(got) != 2 {
		t.Fatalf("%s: %v", text, err)
	}
	for i, key := range []string{"a", "b"} {
		if g := got[i]; g.Key != key || g.Code != 1011 || g.Due == 0 || g.Message != "durability unknown" {
			t.Errorf("%s: got %+v", key, g)
		}
	}
}

// TestAuditOfCreates: each way to store a plan tells whether it was created or
// changed, or, where that is not known, that it was set.
func TestAuditOfCreates(t *testing.T) {
	t.Parallel()
	restore := func(h *handler, checkOnly bool) error {
		_, err := h.restorePlans(t.Context(), &forsun.ForsunRestorePlansArgs{
			Replace: true, CheckOnly: checkOnly,
			Plans: []*forsun.ForsunPlanInfo{{Key: "k", IsTimeOut: true, Second: 60, Count: 1, Action: "noop"}},
		})
		return err
	}
	rows := []struct {
		name string
		call func(h *handler, a *api) error
	}{
		{"create", func(h *handler, _ *api) error {
			h.createAll(t.Context(), []*creation{create(&forsun.ForsunCreateArgs{Key: "k", Second: 5, Minute: -1, Hour: -1, Day: -1, Month: -1, Week: -1, Action: "noop"})})
			return nil
		}},
		{"createTimeout", func(h *handler, _ *api) error {
			h.createAll(t.Context(), []*creation{createTimeout(&forsun.ForsunCreateTimeoutArgs{Key: "k", Second: 60, Count: 1, Action: "noop"})})
			return nil
		}},
		{"createMany", func(h *handler, _ *api) error {
			_, err := h.createMany(t.Context(), &forsun.ForsunCreateManyArgs{
				Requests: []*forsun.ForsunPlanRequest{{Key: "k", IsTimeOut: true, Second: 60, Count: 1, Action: "noop"}},
			})
			return err
		}},
		{"restorePlans", func(h *handler, _ *api) error { return errors.Join(restore(h, true), restore(h, false)) }},
		{"PUT /v1/plan", func(_ *handler, a *api) error {
			body := strings.NewReader(`{"key":"k","seconds":60,"count":1,"action":"noop"}`)
			if _, err := a.create(t.Context(), httptest.NewRequest("PUT", "/v1/plan", body)); !errors.Is(err, scheduler.ErrUnsure) {
				return err
			}
			return nil
		}},
	}
	for _, row := range rows {
		var told logBuffer
		opts, store := DefaultOptions(), newStore(t)
		opts.Audit = zerolog.New(&told)
		for _, s := range []scheduler.Store{store, store, unsure{store}} {
			svc := newService(t, s)
			if err := row.call(newHandler(svc, opts), NewHTTPServer(svc, opts).api); err != nil {
				t.Errorf("%s: %v", row.name, err)
			}
		}
		var got []string
		for line := range strings.Lines(told.String()) {
			var e struct{ Message, Method, Key string }
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Message+" | "+e.Method+" "+e.Key)
		}
		var want []string
		for _, did := range []string{"created", "changed", "set"} {
			want = append(want, "audit: plan "+did+" | "+row.name+" k")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", row.name, got, want)
		}
	}
}

// writes counts what is written, and keeps it.
type writes struct {
	logBuffer
	n atomic.Int32
}

func (w *writes) Write(b []byte) (int, error) {
	w.n.Add(1)
	return w.logBuffer.Write(b)
}

// TestAuditOfMany: what a request for many plans did is told line by line, in their order,
// in a write or a few, whichever way it came.
func TestAuditOfMany(t *testing.T) {
	t.Parallel()
	const n = 500
	rows := []struct {
		name string
		call func(h *handler, a *api, key func(int) string) error
	}{
		{"create", func(h *handler, _ *api, key func(int) string) error {
			var all []*creation
			for i := range n {
				all = append(all, createTimeout(&forsun.ForsunCreateTimeoutArgs{Key: key(i), Second: 60, Count: 1, Action: "noop"}))
			}
			h.createAll(t.Context(), all)
			return nil
		}},
		{"createMany", func(h *handler, _ *api, key func(int) string) error {
			var a forsun.ForsunCreateManyArgs
			for i := range n {
				a.Requests = append(a.Requests, &forsun.ForsunPlanRequest{Key: key(i), IsTimeOut: true, Second: 60, Count: 1, Action: "noop"})
			}
			_, err := h.createMany(t.Context(), &a)
			return err
		}},
		{"restorePlans", func(h *handler, _ *api, key func(int) string) error {
			var a forsun.ForsunRestorePlansArgs
			for i := range n {
				a.Plans = append(a.Plans, &forsun.ForsunPlanInfo{Key: key(i), IsTimeOut: true, Second: 60, Count: 1, Action: "noop"})
			}
			_, err := h.restorePlans(t.Context(), &a)
			return err
		}},
		{"PUT /v1/plan", func(_ *handler, a *api, key func(int) string) error {
			all := make([]string, n)
			for i := range all {
				all[i] = fmt.Sprintf(`{"key":%q,"seconds":60,"count":1,"action":"noop"}`, key(i))
			}
			body := strings.NewReader("[" + strings.Join(all, ",") + "]")
			_, err := a.create(t.Context(), httptest.NewRequest("PUT", "/v1/plan", body))
			return err
		}},
	}
	for _, row := range rows {
		var told writes
		opts, svc := DefaultOptions(), newService(t, newStore(t))
		opts.Audit, opts.AuditLines = zerolog.New(&told), &told
		key := func(i int) string { return fmt.Sprintf("%s-%03d", row.name, i) }
		if err := row.call(newHandler(svc, opts), NewHTTPServer(svc, opts).api, key); err != nil {
			t.Errorf("%s: %v", row.name, err)
		}
		i := 0
		for line := range strings.Lines(told.String()) {
			var e struct{ Message, Key string }
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Key != key(i) || e.Message != "audit: plan created" {
				t.Fatalf("%s: line %d: %q, %v", row.name, i, line, err)
			}
			i++
		}
		if most := int32(len(told.String())/(auditRoom-1000) + 1); i != n || told.n.Load() > most {
			t.Errorf("%s: %d lines in %d writes, want %d in %d at most", row.name, i, told.n.Load(), n, most)
		}
	}
}
