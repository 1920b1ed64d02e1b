package actions

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
)

// nasty has whatever could be read as something else where it is put.
const nasty = `p'a"s; s=w&rd%20$HOME \x`

// testSecrets knows a few secrets.
func testSecrets(name string) (string, bool) {
	value, ok := map[string]string{
		"plain": "correct-horse", "nasty": nasty, "hook": "http://127.0.0.1:1/hook/s3cret?a=b", "host": "db.internal", "short": "abc",
		"lines": "one\ntwo", "nested": "${secret:plain}", "number": "forty-two",
	}[name]
	return value, ok
}

// probe is an action that shows what it was given.
type probe struct {
	Noop
	check, run func(map[string]string) error
	out        string
	got        map[string]string
}

func (p *probe) Check(params map[string]string) error {
	p.got = params
	if p.check != nil {
		return p.check(params)
	}
	return nil
}

func (p *probe) Execute(_ context.Context, f *scheduler.Firing) (scheduler.Output, error) {
	p.got = f.Plan.Params
	var err error
	if p.run != nil {
		err = p.run(f.Plan.Params)
	}
	return scheduler.Output(p.out), err
}

func (p *probe) Target(params map[string]string) string { return params["host"] + ":1" }

func TestReveal(t *testing.T) {
	for _, row := range []struct {
		why, action, param, value string
		want                      string // "" if it is refused
		refused                   string // part of what is said
	}{
		{"no reference", "http", "body", "${firing.id} $x {secret:plain}", "${firing.id} $x {secret:plain}", ""},
		{"the whole value", "mysql", "passwd", "${secret:plain}", "correct-horse", ""},
		{"within", "http", "header_Authorization", "Bearer ${secret:plain}!", "Bearer correct-horse!", ""},
		{"several", "thrift", "any", "${secret:plain}${secret:plain} ${secret:host}", "correct-horsecorrect-horse db.internal", ""},
		{"as it is", "http", "body", `{"p":"${secret:nasty}"}`, `{"p":"` + nasty + `"}`, ""},
		{"as it is, beanstalk", "beanstalk", "body", "${secret:nasty}", nasty, ""},
		{"in a URL", "http", "url", "https://u:${secret:nasty}@h/${secret:plain}?t=${secret:nasty}", "https://u:p%27a%22s%3B%20s%3Dw%26rd%2520%24HOME%20%5Cx@h/correct-horse?t=p%27a%22s%3B%20s%3Dw%26rd%2520%24HOME%20%5Cx", ""},
		{"the whole URL", "http", "url", "${secret:hook}", "http://127.0.0.1:1/hook/s3cret?a=b", ""},
		{"in SQL", "mysql", "sql", "SELECT '${secret:plain}'", "SELECT 'correct-horse'", ""},
		{"in SQL, with quotes", "mysql", "sql", "SELECT '${secret:nasty}'", "", "params.sql: ${secret:nasty} is not allowed; allowed: in SQL, secrets without quotes and backslashes"},
		{"redis expands its words itself", "redis", "command", "SET a '${secret:nasty}'", "SET a '${secret:nasty}'", ""},
		{"shell expands its variables itself", "shell", "env", "A=${secret:nasty}", "A=${secret:nasty}", ""},
		{"in a command line", "shell", "cmd", "curl -u a:${secret:plain} h", "", `params.cmd: a secret in a command is not allowed; allowed: a variable: env=NAME=${secret:…}, and "$NAME" in cmd`},
		{"unknown", "http", "body", "${secret:plain} ${secret:other-one}", "", "params.body: ${secret:other-one} is not allowed; allowed: secrets that the server has (--secrets-file, or FORSUN_SECRET_OTHER_ONE in its environment)"},
		{"unknown, within what an action expands itself", "redis", "command", "PING ${secret:other}", "", "params.command: ${secret:other} is not allowed"},
		{"no name", "http", "body", "${secret:}", "", "params.body: ${secret:… is not allowed; allowed: ${secret:NAME}, its name 1 to 64 letters, digits, _ and -"},
		{"no end", "http", "body", "${secret:plain", "", "its name 1 to 64"},
		{"a bad name", "http", "body", "${secret:a b}", "", "its name 1 to 64"},
		{"a long name", "http", "body", "${secret:" + strings.Repeat("a", 65) + "}", "", "its name 1 to 64"},
		{"one that is no secret", "http", "body", "${secret:short}", "", "a secret of 3 bytes is not allowed; allowed: 4 to 65536"},
		{"several lines", "http", "body", "${secret:lines}", "", "control characters"},
		{"one that refers to another", "http", "body", "${secret:nested}", "", "with ${ in it"},
	} {
		inner := &probe{}
		a := &revealing{name: row.action, action: inner, secrets: testSecrets}
		stored := map[string]string{row.param: row.value, "other": "x"}
		for what, do := range map[string]func() error{
			"check": func() error { return a.Check(stored) },
			"execute": func() error {
				_, err := a.Execute(t.Context(), &scheduler.Firing{Plan: &scheduler.Plan{Params: stored}})
				return err
			},
		} {
			err := do()
			if row.want == "" {
				if err == nil || !strings.Contains(err.Error(), row.refused) || strings.Contains(err.Error(), "rd%20") {
					t.Errorf("%s: %s: got %v, want %q", row.why, what, err, row.refused)
				}
				// Whether there is such a secret may be another matter by then; how it is
				// referred to is not.
				lacking := strings.Contains(row.refused, "other") || strings.Contains(row.refused, "secret of 3") || strings.Contains(row.refused, "control") || strings.Contains(row.refused, "with ${")
				if isRetryable(err) != (lacking && what == "execute") {
					t.Errorf("%s: %s: retryable %v", row.why, what, isRetryable(err))
				}
				continue
			}
			if err != nil || inner.got[row.param] != row.want || inner.got["other"] != "x" {
				t.Errorf("%s: %s: got %q, %v, want %q", row.why, what, inner.got, err, row.want)
			}
		}
		if stored[row.param] != row.value {
			t.Errorf("%s: what is stored was changed: %s", row.why, stored[row.param])
		}
	}
	// Without any secrets a reference is refused as well, not sent as it stands.
	if err := (&revealing{name: "http", action: &probe{}}).Check(map[string]string{"body": "${secret:plain}"}); err == nil {
		t.Error("a reference is accepted where there are no secrets")
	}
}

