package actions

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
)

func newHTTP(t *testing.T, change ...func(*HTTPOptions)) *HTTP {
	t.Helper()
	opts := DefaultHTTPOptions()
	for _, c := range change {
		c(&opts)
	}
	a := NewHTTP(opts)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return a
}

// serveHTTP runs a server until the test ends.
func serveHTTP(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

// seen is a request as a receiver got it.
type seen struct {
	*http.Request
	body string
}

// recorder answers 200 "ok" and hands on what it got.
func recorder(t *testing.T) (*httptest.Server, chan seen) {
	requests := make(chan seen, 16)
	return serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- seen{r, string(body)}
		io.WriteString(w, "ok")
	}), requests
}

func TestHTTPCheck(t *testing.T) {
	const urlAllowed = "allowed: an http or https URL with a host, e.g. http://host:8080/path?query"
	with := func(more ...string) map[string]string {
		p := map[string]string{"url": "http://h/"}
		for i := 0; i < len(more); i += 2 {
			p[more[i]] = more[i+1]
		}
		return p
	}
	testCheck(t, newHTTP(t), []checkRow{
		{"a URL", with(), ""},
		{"everything", with("method", "PUT", "body", "x", "header_X-A", "1", "auth_username", "u", "auth_password", "p",
			"auth_mode", "Digest", "user_agent", "me", "connect_timeout", "0.5", "request_timeout", "3600", "unknown", "x"), ""},
		{"https, IPv6, blanks around", with("url", " https://[::1]:8443/a b?c=ü "), ""},
		{"no URL", map[string]string{}, "params.url: required, but not given"},
		{"another scheme", with("url", "ftp://h/"), "params.url: ftp://h/ is not allowed; " + urlAllowed},
		{"no scheme", with("url", "h/path"), "params.url: h/path is not allowed; " + urlAllowed},
		{"no host", with("url", "http:///path"), "params.url: http:///path is not allowed; " + urlAllowed},
		{"no URL at all", with("url", "http://h:port/"), "params.url: http://h:port/ is not allowed; " + urlAllowed},
		{"a password that ends the host", with("url", "http://u:s3#c@h/"), "params.url: action parameters not allowed; " + urlAllowed},
		{"port out of range", with("url", "http://h:70000/"), "params.url: http://h:70000/ is not allowed; allowed: a URL with a port of 1 to 65535"},
		{"user info is not shown", with("url", "gopher://u:p@h/"), "params.url: gopher://***@h/ is not allowed; " + urlAllowed},
		{"method", with("method", "patch"), "params.method: patch is not allowed; allowed: get, post, put, delete, head"},
		{"auth_mode", with("auth_mode", "ntlm"), "params.auth_mode: ntlm is not allowed; allowed: basic, digest"},
		{"connect_timeout", with("connect_timeout", "0"), "params.connect_timeout: 0 is not allowed; allowed: seconds, more than 0 and at most 3600"},
		{"request_timeout", with("request_timeout", "1h"), "params.request_timeout: 1h is not allowed; allowed: seconds, more than 0 and at most 3600"},
		{"user_agent", with("user_agent", "a\r\nb"), `params.user_agent: "a\r\nb" is not allowed; allowed: text without line breaks and control characters`},
		{"header name", with("header_X Y", "1"), "params.header_\"X Y\": action parameters not allowed; allowed: a header name of letters, digits and !#$%&'*+-.^_`|~ after header_"},
		{"header without name", with("header_", "1"), "params.header_: action parameters not allowed; allowed: a header name of letters, digits and !#$%&'*+-.^_`|~ after header_"},
		{"header value", with("header_X", "1\nY: 2"), `params.header_X: "1\nY: 2" is not allowed; allowed: text without line breaks and control characters`},
		{"a secret header value", with("header_Cookie", "s3cret\n"), "params.header_Cookie: *** is not allowed; allowed: text without line breaks and control characters"},
	})
}

func TestHTTPTargetAndTimeout(t *testing.T) {
	a := newHTTP(t)
	for _, tt := range []struct{ url, want string }{
		{"http://Host.Example/a", "host.example:80"},
		{"https://u:p@h/", "h:443"},
		{"http://h:8080", "h:8080"},
		{"http://[::1]/", "[::1]:80"},
		{"::", ""},
	} {
		if got := a.Target(map[string]string{"url": tt.url}); got != tt.want {
			t.Errorf("Target(%s): got %q, want %q", tt.url, got, tt.want)
		}
	}
	for value, want := range map[string]time.Duration{"": time.Minute, "2.5": 2500 * time.Millisecond, "bad": time.Minute} {
		if got := a.Timeout(map[string]string{"request_timeout": value}); got != want {
			t.Errorf("Timeout with %q: got %v, want %v", value, got, want)
		}
	}
}

