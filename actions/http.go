package actions

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/icholy/digest"

	"github.com/snower/forsun/scheduler"
)

// HTTPOptions configure the http action.
type HTTPOptions struct {
	UserAgent      string        // where the plan sets no user_agent
	ConnectTimeout time.Duration // where the plan sets no connect_timeout; above 0, at most 1 h
	RequestTimeout time.Duration // where the plan sets no request_timeout; above 0, at most 1 h
	IdleTime       time.Duration // an unused connection is closed after this; above 0
	MaxIdlePerHost int           // connections kept unused to one host; at least 1
	MaxIdle        int           // connections kept unused over all hosts; at least 1
	TLS            *tls.Config   // trusted roots, client certificate; nil: the system's roots
	Egress         Egress        // what may be connected to
}

// DefaultHTTPOptions returns the options of a deployment that sets none. 64 is
// how many requests a target can have under way by default, so that a burst to
// one host reuses all of its connections.
func DefaultHTTPOptions() HTTPOptions {
	return HTTPOptions{
		UserAgent:      "forsun",
		ConnectTimeout: 5 * time.Second,
		RequestTimeout: 60 * time.Second,
		IdleTime:       120 * time.Second,
		MaxIdlePerHost: 64,
		MaxIdle:        512,
	}
}

// maxHTTPTimeout bounds the timeouts of a plan and of the options.
const maxHTTPTimeout = time.Hour

// Validate says which options are out of range, all of them joined.
func (o HTTPOptions) Validate() error {
	var errs []error
	bad := func(wrong bool, field string, value any, allowed string) {
		if wrong {
			errs = append(errs, fmt.Errorf("http action: %s: %v is not allowed; allowed: %s", field, value, allowed))
		}
	}
	bad(!headerValue(o.UserAgent), "UserAgent", strconv.Quote(o.UserAgent), "printable text")
	bad(o.ConnectTimeout <= 0 || o.ConnectTimeout > maxHTTPTimeout, "ConnectTimeout", o.ConnectTimeout, "above 0, at most 1h")
	bad(o.RequestTimeout <= 0 || o.RequestTimeout > maxHTTPTimeout, "RequestTimeout", o.RequestTimeout, "above 0, at most 1h")
	bad(o.IdleTime <= 0, "IdleTime", o.IdleTime, "above 0")
	bad(o.MaxIdlePerHost < 1, "MaxIdlePerHost", o.MaxIdlePerHost, "at least 1")
	bad(o.MaxIdle < 1, "MaxIdle", o.MaxIdle, "at least 1")
	return errors.Join(errs...)
}

// HTTP is the action that sends a request to a URL.
//
// The request carries, whatever the plan's own headers say:
//
//	X-Forsun-Timestamp   the due second, Unix
//	X-Forsun-Key         the plan's key; bytes other than visible ASCII, and %, as %XX
//	X-Forsun-Firing-Id   the firing's id: the same for every attempt
//	X-Forsun-Attempt     1, 2, …
//
// An answer of 2xx or 3xx is a success; redirects are followed, at most 10.
// Plan headers are not carried to another host, nor from https to http. HTTP/1.1
// is spoken, so that a host that hangs holds up one request per connection;
// proxies named in the environment are not used; certificates are verified.
//
// At least once: when a connection breaks after the request was sent, only GET
// and HEAD are sent again at once (by net/http, when the connection had been
// idle); for the others the attempt fails, so that "forsun.retries=0" holds.
type HTTP struct {
	opts      HTTPOptions
	transport *http.Transport
}

var _ scheduler.Action = (*HTTP)(nil)

// NewHTTP returns the http action. opts must be valid. Close it.
func NewHTTP(opts HTTPOptions) *HTTP {
	a := &HTTP{opts: opts}
	a.transport = &http.Transport{
		DialContext:            a.dial,
		DialTLSContext:         a.dialTLS,
		MaxIdleConns:           opts.MaxIdle,
		MaxIdleConnsPerHost:    opts.MaxIdlePerHost,
		IdleConnTimeout:        opts.IdleTime,
		MaxResponseHeaderBytes: 64 << 10,
		// Ask for nothing the plan did not ask for, and unpack nothing.
		DisableCompression: true,
	}
	return a
}