// TestRevealHides: whatever an action does with a secret, what it says does not
// show it.
func TestRevealHides(t *testing.T) {
	stored := map[string]string{"host": "${secret:host}", "body": "${secret:nasty}", "number": "${secret:number}"}
	shows := func(text string) bool {
		return strings.Contains(text, nasty) || strings.Contains(text, "db.internal") || strings.Contains(text, "forty-two") || strings.Contains(text, "forty")
	}
	inner := &probe{}
	a := &revealing{name: "mine", action: inner, secrets: testSecrets}
	f := &scheduler.Firing{Plan: &scheduler.Plan{Params: stored}}
	if got := a.Target(stored); got != "***:1" {
		t.Errorf("target: got %s", got)
	}
	// A refusal of a value, which is shown shortened.
	inner.check = func(p map[string]string) error {
		r := read(map[string]string{"number": p["number"] + strings.Repeat("x", 100)})
		r.integer("number", 1, 1, 9)
		return r.err()
	}
	err := a.Check(stored)
	if err == nil || shows(err.Error()) || err.Error() != "params.number: *** is not allowed; allowed: 1 to 9" {
		t.Errorf("check: got %v", err)
	}
	inner.run = func(p map[string]string) error {
		return scheduler.Retryable(errors.New("lookup " + p["host"] + ": " + p["body"]))
	}
	inner.out = "got " + nasty + " from db.internal"
	out, err := a.Execute(t.Context(), f)
	if string(out) != "got *** from ***" || !isRetryable(err) || err.Error() != "lookup ***: ***" {
		t.Errorf("execute: got %q, %v", out, err)
	}
	// Cut off by the action itself, within the secret.
	for n := range len("forty-two") {
		inner.out = strings.Repeat("x", scheduler.MaxOutput-n) + "forty-two"[:n]
		if out, _ := a.Execute(t.Context(), f); strings.Contains(string(out), "f") {
			t.Errorf("an output cut off in the secret ends in %q", out[len(out)-9:])
		}
	}
	inner.run = func(p map[string]string) error { panic("what is " + p["body"]) }
	func() {
		defer func() {
			if p := recover(); p != "what is ***" {
				t.Errorf("panic: got %v", p)
			}
		}()
		a.Execute(t.Context(), f)
	}()
}

