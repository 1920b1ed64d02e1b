package app

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
)

// ask asks a path of an address; status 0: nobody answered.
func ask(t *testing.T, address, path string) (status int, body string) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + address + path)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(data)
}

// waitHealth waits until /readyz answers with the status, and with the words; it
// returns how long that took.
func waitHealth(t *testing.T, address string, status int, words string) time.Duration {
	t.Helper()
	begun, body := time.Now(), ""
	poll(t, "/readyz to answer as wanted, with "+words, func() bool {
		got, text := ask(t, address, "/readyz")
		body = text
		return got == status && strings.Contains(body, words)
	})
	return time.Since(begun)
}

// TestAdminRedisGone: a replica whose Redis hangs is not ready within 5 s, lives on, and
// is ready again when Redis answers.
func TestAdminRedisGone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "appendonly no")
	p := start(t, "", onRedis(server, "--http=127.0.0.1:0", "--canary=1s")...)
	waitHealth(t, p.admin, http.StatusOK, `"ready": true`)
	poll(t, "a canary to come all the way", func() bool {
		_, text := ask(t, p.admin, "/metrics")
		return strings.Contains(text, `forsun_canaries_finished_total{shard="0"} `) && !strings.Contains(text, `forsun_canaries_finished_total{shard="0"} 0`)
	})

	server.Pause()
	if took := waitHealth(t, p.admin, http.StatusServiceUnavailable, "the store has not answered"); took > 5500*time.Millisecond { // half a second for the look at the deployment
		t.Errorf("red after %v, want 5s", took)
	}
	if status, body := ask(t, p.http, "/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("on the HTTP port: %d, %s", status, body)
	}
	for _, address := range []string{p.admin, p.http} {
		if status, body := ask(t, address, "/livez"); status != http.StatusOK || body != "ok\n" {
			t.Errorf("/livez of %s: %d, %q", address, status, body)
		}
	}
	if _, text := ask(t, p.admin, "/metrics"); !strings.Contains(text, "forsun_ready 0\n") || !strings.Contains(text, "forsun_store_read 0\n") {
		t.Errorf("metrics without a store: %s", text)
	}
	server.Resume()
	waitHealth(t, p.admin, http.StatusOK, `"ready": true`)
	waitHealth(t, p.http, http.StatusOK, `"ready": true`)
	poll(t, "warnings of Redis among the notes", func() bool {
		status, body := ask(t, p.admin, "/readyz")
		return status == http.StatusOK && strings.Contains(body, "warning: redis ")
	})
}

// TestAdminDrain: while it drains, the admin port answers, and /readyz is red.
func TestAdminDrain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, filepath.Join(dir, "store"))
	waitHealth(t, p.admin, http.StatusOK, `"ready": true`)
	began := filepath.Join(dir, "began")
	end := filepath.Join(dir, "end")
	p.create(once("a", "touch "+began+"; while [ ! -e "+end+" ]; do sleep 0.05; done"))
	poll(t, "the action to run", func() bool { return exists(began) })
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if took := waitHealth(t, p.admin, http.StatusServiceUnavailable, "draining"); took > 5*time.Second {
		t.Errorf("red after %v, want 5s", took)
	}
	if status, _ := ask(t, p.admin, "/livez"); status != http.StatusOK {
		t.Errorf("/livez: %d", status)
	}
	if status, text := ask(t, p.admin, "/metrics"); status != http.StatusOK || !strings.Contains(text, "forsun_draining 1\n") {
		t.Errorf("/metrics: %d: %s", status, text)
	}
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if status := p.wait(); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
}

// TestAdminPort: one line if the port is in use; none, if none is wanted.
func TestAdminPort(t *testing.T) {
	t.Parallel()
	p := start(t, ":memory:")
	status, _, stderr := result(t, command("--port=0", "--driver-mem-store-file=:memory:", "--admin="+p.admin))
	if status != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "--admin: "+p.admin+" is in use") {
		t.Errorf("port in use: %d, %q", status, stderr)
	}
	for _, none := range []string{"--admin=", "--admin=none"} {
		if q := start(t, ":memory:", none, "--canary=0"); q.admin != "" {
			t.Errorf("%s: served on %s", none, q.admin)
		}
	}
	for _, wrong := range []string{"--admin=6459", "--canary=500ms", "--canary=2h"} {
		option, _, _ := strings.Cut(wrong, "=")
		if status, _, stderr := result(t, command(wrong)); status != 2 || !strings.HasPrefix(stderr, "forsund: "+option+": ") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: %d, %q", wrong, status, stderr)
		}
	}
}

// lineOf waits for the line with a message that is about a key.
func (p *forsund) lineOf(message, key string) (line map[string]any) {
	p.t.Helper()
	poll(p.t, message+" of "+key, func() bool {
		data, err := os.ReadFile(p.log)
		if err != nil {
			p.t.Fatal(err)
		}
		for text := range bytes.Lines(data) {
			var fields map[string]any
			if json.Unmarshal(text, &fields) == nil && fields["message"] == message && fields["key"] == key {
				line = fields
			}
		}
		return line != nil
	})
	return line
}

// TestLogFields: every line about a firing has the same fields, from its claim to its
// end.
func TestLogFields(t *testing.T) {
	t.Parallel()
	p := start(t, filepath.Join(t.TempDir(), "store"), "--log-level=DEBUG")
	p.create(once("a", "exit 127")) // not retried
	id := p.lineOf("dead letter", "a")["firing"]
	for _, message := range []string{"claimed", "failed for good", "dead letter"} {
		line := p.lineOf(message, "a")
		for _, field := range []string{"firing", "key", "action", "due", "shard"} {
			if line[field] == nil {
				t.Errorf("%q has no %s: %v", message, field, line)
			}
		}
		if message != "claimed" && line["attempt"] != 1.0 {
			t.Errorf("%q: attempt %v, want 1", message, line["attempt"])
		}
		if text, _ := line["firing"].(string); line["firing"] != id || len(text) != 32 {
			t.Errorf("%q is of firing %v, want %v", message, line["firing"], id)
		}
	}
}