func TestHTTPRequests(t *testing.T) {
	server, requests := recorder(t)
	a := newHTTP(t, func(o *HTTPOptions) { o.UserAgent = "forsun/1.2.3" })
	id := string(testFiring(nil).ID())
	own := map[string]string{ // on every request
		"X-FORSUN-TIMESTAMP": "1700000000", "X-FORSUN-KEY": "pl%C3%A4ne/50%25",
		"X-FORSUN-FIRING-ID": id, "X-FORSUN-ATTEMPT": "2",
	}
	const absent = "\x00"
	tests := []struct {
		why               string
		params            map[string]string
		method, uri, body string
		host              string
		headers           map[string]string
		contentLength     int64
	}{
		{
			why: "the defaults", params: map[string]string{"url": "/a?b=c#d"}, method: "GET", uri: "/a?b=c",
			headers: map[string]string{"User-Agent": "forsun/1.2.3", "Content-Type": absent, "Accept-Encoding": absent, "Authorization": absent},
		},
		{
			why: "POST", params: map[string]string{"method": "post", "body": "a=1"}, method: "POST", uri: "/", body: "a=1", contentLength: 3,
			headers: map[string]string{"Content-Type": "application/x-www-form-urlencoded"},
		},
		{
			why: "POST without a body", params: map[string]string{"method": "Post"}, method: "POST", uri: "/",
			headers: map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Content-Length": "0"},
		},
		{
			why: "POST of another type", params: map[string]string{"method": "POST", "body": "{}", "header_content-type": "application/json"},
			method: "POST", uri: "/", body: "{}", contentLength: 2, headers: map[string]string{"Content-Type": "application/json"},
		},
		{
			why: "PUT", params: map[string]string{"method": "put", "body": "x"}, method: "PUT", uri: "/", body: "x", contentLength: 1,
			headers: map[string]string{"Content-Type": absent},
		},
		{why: "DELETE", params: map[string]string{"method": "DeLeTe"}, method: "DELETE", uri: "/"},
		{why: "HEAD", params: map[string]string{"method": "head"}, method: "HEAD", uri: "/"},
		{why: "GET with a body", params: map[string]string{"body": "x"}, method: "GET", uri: "/", body: "x", contentLength: 1},
		{why: "GET with an empty body", params: map[string]string{"body": ""}, method: "GET", uri: "/"},
		{
			why: "headers", params: map[string]string{"header_X_Under-score": " v ", "header_accept": "text/plain", "header_User-Agent": "theirs", "user_agent": "ours"},
			method: "GET", uri: "/", headers: map[string]string{"X_under-Score": "v", "Accept": "text/plain", "User-Agent": "theirs"},
		},
		{why: "user_agent", params: map[string]string{"user_agent": "ours"}, method: "GET", uri: "/", headers: map[string]string{"User-Agent": "ours"}},
		{why: "Host", params: map[string]string{"header_Host": "virtual.example"}, method: "GET", uri: "/", host: "virtual.example"},
		{
			why: "headers that are forsun's", params: map[string]string{
				"header_X-FORSUN-TIMESTAMP": "1", "header_x-forsun-attempt": "9",
				"header_content-length": "99", "header_Transfer-Encoding": "chunked", "body": "xy", "method": "post",
			},
			method: "POST", uri: "/", body: "xy", contentLength: 2,
		},
		{
			why: "basic auth", params: map[string]string{"auth_username": "me", "auth_password": "s3cret"}, method: "GET", uri: "/",
			headers: map[string]string{"Authorization": "Basic bWU6czNjcmV0"},
		},
		{
			why: "user info in the URL", params: map[string]string{"url": "@me:s3%63ret"}, method: "GET", uri: "/",
			headers: map[string]string{"Authorization": "Basic bWU6czNjcmV0"},
		},
		{why: "what a request line cannot carry", params: map[string]string{"url": "/a b/ü?q=ü x&r=%20"}, method: "GET", uri: "/a%20b/%C3%BC?q=%C3%BC%20x&r=%20"},
	}
	for _, tt := range tests {
		params := maps.Clone(tt.params)
		if info, ok := strings.CutPrefix(params["url"], "@"); ok {
			params["url"] = strings.Replace(server.URL, "://", "://"+info+"@", 1)
		} else {
			params["url"] = server.URL + params["url"]
		}
		out, err := attempt(t, a, testFiring(params))
		if err != nil || (out != "ok" && tt.method != "HEAD") {
			t.Errorf("%s: got %q, %v; want ok", tt.why, out, err)
			continue
		}
		got := <-requests
		if got.Method != tt.method || got.RequestURI != tt.uri || got.body != tt.body || got.ContentLength != tt.contentLength {
			t.Errorf("%s: got %s %s with %q (%d); want %s %s with %q (%d)",
				tt.why, got.Method, got.RequestURI, got.body, got.ContentLength, tt.method, tt.uri, tt.body, tt.contentLength)
		}
		if tt.host != "" && got.Host != tt.host {
			t.Errorf("%s: Host: got %q, want %q", tt.why, got.Host, tt.host)
		}
		want := maps.Clone(own)
		maps.Copy(want, tt.headers)
		for name, value := range want {
			values := got.Header.Values(name)
			if value == absent && len(values) > 0 || value != absent && (len(values) != 1 || values[0] != value) {
				t.Errorf("%s: header %s: got %q, want %q", tt.why, name, values, value)
			}
		}
		if key, err := url.PathUnescape(got.Header.Get("X-FORSUN-KEY")); err != nil || key != "pläne/50%" {
			t.Errorf("%s: the key decodes to %q, %v", tt.why, key, err)
		}
	}
}