func TestMaskCut(t *testing.T) {
	secrets := []string{"correct-horse-battery", "abcdef"}
	for in, want := range map[string]string{
		"near 'correct-hor' at line 1":   "near '***' at line 1",
		"near 'corr' at":                 "near '***' at",
		"near 'cor' at":                  "near 'cor' at",
		`a "abcd" b 'correct-' c`:        `a "***" b '***' c`,
		"correct-horse":                  "correct-horse",
		"near 'SELECT correct-ho...' at": "near 'SELECT ***...' at",
		"correct-ho…":                    "***…",
		"'":                              "'", "": "", "''''": "''''",
	} {
		if got := maskCut(in, secrets); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

// secretive is a registry that knows the secrets.
func secretive(t *testing.T) *Registry {
	t.Helper()
	o := DefaultOptions("")
	o.Secrets = testSecrets
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func actionOf(t *testing.T, r *Registry, name string) scheduler.Action {
	t.Helper()
	a, ok := r.Get(name)
	if !ok {
		t.Fatalf("no action %s", name)
	}
	return a
}

// TestSecretsInShell: a variable has the secret, whatever it holds; nothing of it is
// read as a command or as another variable.
func TestSecretsInShell(t *testing.T) {
	t.Parallel()
	a := actionOf(t, secretive(t), "shell")
	params := map[string]string{"cmd": `test "$P" = "$(cat f)" && echo "<$P> $Q"; env | sort`, "cwd": t.TempDir(), "env": "P=${secret:nasty};Q=a${secret:plain}b"}
	if err := a.Check(params); err != nil {
		t.Fatal(err)
	}
	must(t, actionOf(t, secretive(t), "shell"), testFiring(map[string]string{"cmd": `printf %s "$P" > f`, "cwd": params["cwd"], "env": params["env"]}))
	out := must(t, a, testFiring(params))
	if !strings.HasPrefix(out, "<***> a***b\n") || strings.Contains(out, "horse") || strings.Contains(out, `\x`) || strings.Contains(out, "\n s=") {
		t.Errorf("got %q", out)
	}
	_, err := a.Execute(t.Context(), testFiring(map[string]string{"cmd": "true", "cwd": "/nonexistent/${secret:plain}"}))
	wantFailure(t, "a directory", err, false, "no such file")
	if strings.Contains(err.Error(), "horse") {
		t.Error(err)
	}
	wantField(t, "in a name", a.Check(map[string]string{"cmd": "true", "env": "FORSUN_${secret:plain}=x"}), scheduler.ErrParams, "params.env")
}

// TestSecretsInRedis: a word is the secret, whatever it holds; AUTH logs in with one.
func TestSecretsInRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "requirepass correct-horse")
	host, port, _ := strings.Cut(server.Addr, ":")
	a := actionOf(t, secretive(t), "redis")
	must(t, a, testFiring(map[string]string{"host": host, "port": port, "password": "${secret:plain}", "command": "SET a ${secret:nasty}; SET b 'x ${secret:nasty} ${firing.due}'"}))
	must(t, a, testFiring(map[string]string{"host": host, "port": port, "command": "AUTH ${secret:plain}; SET c 1"}))
	conn, err := redistest.Dial(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Do("AUTH", "correct-horse"); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"a": nasty, "b": "x " + nasty + " 1700000000", "c": "1"} {
		if got, err := conn.Do("GET", key); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", key, got, err, want)
		}
	}
	_, err = a.Execute(t.Context(), testFiring(map[string]string{"host": host, "port": port, "password": "${secret:number}", "command": "PING"}))
	wantFailure(t, "a wrong password", err, false, "WRONGPASS")
	_, err = a.Execute(t.Context(), testFiring(map[string]string{"host": host, "port": port, "password": "${secret:plain}", "command": "OBJECT ${secret:number} a"}))
	wantFailure(t, "quoted by the server", err, false, "unknown subcommand", "***")
	if strings.Contains(err.Error(), "forty") {
		t.Error(err)
	}
}

