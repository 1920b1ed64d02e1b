package app

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snower/forsun/rpc/access"
	"github.com/snower/forsun/rpc/access/accesstest"
	"github.com/snower/forsun/rpc/client"
)

// inNamespace moves the calling test into a network namespace of its own. All that
// it does itself happens there, and so do the programs it starts; what it has
// other goroutines do does not. It needs root: without, the test fails under CI,
// and is skipped elsewhere.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("not root: a network namespace cannot be made, and nothing is shown about peers from elsewhere")
		}
		t.Skip("not root: a network namespace cannot be made")
	}
	runtime.LockOSThread() // for good: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("a network namespace: %v", err)
	}
	for _, args := range []string{
		"link set lo up",
		"link add out type veth peer name in",
		"link set out up", "link set in up",
		"addr add 203.0.113.7/24 dev out", // TEST-NET-3: a public address that nobody has
		"addr add 10.77.0.7/24 dev out",
		"-6 addr add 2001:db8:77::7/64 dev out nodad",
		"-6 addr add fd77::7/64 dev out nodad",
	} {
		if text, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, text)
		}
	}
}

// TestPeersFromElsewhere is about the addresses themselves: on an interface of a
// network namespace peers have a public and a private one. Without a token the
// public one is refused on both ports, the private one may not create shell plans;
// with a token, or a certificate, both may.
func TestPeersFromElsewhere(t *testing.T) {
	inNamespace(t)
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens")
	const token = "planted-token-of-billing"
	writeFile(t, tokens, 0o600, "billing write "+token+"\n")
	authority := accesstest.NewAuthority(t)
	serverCert, serverKey := authority.Server("localhost")
	clientCert, clientKey := authority.Client("robot")
	plain := access.ClientFiles{CA: authority.CA, ServerName: "localhost"}
	certain := access.ClientFiles{CA: authority.CA, ServerName: "localhost", Cert: clientCert, Key: clientKey}

	for _, row := range []struct {
		why   string
		args  []string
		files access.ClientFiles // how TLS is spoken, if it is
		token bool               // there are tokens
		v6    bool
	}{
		{"nothing", nil, access.ClientFiles{}, false, false},
		{"nothing, over IPv6", nil, access.ClientFiles{}, false, true},
		{"tokens", []string{"--auth-token-file=" + tokens}, access.ClientFiles{}, true, true},
		{"certificates", []string{"--tls-cert=" + serverCert, "--tls-key=" + serverKey, "--tls-client-ca=" + authority.CA}, plain, false, false},
		{"both", []string{"--auth-token-file=" + tokens, "--tls-cert=" + serverCert, "--tls-key=" + serverKey, "--tls-client-ca=" + authority.CA}, plain, true, false},
	} {
		public, private, bind := "203.0.113.7", "10.77.0.7", "0.0.0.0"
		if row.v6 {
			public, private, bind = "2001:db8:77::7", "fd77::7", "::"
		}
		p := start(t, ":memory:", append(row.args, "--bind="+bind, "--http="+net.JoinHostPort(bind, "0"), "--log-level=DEBUG")...)
		// The client at an address reaches the server at the same one.
		at := func(addr, token string, files access.ClientFiles) *client.Client {
			_, port, _ := net.SplitHostPort(p.address)
			opts := client.DefaultOptions(net.JoinHostPort(addr, port))
			opts.Token = token
			if files != (access.ClientFiles{}) {
				var err error
				if opts.TLS, err = files.Config(); err != nil {
					t.Fatal(err)
				}
			}
			c := client.New(opts)
			t.Cleanup(func() { c.Close() })
			return c
		}
		curl := func(addr, token string, files access.ClientFiles) string {
			_, port, _ := net.SplitHostPort(p.http)
			scheme, args := "http", []string{"-sS", "-m", "20", "-X", "PUT", "-H", "Content-Type: application/json", "-w", " status %{http_code}", "-d", shellBody}
			if token != "" {
				args = append(args, "-H", "Authorization: Bearer "+token)
			}
			if files.CA != "" {
				scheme = "https"
				args = append(args, "--insecure") // the name is another
			}
			if files.Cert != "" {
				args = append(args, "--cert", files.Cert, "--key", files.Key)
			}
			text, _ := exec.Command("curl", append(args, fmt.Sprintf("%s://%s/v1/plan", scheme, net.JoinHostPort(addr, port)))...).CombinedOutput()
			return string(text)
		}
		shell := hourly("s", "shell", map[string]string{"cmd": "true", "password": "planted-secret"})

		c := at(public, "", row.files)
		if _, err := c.Info(t.Context()); err == nil {
			t.Errorf("%s: %s, without a token: info is answered", row.why, public)
		} else if row.token && !strings.Contains(err.Error(), "show a token") {
			t.Errorf("%s: %s is told %v", row.why, public, err)
		}
		if _, err := c.Create(t.Context(), shell); err == nil {
			t.Errorf("%s: %s, without a token: a plan is created", row.why, public)
		}
		if got := curl(public, "", row.files); !strings.HasSuffix(got, " status 401") && !strings.HasSuffix(got, " status 000") || row.token != strings.Contains(got, "show a token") {
			t.Errorf("%s: %s over HTTP, without a token: %s", row.why, public, got)
		}
		if row.token {
			if _, err := at(public, token, row.files).Create(t.Context(), shell); err != nil {
				t.Errorf("%s: %s with a token: %v", row.why, public, err)
			}
			if got := curl(public, token, row.files); !strings.Contains(got, `{"errcode":0,`) {
				t.Errorf("%s: %s over HTTP with a token: %s", row.why, public, got)
			}
			if err := at(public, "planted-token-of-nobody", row.files).Ping(t.Context()); err == nil || strings.Contains(err.Error(), "planted") {
				t.Errorf("%s: %s with a bad token: %v", row.why, public, err)
			}
		}
		if row.files.CA != "" {
			if _, err := at(public, "", certain).Create(t.Context(), shell); err != nil {
				t.Errorf("%s: %s with a certificate: %v", row.why, public, err)
			}
			if got := curl(public, "", certain); !strings.Contains(got, `{"errcode":0,`) {
				t.Errorf("%s: %s over HTTP with a certificate: %s", row.why, public, got)
			}
		}

		c = at(private, "", row.files)
		if _, err := c.Info(t.Context()); err != nil {
			t.Errorf("%s: from a private network: %v", row.why, err)
		}
		_, err := c.Create(t.Context(), shell)
		over := curl(private, "", row.files)
		for _, got := range []string{fmt.Sprint(err), over} {
			for _, part := range []string{"1012", "shell is not allowed", "from loopback or an authenticated peer only", "(yours: " + strings.TrimSuffix(net.JoinHostPort(private, ""), ":"), "show a token", "--shell-from"} {
				if !strings.Contains(got, part) {
					t.Errorf("%s: a shell plan from a private network: %s, want %q in it", row.why, got, part)
				}
			}
		}
		if row.token {
			if _, err := at(private, token, row.files).Create(t.Context(), shell); err != nil {
				t.Errorf("%s: from a private network with a token: %v", row.why, err)
			}
		}
		if status := p.stop(syscall.SIGTERM); status != 0 {
			t.Errorf("%s: status %d, %s", row.why, status, p.stderr.String())
		}
		data, err := os.ReadFile(p.log)
		if err != nil || bytes.Contains(data, []byte("planted")) || strings.Contains(p.stderr.String(), "planted") {
			t.Errorf("%s: the log shows a token or a secret: %s (%v)", row.why, data, err)
		}
		if row.token && (!bytes.Contains(data, []byte(`"as":"billing"`)) || row.files.CA != "" && !bytes.Contains(data, []byte(`"as":"cert:robot"`))) {
			t.Errorf("%s: the audit does not name who it was: %s", row.why, data)
		}
	}
}

