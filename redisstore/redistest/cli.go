package redistest

import (
	"bytes"
	"context"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/snower/forsun/redisstore/redistest/proc"
)

// CLI runs the real redis-cli with a command against the server at addr and
// returns what it prints, without the last line's end. It prints for a program
// ("1"); with "--no-raw" as the first argument as for a person ("(integer) 1").
// An error that the server answers is printed like any reply; a redis-cli that
// cannot connect, or is not done within 10 s, fails the test.
func CLI(t testing.TB, addr string, args ...string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), replyTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, proc.Find(t, "redis-tools", "redis-cli"),
		append([]string{"-h", host, "-p", port}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("redis-cli %s: %v\n%s%s", strings.Join(args, " "), err, out, &stderr)
	}
	return strings.TrimSuffix(string(out), "\n")
}