func TestHTTPAnswers(t *testing.T) {
	server := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		for name, values := range r.URL.Query() {
			if name != "status" {
				w.Header()[name] = values
			}
		}
		var status int
		fmt.Sscan(r.URL.Query().Get("status"), &status)
		w.WriteHeader(status)
		if status != 204 && status != 304 {
			io.WriteString(w, "said so")
		}
	})
	a := newHTTP(t)
	tests := []struct {
		query  string
		err    string // "" = success
		retry  bool
		after  time.Duration
		silent bool // no body
	}{
		{query: "status=200"},
		{query: "status=204", silent: true},
		{query: "status=299"},
		{query: "status=300"},
		{query: "status=302"}, // without a Location there is nowhere to go
		{query: "status=304", silent: true},
		{query: "status=400", err: "400 Bad Request"},
		{query: "status=401", err: "401 Unauthorized"},
		{query: "status=404", err: "404 Not Found"},
		{query: "status=404&Retry-After=5", err: "404 Not Found"},
		{query: "status=499", err: "499"},
		{query: "status=408", err: "408 Request Timeout", retry: true},
		{query: "status=429", err: "429 Too Many Requests", retry: true},
		{query: "status=429&Retry-After=7", err: "429 Too Many Requests", retry: true, after: 7 * time.Second},
		{query: "status=500", err: "500 Internal Server Error", retry: true},
		{query: "status=503&Retry-After=99999999999", err: "503 Service Unavailable", retry: true, after: time.Hour},
		{query: "status=503&Retry-After=soon", err: "503 Service Unavailable", retry: true},
		{query: "status=599", err: "599", retry: true},
	}
	for _, tt := range tests {
		out, err := attempt(t, a, testFiring(map[string]string{"url": server.URL + "/p?" + tt.query}))
		got, want := "", ""
		if err != nil {
			got = err.Error()
		}
		if tt.err != "" {
			want = "http GET " + server.URL + "/p: " + tt.err
		}
		if got != want || isRetryable(err) != tt.retry {
			t.Errorf("%s: got %q, retryable %v; want %q, %v", tt.query, got, isRetryable(err), want, tt.retry)
		}
		if retry, ok := errors.AsType[*scheduler.RetryableError](err); ok && retry.After != tt.after {
			t.Errorf("%s: to wait: got %v, want %v", tt.query, retry.After, tt.after)
		}
		if wantOut := map[bool]string{false: "said so"}[tt.silent]; out != wantOut {
			t.Errorf("%s: output: got %q, want %q", tt.query, out, wantOut)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		value string
		want  time.Duration
	}{
		{"", 0},
		{"0", 0},
		{" 120 ", 2 * time.Minute},
		{"-1", 0},
		{"1.5", 0},
		{"3601", time.Hour},
		{"18446744073709551615", time.Hour},
		{"Mon, 23 Nov 2026 12:00:30 GMT", 30 * time.Second},
		{"Mon, 23 Nov 2026 11:59:00 GMT", 0},
		{"Tue, 24 Nov 2026 12:00:00 GMT", time.Hour},
		{"Monday, 23-Nov-26 12:00:30 GMT", 30 * time.Second},
	} {
		if got := retryAfter(tt.value, now); got != tt.want {
			t.Errorf("retryAfter(%q): got %v, want %v", tt.value, got, tt.want)
		}
	}
}