// TestSecretsInHTTP: in URL, headers, body and credentials; the server's answer is
// masked however it writes them.
func TestSecretsInHTTP(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body = r, string(b)
		user, password, _ := r.BasicAuth()
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, strings.Join([]string{r.URL.String(), r.URL.Path, r.URL.Query().Get("t"), r.Header.Get("Authorization"), r.Header.Get("X-Key"), user, password, body}, "\n"))
	}))
	defer server.Close()
	a := actionOf(t, secretive(t), "http")
	params := map[string]string{
		"url": strings.Replace(server.URL, "://", "://bob:${secret:nasty}@", 1) + "/in/${secret:number}/${secret:nasty}?t=${secret:nasty}", "method": "post",
		"header_X-Key": "k ${secret:plain}", "body": "b=${secret:nasty}",
	}
	if err := a.Check(params); err != nil {
		t.Fatal(err)
	}
	out, err := a.Execute(t.Context(), testFiring(params))
	wantFailure(t, "refused", err, false, "418", "/in/***/***")
	if user, password, _ := got.BasicAuth(); user != "bob" || password != nasty {
		t.Errorf("credentials: %s, %s", user, password)
	}
	if got.URL.Path != "/in/forty-two/"+nasty || got.URL.Query().Get("t") != nasty || got.Header.Get("X-Key") != "k correct-horse" || body != "b="+nasty {
		t.Errorf("got %s, %v, %q", got.URL, got.Header, body)
	}
	for _, part := range []string{"forty", "horse", "p'a", "p%27a", "HOME", "Basic Ym9i"} {
		if strings.Contains(string(out), part) || strings.Contains(err.Error(), part) {
			t.Errorf("%s is shown: %s\n%v", part, out, err)
		}
	}
	// A target under a secret name is not told either.
	_, err = a.Execute(t.Context(), testFiring(map[string]string{"url": "http://${secret:number}.invalid/", "connect_timeout": "1"}))
	if err == nil || strings.Contains(err.Error(), "forty") {
		t.Errorf("got %v", err)
	}
	if got := a.Target(map[string]string{"url": "http://${secret:number}.invalid/"}); got != "***.invalid:80" {
		t.Errorf("target: %s", got)
	}
	if got := a.Timeout(map[string]string{"url": "http://h/${secret:unknown}", "request_timeout": "3"}); got != 3*time.Second {
		t.Errorf("timeout: %s", got)
	}
}

func TestCheckSecretName(t *testing.T) {
	for _, good := range []string{"a", "DB_PASSWORD", "db-password", "9", strings.Repeat("a", 64)} {
		if err := CheckSecretName(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "a.b", "a b", "a}", "ü", strings.Repeat("a", 65)} {
		if CheckSecretName(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if got := EnvName("db-password"); got != "DB_PASSWORD" {
		t.Errorf("got %s", got)
	}
}
