package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest/proc"
)

// balance starts a haproxy that hands connections to the replicas in turn, and
// returns its port.
func (f *fleet) balance(replicas ...*replica) int {
	lines := []string{"  mode tcp", "  balance roundrobin"}
	for _, r := range replicas {
		lines = append(lines, fmt.Sprintf("  server %s %s", r.name, r.thrift))
	}
	return f.haproxy(lines, pings)
}

// haproxy starts a haproxy with one listener, of which lines say what it does, and
// returns its port once it is ready.
func (f *fleet) haproxy(lines []string, ready func(port int) error) int {
	t := f.t
	t.Helper()
	program := proc.Find(t, "haproxy", "haproxy")
	config := filepath.Join(t.TempDir(), "haproxy.cfg")
	var err error
	for range 5 { // somebody else may take the port
		port := proc.FreePort(t)
		text := append([]string{
			"defaults", "  timeout connect 5s", "  timeout client 60s", "  timeout server 60s",
			"listen forsun", fmt.Sprintf("  bind 127.0.0.1:%d", port),
		}, lines...)
		if err := os.WriteFile(config, []byte(strings.Join(text, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var p *proc.Process
		if p, err = proc.Start(program, []string{"-db", "-f", config}, func(string) error { return ready(port) }); err == nil {
			t.Cleanup(p.Kill)
			return port
		}
	}
	t.Fatal(err)
	return 0
}

// pings returns nil if forsun answers a ping of the unframed strict binary
// protocol at the port: see COMPAT.
func pings(port int) error {
	const request, want = "\x80\x01\x00\x01\x00\x00\x00\x04ping\x00\x00\x00\x00\x00", "\x80\x01\x00\x02\x00\x00\x00\x04ping"
	answer, err := exchange(fmt.Sprintf("127.0.0.1:%d", port), []byte(request))
	if err == nil && !strings.HasPrefix(answer, want) {
		err = errors.New("that is no forsun")
	}
	return err
}

// TestC01LoadBalancer: clients in Python and PHP, as Debian has them, do not notice that
// each of their calls goes to another replica.
func TestC01LoadBalancer(t *testing.T) {
	t.Parallel()
	f := newFleet(scenario(t, "C1"))
	var replicas []*replica
	for _, name := range []string{"a", "b", "c"} {
		replicas = append(replicas, f.start(name))
	}
	port := f.balance(replicas...)
	for _, row := range []struct{ language, program, generator, script string }{
		{"Python", "/usr/bin/python3", "py", "client.py"},
		{"PHP", proc.Find(t, "php-cli", "php"), "php", "client.php"},
	} {
		generated := t.TempDir()
		if out, err := exec.Command("thrift", "--gen", row.generator, "-out", generated, "../../rpc/forsun.thrift").CombinedOutput(); err != nil {
			t.Fatalf("thrift --gen %s (Debian: thrift-compiler): %v\n%s", row.generator, err, out)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, row.program, "testdata/"+row.script, generated, fmt.Sprint(port),
			fmt.Sprint(pick3(3_000, 10_000, 50_000)), fmt.Sprint(pick3(10, 30, 200))).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", row.language, err, out)
		}
		t.Logf("%s: %s", row.language, out)
	}
}
