package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snower/forsun/rpc"
	"github.com/snower/forsun/rpc/access"
	"github.com/snower/forsun/rpc/access/accesstest"
)

// TestTokenAndTLS: the program shows a token and speaks TLS, told so by options or
// by the environment; what is wrong is said with what would be right, and without
// the token.
func TestTokenAndTLS(t *testing.T) {
	t.Parallel()
	const token = "planted-token-of-billing"
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	authority, others := accesstest.NewAuthority(t), accesstest.NewAuthority(t)
	cert, key := authority.Server("localhost")
	mineCert, mineKey := authority.Client("robot")
	s := start(t, fixedClock{goldenNow}, false, func(o *rpc.Options) {
		var err error
		if o.Tokens, err = access.LoadTokens(file("tokens", "billing read "+token+"\n"), nil); err != nil {
			t.Fatal(err)
		}
		if o.TLS, err = access.LoadCertificates(cert, key, authority.CA); err != nil {
			t.Fatal(err)
		}
	})
	mine, bad, two := file("mine", token+"\n"), file("bad", "planted-token-of-nobody\n"), file("two", token+"\n"+token+"\n")
	plain := startServer(t)

	const set = "set k */3600/1 * * * * * shell true"
	rows := []struct {
		why  string
		env  map[string]string
		args []string
		code int
		want string // on standard error; "": success
	}{
		{"all options", nil, []string{"--tls-ca", authority.CA, "--token-file", mine, "ls"}, 0, ""},
		{"the token's right", nil, []string{"--tls-ca", authority.CA, "--token-file", mine, set}, 1, "1012: createMany: not allowed: billing has the right read, this needs write"},
		{"the environment", map[string]string{"FORSUN_TLS_CA": authority.CA, "FORSUN_TOKEN_FILE": mine}, []string{set}, 1, "billing has the right read"},
		{"without a token: from loopback", nil, []string{"--tls-ca", authority.CA, "ls"}, 0, ""},
		{"a certificate", nil, []string{"--tls-ca=" + authority.CA, "--tls-cert=" + mineCert, "--tls-key=" + mineKey, "ls"}, 0, ""},
		{"a name", nil, []string{"--tls-ca", authority.CA, "--tls-server-name", "localhost", "ls"}, 0, ""},
		{"a bad token", nil, []string{"--tls-ca", authority.CA, "--token-file", bad, "ls"}, 1, "1012: token: not allowed: it is none of those in the server's --auth-token-file"},
		{"another name", nil, []string{"--tls-ca", authority.CA, "--tls-server-name", "elsewhere", "ls"}, 1, "not elsewhere; --tls-server-name says which name it is for"},
		{"another authority", nil, []string{"--tls-ca", others.CA, "ls"}, 1, "of an authority that is not trusted here; --tls-ca names one"},
		{"the system's authorities", nil, []string{"--tls", "ls"}, 1, "--tls-ca names one"},
		{"no TLS", nil, []string{"ls"}, 1, "does it speak TLS (--tls)?"},
		{"TLS turned off", map[string]string{"FORSUN_TLS_CA": authority.CA}, []string{"--tls=false", "ls"}, 1, "does it speak TLS (--tls)?"},
		{"no file", nil, []string{"--token-file", "/nonexistent", "ls"}, 2, "--token-file: "},
		{"no file of the environment", map[string]string{"FORSUN_TOKEN_FILE": "/nonexistent"}, []string{"ls"}, 2, "FORSUN_TOKEN_FILE: "},
		{"two tokens", nil, []string{"--token-file", two, "ls"}, 2, "--token-file: " + two + ": more than one line"},
		{"a certificate without a key", nil, []string{"--tls-cert", mineCert, "ls"}, 2, "a certificate needs its key"},
		{"no authority", nil, []string{"--tls-ca", mineKey, "ls"}, 2, "holds no certificate in PEM form"},
		{"neither true nor false", map[string]string{"FORSUN_TLS": "perhaps"}, []string{"ls"}, 2, `FORSUN_TLS "perhaps" is not allowed; allowed: true, false`},
		{"no value", nil, []string{"ls", "--token-file"}, 2, "--token-file needs a value"},
		{"help needs no file", map[string]string{"FORSUN_TOKEN_FILE": "/nonexistent"}, []string{"-h"}, 0, ""},
	}
	for _, row := range rows {
		env := map[string]string{"FORSUN_HOST": s.host, "FORSUN_PORT": s.port}
		for name, value := range row.env {
			env[name] = value
		}
		got := runWith(env, "", row.args...)
		if got.code != row.code || !strings.Contains(got.err, row.want) || row.want == "" && got.err != "" {
			t.Errorf("%s: exit %d, %s, want %d, %q", row.why, got.code, got.err, row.code, row.want)
		}
		if strings.Contains(got.err+got.out, "planted") {
			t.Errorf("%s: the token is shown: %s%s", row.why, got.out, got.err)
		}
	}
	got := plain.run("--tls", "ls")
	if got.code != 1 || !strings.Contains(got.err, "does it speak TLS, too?") {
		t.Errorf("TLS with a server that speaks none: exit %d, %s", got.code, got.err)
	}
}
