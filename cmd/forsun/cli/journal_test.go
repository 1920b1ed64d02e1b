package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/snower/forsun/scheduler"
)

// TestJournal lets plans fire and looks at what became of them.
func TestJournal(t *testing.T) {
	t.Parallel()
	s := startFiring(t)
	flag := filepath.Join(t.TempDir(), "flag")
	s.must(t, "set", "good", "*/0", "*", "*", "*", "*", "*", "shell", `cmd='printf "one\ntwo\033[31m\n"'`)
	s.must(t, "set", "bad", "*/0", "*", "*", "*", "*", "*", "shell", "cmd='test -e "+flag+"';forsun.retries=0")
	var id string
	eventually(t, "a dead letter", func() bool {
		got := s.must(t, "-o", "json", "dead", "bad")
		var d jsonDead
		if json.Unmarshal([]byte(got), &d) != nil {
			return false
		}
		id = d.ID
		return d.Plan.Key == "bad" && d.Error != "" && d.Attempt == 1 && d.Died > 0
	})
	eventually(t, "a success", func() bool {
		var a jsonAttempt
		got := s.must(t, "-o", "json", "history good")
		return json.Unmarshal([]byte(got), &a) == nil && a.Outcome == scheduler.Succeeded && a.Output == "one\ntwo\x1b[31m\n"
	})

	const when = `\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00`
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"history good"}, `^DUE +KEY +ACTION +ATTEMPT +OUTCOME +LATE +TOOK +REPLICA +ERROR OR OUTPUT\n` +
			when + `  good  shell +1  succeeded +\d+ms +\d+ms  test +one\\ntwo\\x1b\[31m\n$`},
		{[]string{"-o", "text", "history", "good"}, `^` + when + `\tgood\tshell\t1\tsucceeded\t\d+ms\t\d+ms\ttest\tone\\ntwo\\x1b\[31m\n$`},
		{[]string{"history bad"}, `  bad  shell +1  dead .* shell: exit status 1\n$`},
		{[]string{"dead"}, `^ID +DUE +KEY +ACTION +ATTEMPT +DIED +ERROR\n` + id + ` +` + when + `  bad  shell +1  ` + when + `  shell: exit status 1\n$`},
		{[]string{"shards"}, `^SHARD +LEADER +TERM +PLANS +BACKLOG +QUEUED +RUNNING +RETRIES +DEAD +QUARANTINED +OVERDUE +OLDEST DUE\n +0  test +1 +0 +0  0 +0 +0 +1 +0 +0  -\n$`},
		{[]string{"info"}, `(?m)^NAME +VALUE\n(.*\n)*forsun_version +9\.9\.9$`},
		{[]string{"-o", "text", "info"}, `(?m)^forsun_version\t9\.9\.9$`},
	} {
		if got := s.must(t, row.args...); !regexp.MustCompile(row.want).MatchString(got) {
			t.Errorf("%q prints\n%s\nwant %s", row.args, got, row.want)
		}
	}
	got := s.run("history", "-n", "1")
	if got.code != 0 || strings.Count(got.out, "\n") != 2 || got.err != "(the newest 1; history -n all prints every one)\n" {
		t.Errorf("history -n 1: %s%s", got.out, got.err)
	}
	if got := s.must(t, "history -n all"); strings.Count(got, "\n") != 3 {
		t.Errorf("history -n all: %s", got)
	}

	// What failed for good succeeds when it is redriven, once there is a reason.
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("redrive", id, "nosuch").check(t, "redrive of one and a half", 1, "1 redriven\n", "of 2 ids 1 name no dead letter")
	eventually(t, "a redriven success", func() bool {
		return strings.Contains(s.must(t, "history bad"), "succeeded")
	})
	s.must(t, "set", "bad", "*/0", "*", "*", "*", "*", "*", "shell", "cmd=false;forsun.retries=0")
	eventually(t, "another dead letter", func() bool { return s.must(t, "dead") != "" })
	if got := s.must(t, "purge --key bad"); got != "1 purged\n" {
		t.Errorf("purge: %s", got)
	}
	if got := s.must(t, "dead"); got != "" {
		t.Errorf("dead after purge: %s", got)
	}
}
