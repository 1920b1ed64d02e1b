package actions

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/snower/forsun/scheduler"
)

// The headers of every request, in the form net/http keeps them in.
const (
	headerTimestamp = "X-Forsun-Timestamp"
	headerKey       = "X-Forsun-Key"
	headerFiringID  = "X-Forsun-Firing-Id"
	headerAttempt   = "X-Forsun-Attempt"
)

// httpParams are the parameters of an http plan.
//
//	url              required: http or https, with a host; user information in it
//	                 counts as auth_username and auth_password
//	method           get (the default), post, put, delete or head, in any case
//	body             default none; sent with any method
//	header_NAME      sent as NAME; not sent: Content-Length, Transfer-Encoding, Trailer
//	auth_username    default none
//	auth_password    default none
//	auth_mode        basic (the default) or digest
//	user_agent       default forsun/<version>
//	connect_timeout  seconds to connect, TLS included: above 0, at most 3600, default 5
//	request_timeout  seconds for all of it: above 0, at most 3600, default 60
type httpParams struct {
	url                *url.URL // without user information
	method             string   // in upper case
	body               string
	header             http.Header
	username, password string
	basic, digest      bool // at most one: how to authenticate
	connectTimeout     time.Duration
}

func (a *HTTP) parse(params map[string]string) (httpParams, error) {
	r := read(params)
	p := httpParams{
		url:            parseURL(r),
		method:         strings.ToUpper(r.choice("method", "get", "get", "post", "put", "delete", "head")),
		body:           params["body"],
		header:         make(http.Header),
		username:       params["auth_username"],
		password:       params["auth_password"],
		connectTimeout: r.seconds("connect_timeout", a.opts.ConnectTimeout, maxHTTPTimeout),
	}
	r.seconds("request_timeout", a.opts.RequestTimeout, maxHTTPTimeout)
	a.opts.Egress.refuse(r, "url", net.JoinHostPort(p.url.Hostname(), "0"))
	digest := r.choice("auth_mode", "basic", "basic", "digest") == "digest"
	userAgent := r.text("user_agent", a.opts.UserAgent)
	if !headerValue(userAgent) {
		r.refuse("user_agent", "text without line breaks and control characters")
	}
	setHeaders(r, p.header)
	if err := r.err(); err != nil {
		return p, err
	}
	if p.header.Get("User-Agent") == "" {
		p.header.Set("User-Agent", userAgent)
	}
	if p.method == http.MethodPost && p.header.Get("Content-Type") == "" {
		p.header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if u := p.url.User; u != nil {
		if p.username == "" && p.password == "" {
			p.username = u.Username()
			p.password, _ = u.Password()
		}
		p.url.User = nil
	}
	if p.username != "" || p.password != "" {
		p.basic, p.digest = !digest, digest
	}
	return p, nil
}

// setHeaders adds the parameters header_NAME to header. Of names that differ in
// case only, the last in byte order counts.
func setHeaders(r *reader, header http.Header) {
	var names []string
	for name := range r.params {
		if strings.HasPrefix(name, "header_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		field, value := strings.TrimPrefix(name, "header_"), r.params[name]
		if !token(field) {
			r.refuseAs("header_"+scheduler.Shorten(field, 64), "", "a header name of letters, digits and !#$%&'*+-.^_`|~ after header_")
		}
		if !headerValue(value) {
			r.refuse(name, "text without line breaks and control characters")
		}
		header.Set(field, strings.TrimSpace(value))
	}
}

// parseURL reads the parameter url. What cannot be parsed is not shown: where
// its password ends is not known.
func parseURL(r *reader) *url.URL {
	const allowed = "an http or https URL with a host, e.g. http://host:8080/path?query"
	given := strings.TrimSpace(r.need("url"))
	u, err := url.Parse(given)
	if err != nil {
		shown := ""
		if !strings.Contains(given, "@") {
			shown = scheduler.Shorten(given, 64)
		}
		r.refuseAs("url", shown, allowed)
		return &url.URL{}
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			r.refuse("url", "a URL with a port of 1 to 65535")
		}
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		r.refuse("url", allowed)
	}
	// The path is encoded when it is sent; the query is sent as it stands.
	u.RawQuery = encodeQuery(u.RawQuery)
	u.Fragment, u.RawFragment = "", ""
	return u
}

// request makes the request of one attempt.
func (p httpParams) request(ctx context.Context, f *scheduler.Firing) (*http.Request, error) {
	var body io.Reader
	if p.body != "" {
		body = strings.NewReader(p.body)
	}
	req, err := http.NewRequestWithContext(ctx, p.method, p.url.String(), body)
	if err != nil {
		return nil, err
	}
	req.Header = p.header
	if host := p.header.Get("Host"); host != "" {
		req.Host = host // net/http takes it from there only
	}
	if p.basic {
		req.SetBasicAuth(p.username, p.password)
	}
	req.Header.Set(headerTimestamp, strconv.FormatInt(f.Due, 10))
	req.Header.Set(headerKey, encodeKey(f.Plan.Key))
	req.Header.Set(headerFiringID, string(f.ID()))
	req.Header.Set(headerAttempt, strconv.Itoa(f.Attempt))
	traceContext(req.Header, f)
	return req, nil
}

// encodeKey returns a key as a header can carry it: every byte but visible ASCII
// as %XX, and % too, so that any percent-decoder gives the key back.
func encodeKey(key string) string {
	return percent(key, func(c byte) bool { return c <= ' ' || c >= 0x7f || c == '%' })
}

// encodeQuery returns a query with the bytes a request line cannot carry as %XX.
func encodeQuery(query string) string {
	return percent(query, func(c byte) bool {
		return c <= ' ' || c >= 0x7f || c == '"' || c == '<' || c == '>'
	})
}

// percent returns s with the bytes that must be encoded as %XX.
func percent(s string, must func(byte) bool) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; must(c) {
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// token says whether s can be the name of a header (RFC 9110, 5.6.2).
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// headerValue says whether s can be the value of a header (RFC 9110, 5.5).
func headerValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