const shellBody = `{"key": "h", "seconds": 3600, "count": 1, "action": "shell", "params": {"cmd": "true", "password": "planted-secret"}}`

// TestBehindHAProxy: behind a real load balancer that speaks the PROXY protocol
// clients are judged by their own addresses, on both ports; behind the same one
// without it they are all the load balancer, which is then refused.
func TestBehindHAProxy(t *testing.T) {
	inNamespace(t)
	p := start(t, ":memory:", "--bind=0.0.0.0", "--http=0.0.0.0:0", "--trusted-proxies=10.77.0.7")
	_, thrift, _ := net.SplitHostPort(p.address)
	_, http, _ := net.SplitHostPort(p.http)
	config := filepath.Join(t.TempDir(), "haproxy.cfg")
	text := "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
	for _, f := range []struct{ port, to, how string }{
		{"7001", thrift, "send-proxy"}, {"7002", thrift, "send-proxy-v2"}, {"7003", http, "send-proxy-v2"}, {"7004", thrift, ""},
	} {
		text += fmt.Sprintf("listen l%s\n bind 0.0.0.0:%s\n server s 10.77.0.7:%s source 10.77.0.7 %s\n", f.port, f.port, f.to, f.how)
	}
	text += fmt.Sprintf("listen web\n mode http\n option forwardfor\n bind 0.0.0.0:7005\n server s 10.77.0.7:%s source 10.77.0.7\n", http)
	writeFile(t, config, 0o600, text)
	balancer := exec.Command("haproxy", "-db", "-f", config)
	balancer.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/usr/local/sbin")
	if found, err := exec.LookPath("/usr/sbin/haproxy"); err == nil {
		balancer.Path = found
		balancer.Err = nil
	}
	var said bytes.Buffer
	balancer.Stdout, balancer.Stderr = &said, &said
	if err := balancer.Start(); err != nil {
		t.Fatal(err)
	}
	defer balancer.Wait()
	defer balancer.Process.Kill()
	poll(t, "haproxy to listen", func() bool {
		c, err := net.DialTimeout("tcp4", "127.0.0.1:7005", time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})

	info := func(addr, port string) error {
		c := client.New(client.DefaultOptions(net.JoinHostPort(addr, port)))
		defer c.Close()
		_, err := c.Info(t.Context())
		return err
	}
	status := func(addr, port string) string {
		out, _ := exec.Command("curl", "-s", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}", fmt.Sprintf("http://%s:%s/v1/keys", addr, port)).Output()
		return string(out)
	}
	for _, port := range []string{"7001", "7002"} {
		if err := info("10.77.0.7", port); err != nil {
			t.Errorf("private, port %s: %v", port, err)
		}
		if err := info("203.0.113.7", port); err == nil {
			t.Errorf("public, port %s: let in", port)
		}
	}
	if err := info("10.77.0.7", "7004"); err == nil || !strings.Contains(err.Error(), "did not say whom it speaks for") {
		t.Errorf("without the PROXY protocol: %v", err)
	}
	for _, port := range []string{"7003", "7005"} {
		if got := status("10.77.0.7", port); got != "200" {
			t.Errorf("private over HTTP, port %s: %s", port, got)
		}
		if got := status("203.0.113.7", port); got != "401" && got != "000" && got != "502" {
			t.Errorf("public over HTTP, port %s: %s", port, got)
		}
	}
	if t.Failed() {
		t.Logf("haproxy: %s", said.String())
	}
}
