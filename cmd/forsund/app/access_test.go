package app

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/snower/forsun/rpc/access"
	"github.com/snower/forsun/rpc/access/accesstest"
	"github.com/snower/forsun/rpc/client"
	"github.com/snower/forsun/scheduler"
)

// hourly is a plan that a test does not live to see.
func hourly(key, action string, params map[string]string) scheduler.Request {
	return scheduler.Request{
		Key: key, Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 3600, Count: 1},
		Action: action, Params: params,
	}
}

// as returns a client with a token and TLS.
func (p *forsund) as(token string, files access.ClientFiles) *client.Client {
	p.t.Helper()
	opts := client.DefaultOptions(p.address)
	opts.Token = token
	if files != (access.ClientFiles{}) {
		var err error
		if opts.TLS, err = files.Config(); err != nil {
			p.t.Fatal(err)
		}
	}
	c := client.New(opts)
	p.t.Cleanup(func() { c.Close() })
	return c
}

// writeFile writes a file.
func writeFile(t *testing.T, path string, mode os.FileMode, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

// countLog counts the lines of a log with a message.
func countLog(t *testing.T, path, message string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(data, []byte(`"message":"`+message+`"`))
}

// TestReloadAccess: at SIGHUP tokens and certificates are read again, also for
// connections that are open; a bad file keeps the old. The audit log is a file of
// its own that is opened again. No log has a token.
func TestReloadAccess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tokens, audit := filepath.Join(dir, "tokens"), filepath.Join(dir, "audit")
	const first, second = "planted-token-one-0", "planted-token-two-0"
	writeFile(t, tokens, 0o644, "one write "+first+"\n")
	authority := accesstest.NewAuthority(t)
	cert, key := authority.Server("localhost")
	p := start(t, ":memory:", "--auth-token-file="+tokens, "--tls-cert="+cert, "--tls-key="+key, "--audit-log="+audit, "--allow-cidr=none")
	if warned := p.waitLog("the file of tokens is no secret"); warned["level"] != "warn" || warned["file"] != tokens {
		t.Errorf("got %v", warned)
	}
	files := access.ClientFiles{CA: authority.CA}
	one := p.as(first, files)
	if _, err := one.Create(t.Context(), hourly("a", "shell", map[string]string{"cmd": "true"})); err != nil {
		t.Fatal(err)
	}
	if err := p.as(second, files).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "none of those") {
		t.Errorf("a token there is not: %v", err)
	}

	hup := func(message string, times int) {
		t.Helper()
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		poll(t, message, func() bool { return countLog(t, p.log, message) >= times })
	}
	writeFile(t, tokens, 0o600, "one write "+first+"\nbroken\n")
	hup("cannot reload, going on with what was there", 1)
	if failed := findLog(t, p.log, "cannot reload, going on with what was there"); failed["what"] != "tokens" || !strings.Contains(failed["error"].(string), "line 2") {
		t.Errorf("got %v", failed)
	}
	if err := p.as(first, files).Ping(t.Context()); err != nil {
		t.Errorf("after a bad file: %v", err)
	}

	// Tokens change, the certificate is another authority's, the audit log was moved.
	writeFile(t, tokens, 0o600, "two read "+second+"\n")
	other := accesstest.NewAuthority(t)
	newCert, newKey := other.Server("localhost")
	for from, to := range map[string]string{newCert: cert, newKey: key} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, to, 0o600, string(data))
	}
	if err := os.Rename(audit, audit+".1"); err != nil {
		t.Fatal(err)
	}
	before := countLog(t, p.log, "reloaded")
	hup("reloaded", before+4) // log file, tokens, certificates, audit log
	if err := p.as(second, files).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("the certificate is still the old one: %v", err)
	}
	newFiles := access.ClientFiles{CA: other.CA}
	if err := p.as(second, newFiles).Ping(t.Context()); err != nil {
		t.Errorf("the new token: %v", err)
	}
	// This connection is from before. Peers on loopback need no token, but shell
	// plans, and whatever its token does not allow, it gets no more as "one".
	if _, err := one.Create(t.Context(), hourly("b", "http", map[string]string{"url": "http://127.0.0.1/"})); err != nil {
		t.Errorf("on the connection from before: %v", err)
	}
	var refused *client.Error
	if _, err := p.as(second, newFiles).Create(t.Context(), hourly("c", "http", map[string]string{"url": "http://127.0.0.1/"})); !errors.As(err, &refused) || refused.Code != 1012 {
		t.Errorf("reading may create: %v", err)
	}
	if status := p.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d", status)
	}
	old, new := findLog(t, audit+".1", "audit: plan created"), findLog(t, audit, "audit: plan created")
	if old["key"] != "a" || old["as"] != "one" || new["key"] != "b" || new["as"] != nil || findLog(t, p.log, "audit: plan created") != nil {
		t.Errorf("audit: %v, then %v", old, new)
	}
	for _, path := range []string{p.log, audit, audit + ".1"} {
		data, err := os.ReadFile(path)
		if err != nil || bytes.Contains(data, []byte("planted")) {
			t.Errorf("%s shows a token: %s (%v)", path, data, err)
		}
	}
}

// TestAccessRefusals: bad files keep forsund from starting, and say why in a line
// that holds no token.
func TestAccessRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad, open := filepath.Join(dir, "bad"), filepath.Join(dir, "open")
	writeFile(t, bad, 0o600, "ops planted-token-00 admin\n")
	writeFile(t, open, 0o666, "ops admin planted-token-00\n")
	authority := accesstest.NewAuthority(t)
	cert, _ := authority.Server("localhost")
	_, key := authority.Server("localhost")
	rows := []struct {
		args []string
		want string
	}{
		{[]string{"--auth-token-file=" + bad}, "--auth-token-file: " + bad + ": line 1: right (the second word): allowed: read, write, admin"},
		{[]string{"--auth-token-file=" + open}, "--auth-token-file: " + open + ": every user may write it (mode -rw-rw-rw-); chmod 600 it"},
		{[]string{"--auth-token-file=/nonexistent"}, "--auth-token-file: "},
		{[]string{"--tls-cert=" + cert, "--tls-key=" + key}, "--tls-cert, --tls-key, --tls-client-ca: " + cert},
		{[]string{"--tls-cert=" + cert}, "--tls-cert: needs --tls-key, and the other way round"},
		{[]string{"--tls-client-ca=" + authority.CA}, "--tls-client-ca: needs --tls-cert"},
		{[]string{"--audit-log=/proc/none/audit"}, "--audit-log: "},
		{[]string{"--trusted-proxies=0.0.0.0/0"}, `--trusted-proxies: "0.0.0.0/0" is not allowed; allowed: the networks of proxies only`},
		{[]string{"--trusted-proxies=haproxy"}, `--trusted-proxies: "haproxy" is not allowed`},
	}
	for _, row := range rows {
		status, _, errs := result(t, command(append(row.args, "--port=0", "--driver-mem-store-file=:memory:")...))
		if status == 0 || !strings.Contains(errs, row.want) || strings.Count(errs, "\n") != 1 || strings.Contains(errs, "planted") {
			t.Errorf("%v: status %d, %s, want %q", row.args, status, errs, row.want)
		}
	}
}