// Close closes idle connections; those in use, when their firings end.
func (a *HTTP) Close() error {
	a.transport.CloseIdleConnections()
	return nil
}

// Check implements scheduler.Action.
func (a *HTTP) Check(params map[string]string) error {
	_, err := a.parse(params)
	return err
}

// Target implements scheduler.Action: host and port of the URL.
func (a *HTTP) Target(params map[string]string) string {
	u, err := url.Parse(strings.TrimSpace(params["url"]))
	if err != nil || u.Hostname() == "" {
		return ""
	}
	port := "80"
	if u.Scheme == "https" {
		port = "443"
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), cmp.Or(u.Port(), port))
}

// Timeout implements scheduler.Action: the plan's request_timeout.
func (a *HTTP) Timeout(params map[string]string) time.Duration {
	return read(params).seconds("request_timeout", a.opts.RequestTimeout, maxHTTPTimeout)
}

// Execute implements scheduler.Action. The output is the head of the answer's
// body.
func (a *HTTP) Execute(ctx context.Context, f *scheduler.Firing) (scheduler.Output, error) {
	p, err := a.parse(f.Plan.Params)
	if err != nil {
		return nil, err
	}
	secrets := append(p.secrets(f.Plan.Params), scheduler.SecretsOf(ctx, nil)...)
	body, err := a.send(ctx, p, f)
	if err != nil {
		// The query stays out of the text: it is long, and no place for tokens,
		// but they are put there.
		where := scheduler.MaskText(p.url.Scheme+"://"+p.url.Host+p.url.EscapedPath(), secrets...)
		err = mark(fmt.Errorf("http %s %s: %w", p.method, scheduler.Shorten(where, 256), err))
	}
	return body.output(secrets), hide(err, secrets)
}

// maxDrain is how much more of a body is read, beyond what is kept, so that the
// connection can serve again. Reading on costs more than a new connection.
const maxDrain = 64 << 10

// send makes one request and returns the head of the answer. A body longer than
// what is kept and drained counts as read; one that breaks off is a failure.
func (a *HTTP) send(ctx context.Context, p httpParams, f *scheduler.Firing) (body head, err error) {
	ctx = context.WithValue(ctx, connectTimeoutKey{}, p.connectTimeout)
	req, err := p.request(ctx, f)
	if err != nil {
		return body, err
	}
	client := http.Client{Transport: a.transport, CheckRedirect: checkRedirect}
	if p.digest {
		client.Transport = &digestHost{scheme: p.url.Scheme, host: p.url.Host, other: a.transport, own: &digest.Transport{
			Username: p.username, Password: p.password, Transport: limitChallenge{a.transport},
		}}
	}
	resp, err := client.Do(req)
	if err != nil {
		if resp != nil {
			resp.Body.Close()
		}
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err // without the URL, which is named by the caller
		}
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer in time: %w", context.Cause(ctx))
		}
		return body, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(&body, io.LimitReader(resp.Body, maxDrain))
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 399:
		return body, &statusError{code: resp.StatusCode, after: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	case ctx.Err() != nil:
		return body, fmt.Errorf("%d, but its body did not end in time: %w", resp.StatusCode, context.Cause(ctx))
	case err != nil:
		return body, fmt.Errorf("%d, but its body broke off: %w", resp.StatusCode, err)
	}
	return body, nil
}

// statusError is an answer that is no success.
type statusError struct {
	code  int
	after time.Duration // what the server asked to wait, or 0
}

func (e *statusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", e.code, http.StatusText(e.code)))
}

// mark makes an error of the http action retryable if it is:
//
//	no connection, TLS, broken or late answers   yes
//	408, 429, 5xx                                yes, after the server's Retry-After
//	other 1xx and 4xx                            no
//	too many redirects, or one to another scheme no
//	an address that may not be connected to      no
func mark(err error) error {
	if errors.Is(err, errRedirect) || isEgressError(err) {
		return err
	}
	status, ok := errors.AsType[*statusError](err)
	if !ok {
		return scheduler.Retryable(err)
	}
	if status.code == http.StatusRequestTimeout || status.code == http.StatusTooManyRequests || status.code >= 500 {
		return &scheduler.RetryableError{Err: err, After: status.after}
	}
	return err
}

