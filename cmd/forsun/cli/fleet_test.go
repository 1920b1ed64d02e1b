package cli

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
)

// TestFleet: what a deployment shows of itself, and what doctor makes of it.
func TestFleet(t *testing.T) {
	t.Parallel()
	s := startFiring(t)
	eventually(t, "a leader", func() bool { return strings.Contains(s.must(t, "replicas"), "  0  ") })
	const when = `\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00`
	const memory = "embedded store: keeps everything in memory: all plans are gone when forsund ends\n         give --driver-mem-store-file a directory\n"
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"replicas"}, `^REPLICA +ADDRESS +VERSION +LEADS +CLOCK +STARTED +SEEN\ntest +0 +[+-]\d+m?s +` + when + ` +` + when + `\n$`},
		{[]string{"-o", "text", "replicas"}, `^test\t\t\t0\t[+-]\d+m?s\t` + when + `\t` + when + `\n$`},
		{[]string{"-o", "json", "replicas"}, `^\{"id":"test","address":"","version":"","offset":-?[\d.e-]+,"leads":\[0\],"eager":true,"started":[\d.]+,"seen":[\d.]+\}\n$`},
		{[]string{"-o", "json", "shards"}, `^\{"shard":0,"leader":"test","term":1,"plans":0,"backlog":0,`},
		{[]string{"doctor"}, "^warning  " + memory + "$"},
		{[]string{"-o", "text", "doctor"}, `^warning\t\tembedded store\tkeeps everything in memory.*\tgive --driver-mem-store-file a directory\n$`},
	} {
		if got := s.must(t, row.args...); !regexp.MustCompile(row.want).MatchString(got) {
			t.Errorf("%q prints\n%s\nwant %s", row.args, got, row.want)
		}
	}

	// Without a leader nothing fires: that is an error, and the status says so.
	s = startServer(t)
	s.run("doctor").check(t, "doctor of a server that leads nothing", 1,
		"error    shard 0: no replica leads it, and none may: nothing of it fires\n         start a forsund that may lead\nwarning  "+memory, "")
	got := s.run("-o", "json", "doctor")
	first, _, _ := strings.Cut(got.out, "\n")
	var f jsonFinding
	if err := json.Unmarshal([]byte(first), &f); err != nil || got.code != 1 || got.err != "" || f.Severity != "error" || f.Shard == nil || *f.Shard != 0 {
		t.Errorf("doctor -o json: exit %d, %s%s", got.code, got.out, got.err)
	}
}

func TestRanges(t *testing.T) {
	for want, ids := range map[string][]int{
		"": nil, "7": {7}, "0-2": {2, 1, 0}, "0,2": {0, 2}, "0-1,3,5-7": {0, 1, 3, 5, 6, 7},
	} {
		if got := ranges(ids); got != want {
			t.Errorf("ranges(%v) = %q, want %q", ids, got, want)
		}
	}
}

func TestOffset(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"+0s": 0, "+1ms": 1250 * time.Microsecond, "-2.5s": -2500 * time.Millisecond, "+1m30s": 90 * time.Second,
	} {
		if got := offset(d); got != want {
			t.Errorf("offset(%v) = %q, want %q", d, got, want)
		}
		if red := len(clockColor(want)) > 0; red != (d.Abs() > time.Second) {
			t.Errorf("%s in red: %v", want, red)
		}
	}
}

// TestWriteFinding: what is not about a shard of its own names the shard.
func TestWriteFinding(t *testing.T) {
	for want, f := range map[string]scheduler.Finding{
		"error    plan \"k\", shard 3: gone\n         create it\n": {Shard: 3, Severity: scheduler.SeverityError, Subject: `plan "k"`, Problem: "gone", Advice: "create it"},
		"info     shard 3: a\\nb\n":                                {Shard: 3, Subject: "shard 3", Problem: "a\nb"},
		"warning  redis: a\n":                                      {Shard: scheduler.WholeDeployment, Severity: scheduler.SeverityWarning, Subject: "redis", Problem: "a"},
	} {
		var out strings.Builder
		s := newSession(&Options{Output: outputTable}, Process{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Env: func(string) (string, bool) { return "", false }})
		if err := s.writeFinding(f); err != nil {
			t.Fatal(err)
		}
		s.out.Flush()
		if out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	}
}