func TestHTTPTransportErrors(t *testing.T) {
	closed, _ := listen(t)
	closed.Close()
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "secure") }))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshake that must fail
	secure.StartTLS()
	t.Cleanup(secure.Close)
	broken := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		defer conn.Close()
		switch r.URL.Path {
		case "/short":
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
		case "/garbage":
			io.WriteString(conn, "s3cret garbage\r\n\r\n")
		case "/bomb":
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: ")
			io.Copy(conn, io.LimitReader(endless{}, 1<<20))
		}
	})
	a := newHTTP(t)
	for _, tt := range []struct {
		why, url, text string
	}{
		{"nobody listens", "http://" + closed.Addr().String(), "connection refused"},
		{"no such host", "http://nowhere.invalid/", "nowhere.invalid"},
		{"a certificate nobody vouches for", secure.URL, "certificate"},
		{"https of a plain server", strings.Replace(broken.URL, "http:", "https:", 1), "HTTP response to HTTPS client"},
		{"closed without an answer", broken.URL + "/", "EOF"},
		{"a body that breaks off", broken.URL + "/short", "200, but its body broke off"},
		{"no HTTP", broken.URL + "/garbage", "malformed HTTP"},
		{"headers without end", broken.URL + "/bomb", "exceeded"},
	} {
		out, err := attempt(t, a, testFiring(map[string]string{"url": tt.url, "passwd": "s3cret"}))
		wantFailure(t, tt.why, err, true, tt.text)
		if err != nil && strings.Contains(err.Error()+out, "s3cret") {
			t.Errorf("%s: a secret is in %q, %q", tt.why, err, out)
		}
	}

	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	trusting := newHTTP(t, func(o *HTTPOptions) { o.TLS = &tls.Config{RootCAs: roots} })
	if out := must(t, trusting, testFiring(map[string]string{"url": secure.URL})); out != "secure" {
		t.Errorf("with its certificate trusted: got %q, want secure", out)
	}
}

// endless is a body without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte("x"), len(p))), nil }

func TestHTTPHangs(t *testing.T) {
	server := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/body":
			io.WriteString(w, "a part")
			w.(http.Flusher).Flush()
		case "/401":
			w.Header().Set("WWW-Authenticate", `Digest realm="r", nonce="n", qop="auth"`)
			w.WriteHeader(http.StatusUnauthorized)
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	})
	silent, _ := listen(t)
	for _, tt := range []struct {
		why    string
		params map[string]string
	}{
		{"no answer", map[string]string{"url": server.URL}},
		{"a body that stops", map[string]string{"url": server.URL + "/body"}},
		{"a challenge that stops", map[string]string{"url": server.URL + "/401", "auth_mode": "digest", "auth_username": "u"}},
		{"no TLS handshake", map[string]string{"url": "https://" + silent.Addr().String(), "connect_timeout": "60"}},
	} {
		t.Run(tt.why, func(t *testing.T) { wantEndAtDeadline(t, newHTTP(t), testFiring(tt.params)) })
	}
}

// connect_timeout covers the TLS handshake, and is each plan's own.
func TestHTTPConnectTimeout(t *testing.T) {
	silent, _ := listen(t)
	a := newHTTP(t)
	for _, timeout := range []string{"0.05", "0.2"} {
		start := time.Now()
		_, err := attempt(t, a, testFiring(map[string]string{"url": "https://" + silent.Addr().String(), "connect_timeout": timeout}))
		want, _ := time.ParseDuration(timeout + "s")
		wantFailure(t, timeout, err, true, fmt.Sprintf("connect: not done in %v", want))
		if took := time.Since(start); took < want || took > want+5*time.Second {
			t.Errorf("connect_timeout %s: took %v", timeout, took)
		}
	}
}

