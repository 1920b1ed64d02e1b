package actions

import (
	"crypto/md5"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func TestHTTPRedirects(t *testing.T) {
	other, elsewhere := recorder(t)
	var hops atomic.Int32
	got := make(chan seen, 16)
	server := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/end":
			got <- seen{r, string(body)}
		case "/see-other":
			http.Redirect(w, r, "/end", http.StatusSeeOther)
		case "/temporary":
			http.Redirect(w, r, "/end", http.StatusTemporaryRedirect)
		case "/loop":
			hops.Add(1)
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/foreign":
			http.Redirect(w, r, other.URL+"/there", http.StatusTemporaryRedirect)
		case "/file":
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		}
	})
	a := newHTTP(t)
	run := func(path string) error {
		_, err := attempt(t, a, testFiring(map[string]string{
			"url": server.URL + path + "?token=s3cret", "method": "post", "body": "x=1",
			"header_X-Api-Key": "k", "header_Accept": "text/plain", "header_Cookie": "c=s3cret", "auth_username": "u", "auth_password": "p4ss",
		}))
		return err
	}
	for _, tt := range []struct{ path, method, body string }{
		{"/see-other", "GET", ""},
		{"/temporary", "POST", "x=1"},
	} {
		if err := run(tt.path); err != nil {
			t.Errorf("%s: %v", tt.path, err)
			continue
		}
		r := <-got
		if r.Method != tt.method || r.body != tt.body {
			t.Errorf("%s: got %s with %q, want %s with %q", tt.path, r.Method, r.body, tt.method, tt.body)
		}
		for _, name := range []string{"X-Api-Key", "Cookie", "Authorization", "X-Forsun-Timestamp", "X-Forsun-Firing-Id"} {
			if r.Header.Get(name) == "" {
				t.Errorf("%s: on the same host header %s is gone", tt.path, name)
			}
		}
	}

	if err := run("/foreign"); err != nil {
		t.Fatalf("/foreign: %v", err)
	}
	r := <-elsewhere
	if r.body != "x=1" || r.Header.Get("Accept") != "text/plain" || r.Header.Get("X-Forsun-Timestamp") != "1700000000" {
		t.Errorf("another host got body %q, headers %v; want x=1, Accept, X-Forsun-Timestamp", r.body, r.Header)
	}
	for _, name := range []string{"X-Api-Key", "Cookie", "Authorization", "Referer"} {
		if v := r.Header.Get(name); v != "" {
			t.Errorf("another host got %s: %s", name, v)
		}
	}

	wantFailure(t, "a loop", run("/loop"), false, "redirect not followed: more than 10")
	if n := hops.Load(); n != 11 {
		t.Errorf("a loop was asked %d times, want 11", n)
	}
	wantFailure(t, "a file", run("/file"), false, "redirect not followed: to scheme file")
}

// A redirect to a foreign host and back does not bring the headers back.
func TestHTTPRedirectForeignAndBack(t *testing.T) {
	var home *httptest.Server
	foreign := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, home.URL+"/end", http.StatusFound) })
	got := make(chan http.Header, 1)
	home = serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/end" {
			got <- r.Header
			return
		}
		http.Redirect(w, r, foreign.URL, http.StatusFound)
	})
	must(t, newHTTP(t), testFiring(map[string]string{"url": home.URL, "header_X-Api-Key": "k", "auth_username": "u", "auth_password": "p"}))
	if h := <-got; h.Get("X-Api-Key") != "" || h.Get("Authorization") != "" {
		t.Errorf("got %v, want no X-Api-Key, no Authorization", h)
	}
}

// digestHandler asks for digest authentication (RFC 7616, MD5, qop=auth) and
// checks what it gets with code of its own.
func digestHandler(username, password string, ok http.HandlerFunc) http.HandlerFunc {
	sum := func(parts ...string) string {
		h := md5.Sum([]byte(strings.Join(parts, ":")))
		return hex.EncodeToString(h[:])
	}
	return func(w http.ResponseWriter, r *http.Request) {
		fields := map[string]string{}
		given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Digest ")
		for pair := range strings.SplitSeq(given, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			fields[name] = strings.Trim(value, `"`)
		}
		want := sum(sum(username, "realm", password), "nonce", fields["nc"], fields["cnonce"], "auth", sum(r.Method, r.RequestURI))
		if fields["username"] != username || fields["response"] != want {
			w.Header().Set("WWW-Authenticate", `Digest realm="realm", nonce="nonce", qop="auth", algorithm=MD5`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		ok(w, r)
	}
}

func TestHTTPDigest(t *testing.T) {
	bodies := make(chan string, 4)
	checked := digestHandler("me", "s3cret", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- string(body)
		io.WriteString(w, "welcome")
	})
	server := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		if _, password, ok := r.BasicAuth(); ok {
			t.Errorf("with auth_mode=digest the password went out as %q", password)
		}
		checked(w, r)
	})
	a := newHTTP(t)
	params := map[string]string{
		"url": server.URL + "/a?b=c", "method": "post", "body": "x=1",
		"auth_mode": "digest", "auth_username": "me", "auth_password": "s3cret",
	}
	if out := must(t, a, testFiring(params)); out != "welcome" {
		t.Errorf("got %q, want welcome", out)
	}
	if body := <-bodies; body != "x=1" {
		t.Errorf("the body got there as %q, want x=1", body)
	}
	params["url"] = strings.Replace(server.URL, "://", "://me:s3cret@", 1)
	delete(params, "auth_username")
	delete(params, "auth_password")
	must(t, a, testFiring(params))
	params["url"] = strings.Replace(server.URL, "://", "://me:wrong@", 1)
	_, err := attempt(t, a, testFiring(params))
	wantFailure(t, "a wrong password", err, false, "401 Unauthorized")

	// The challenge of another host is not answered.
	asked := make(chan string, 4)
	foreign := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Authorization")
		w.Header().Set("WWW-Authenticate", `Digest realm="realm", nonce="nonce", qop="auth", algorithm=MD5`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	home := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, foreign.URL, http.StatusFound) })
	params["url"] = strings.Replace(home.URL, "://", "://me:s3cret@", 1)
	_, err = attempt(t, a, testFiring(params))
	wantFailure(t, "a foreign challenge", err, false, "401 Unauthorized")
	if len(asked) != 1 || <-asked != "" {
		t.Error("a foreign host got an answer to its challenge")
	}
}