// maxRetryAfter bounds what a server may ask to wait.
const maxRetryAfter = time.Hour

// retryAfter reads a Retry-After header: seconds, or a date. What is neither, or
// past, is 0.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// errRedirect: a redirect that is not followed.
var errRedirect = errors.New("redirect not followed")

// maxRedirects is how many redirects are followed.
const maxRedirects = 10

// checkRedirect allows a redirect, and takes the plan's headers out of a request
// that goes to another host than the first, or went there before: any of them
// may be a credential. It keeps those that say only what kind of data is sent
// or wanted. net/http alone would keep all but Authorization and Cookie.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("%w: more than %d", errRedirect, maxRedirects)
	}
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return fmt.Errorf("%w: to scheme %s", errRedirect, scheduler.Shorten(req.URL.Scheme, 32))
	}
	foreign := false
	for _, r := range append(via[1:len(via):len(via)], req) {
		foreign = foreign || !strings.EqualFold(r.URL.Host, via[0].URL.Host) || via[0].URL.Scheme == "https" && r.URL.Scheme == "http"
	}
	if !foreign {
		return nil
	}
	for name := range req.Header {
		switch name {
		case "Accept", "Accept-Language", "Content-Type", "User-Agent",
			headerTimestamp, headerKey, headerFiringID, headerAttempt:
		default:
			req.Header.Del(name)
		}
	}
	return nil
}

// digestHost answers digest challenges of the plan's own host only: the answer
// to another one's would let it try passwords.
type digestHost struct {
	scheme, host string
	own, other   http.RoundTripper
}

func (d *digestHost) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == d.scheme && strings.EqualFold(req.URL.Host, d.host) {
		return d.own.RoundTrip(req)
	}
	return d.other.RoundTrip(req)
}

// limitChallenge bounds the body of a 401, which the digest library reads to its
// end.
type limitChallenge struct{ http.RoundTripper }

func (l limitChallenge) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxDrain), resp.Body}
	}
	return resp, err
}

// connectTimeoutKey carries a plan's connect_timeout to the dial that is made for
// its request.
type connectTimeoutKey struct{}

// connectContext bounds a dial. The transport hands on the values of the
// request's context; it ends the dial itself when nobody waits for it.
func (a *HTTP) connectContext(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout, ok := ctx.Value(connectTimeoutKey{}).(time.Duration)
	if !ok {
		timeout = a.opts.ConnectTimeout
	}
	return context.WithTimeoutCause(ctx, timeout, fmt.Errorf("connect: not done in %v: %w", timeout, context.DeadlineExceeded))
}

func (a *HTTP) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := a.connectContext(ctx)
	defer cancel()
	conn, err := a.opts.Egress.dial(ctx, network, addr)
	return conn, connectError(ctx, err)
}

// dialTLS connects with the handshake inside the connect timeout.
func (a *HTTP) dialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := a.connectContext(ctx)
	defer cancel()
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.opts.TLS != nil {
		cfg = a.opts.TLS.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(addr)
	}
	conn, err := a.opts.Egress.dial(ctx, network, addr)
	if err != nil {
		return nil, connectError(ctx, err)
	}
	secured := tls.Client(conn, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, connectError(ctx, err)
	}
	return secured, nil
}

// connectError says that it was the connect timeout, if it was.
func connectError(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// secrets returns what must not be shown of the request: also the form in which
// basic authentication sends name and password.
func (p httpParams) secrets(params map[string]string) []string {
	secrets := scheduler.Secrets(params)
	if p.password != "" {
		secrets = append(secrets, scheduler.SecretTexts(p.password)...)
	}
	if p.basic {
		secrets = append(secrets, base64.StdEncoding.EncodeToString([]byte(p.username+":"+p.password)))
	}
	return secrets
}