// An answer without end is cut off, and the attempt a success: the receiver has
// answered.
func TestHTTPEndlessBody(t *testing.T) {
	server := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, endless{}) })
	start := time.Now()
	out := must(t, newHTTP(t), testFiring(map[string]string{"url": server.URL}))
	if len(out) != scheduler.MaxOutput || time.Since(start) > 5*time.Second {
		t.Errorf("got %d bytes after %v, want %d soon", len(out), time.Since(start), scheduler.MaxOutput)
	}
}

func TestHTTPReusesConnections(t *testing.T) {
	l, _ := listen(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/fail" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		io.Copy(w, io.LimitReader(endless{}, 20_000)) // more than is kept
	}))
	server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	a := newHTTP(t)
	for _, path := range []string{"/", "/fail", "/", "/"} {
		attempt(t, a, testFiring(map[string]string{"url": server.URL + path}))
	}
	if n := l.accepted(); n != 1 {
		t.Errorf("four requests, one after another, took %d connections, want 1", n)
	}
}

// The environment's proxies are not used. Proxies of the environment are read
// once per process, so what is looked at is that the transport has none.
func TestHTTPUsesNoProxy(t *testing.T) {
	if newHTTP(t).transport.Proxy != nil {
		t.Error("the transport asks for a proxy")
	}
}

// No secret, in any form a peer may send it back in, is in output or error.
func TestHTTPSecretsStayInside(t *testing.T) {
	echo := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s\n%q\n%s\n", r.Method, r.URL, body, r.Header, r.Header)
		if user, password, ok := r.BasicAuth(); ok {
			fmt.Fprintf(w, "%s %s %s\n", user, password, url.QueryEscape(password))
		}
	})
	params := map[string]string{
		"url":                  strings.Replace(echo.URL, "://", "://user:in-the-url@", 1),
		"method":               "post",
		"body":                 `{"p":"in-passwd","q":"in-password"}`,
		"passwd":               "in-passwd",
		"password":             "in-password",
		"header_Cookie":        "sid=in-the-cookie",
		"header_Authorization": "Bearer in-the-header",
		"header_X-Seen":        "not a secret",
	}
	check := func(params map[string]string, secrets ...string) {
		out, err := attempt(t, newHTTP(t), testFiring(params))
		wantFailure(t, "an echo", err, false, "418")
		if !strings.Contains(out, "not a secret") {
			t.Errorf("output %q, want what the server said", out)
		}
		for _, secret := range secrets {
			if strings.Contains(out, secret) || err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%q is in the output %q or the error %q", secret, out, err)
			}
		}
	}
	check(params, "in-passwd", "in-password", "in-the-cookie", "in-the-url", "dXNlcjppbi10aGUtdXJs")
	params["url"] = echo.URL
	check(params, "in-passwd", "in-password", "in-the-cookie", "in-the-header")
	params["auth_username"], params["auth_password"] = "user", `in "auth" &c`
	check(params, `in "auth" &c`, `in \"auth\" &c`, "in+%22auth%22+%26c", "dXNlcjppbiAiYXV0aCIgJmM=")

	refused, _ := net.Listen("tcp", "127.0.0.1:0")
	refused.Close()
	_, err := attempt(t, newHTTP(t), testFiring(map[string]string{"url": "http://user:in-the-url@" + refused.Addr().String() + "/p?token=in-the-query"}))
	wantFailure(t, "refused", err, true, "http GET http://"+refused.Addr().String()+"/p: ")
	if strings.Contains(err.Error(), "in-the") {
		t.Errorf("a secret is in %q", err)
	}
}

func TestHTTPOptions(t *testing.T) {
	if err := DefaultHTTPOptions().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	want := "http action: UserAgent: \"a\\nb\" is not allowed; allowed: printable text\n" +
		"http action: ConnectTimeout: 0s is not allowed; allowed: above 0, at most 1h\n" +
		"http action: RequestTimeout: 2h0m0s is not allowed; allowed: above 0, at most 1h\n" +
		"http action: IdleTime: 0s is not allowed; allowed: above 0\n" +
		"http action: MaxIdlePerHost: 0 is not allowed; allowed: at least 1\n" +
		"http action: MaxIdle: -1 is not allowed; allowed: at least 1"
	err := HTTPOptions{UserAgent: "a\nb", RequestTimeout: 2 * time.Hour, MaxIdle: -1}.Validate()
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
