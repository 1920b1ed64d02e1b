package actions

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snower/forsun/scheduler"
)

func allowShell(t *testing.T, commands ...string) *Shell {
	t.Helper()
	o := DefaultShellOptions()
	o.Allow = ShellAllow{Commands: commands, Env: []string{"WHAT"}}
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	return NewShell(o)
}

func TestShellAllow(t *testing.T) {
	a := allowShell(t, "date -u", "cd /srv && tar cf - . | gzip > /backup/srv.tgz", "/opt/report --daily *", "echo 'a,b'")
	for _, row := range []struct {
		why, cmd string
		ok       bool
	}{
		{"as it stands on the list", "date -u", true},
		{"with all that a shell understands", "cd /srv && tar cf - . | gzip > /backup/srv.tgz", true},
		{"quotes", "echo 'a,b'", true},
		{"open, without arguments", "/opt/report --daily", true},
		{"open, with arguments", "/opt/report --daily --to=a@b.example:25 +%F 100% x_y.z,/tmp/a", true},
		{"open, several blanks", "/opt/report --daily   a  b ", true},

		{"another one", "id", false},
		{"a part", "date", false},
		{"more", "date -u +%s", false},
		{"a blank more", "date -u ", false},
		{"a line more", "date -u\nid", false},
		{"other quotes", `echo "a,b"`, false},
		{"case", "DATE -u", false},
		{"the star itself, which names files", "/opt/report --daily *", false},
		{"a program that begins with the name of an allowed one", "/opt/report --dailyx", false},
		{"less than the entry", "/opt/report", false},
		{"another blank within the entry", "/opt/report  --daily a", false},
		{"a second command", "/opt/report --daily ; id", false},
		{"and", "/opt/report --daily a && id", false},
		{"in the background", "/opt/report --daily a & id", false},
		{"a pipe", "/opt/report --daily a | id", false},
		{"a line", "/opt/report --daily a\nid", false},
		{"a carriage return", "/opt/report --daily a\rid", false},
		{"a tab", "/opt/report --daily\tid", false},
		{"a tab behind a blank", "/opt/report --daily \tid", false},
		{"a substitution", "/opt/report --daily $(id)", false},
		{"the old substitution", "/opt/report --daily `id`", false},
		{"a variable", "/opt/report --daily $HOME", false},
		{"a redirection", "/opt/report --daily > /etc/passwd", false},
		{"from a file", "/opt/report --daily < /etc/passwd", false},
		{"a process", "/opt/report --daily <(id)", false},
		{"a subshell", "/opt/report --daily (id)", false},
		{"braces", "/opt/report --daily {a,b}", false},
		{"a pattern", "/opt/report --daily /etc/*", false},
		{"another pattern", "/opt/report --daily /etc/passw?", false},
		{"a class", "/opt/report --daily [a-z]", false},
		{"a home", "/opt/report --daily ~root", false},
		{"a quote", "/opt/report --daily 'a", false},
		{"double quotes", `/opt/report --daily "a"`, false},
		{"a backslash", `/opt/report --daily a\`, false},
		{"a comment", "/opt/report --daily #", false},
		{"history", "/opt/report --daily !!", false},
		{"the pipe of old", "/opt/report --daily ^ id", false},
		{"what some locale has for a blank", "/opt/report --daily a\u00a0id", false},
		{"no ASCII", "/opt/report --daily \xa0id", false},
		{"a control character", "/opt/report --daily \x1b[m", false},
	} {
		err := a.Check(map[string]string{"cmd": row.cmd})
		if (err == nil) != row.ok {
			t.Errorf("%s: %q: got %v", row.why, row.cmd, err)
		}
		if !row.ok {
			wantField(t, row.why, err, scheduler.ErrNotAllowed, "params.cmd")
		}
	}
	for _, row := range []struct {
		why, name, value, field string
	}{
		{"a variable on its list", "env", "WHAT=x", ""},
		{"a path of one's own", "env", "PATH=/tmp", "params.env"},
		{"a library", "env", "WHAT=x;LD_PRELOAD=/tmp/x.so", "params.env"},
		{"case", "env", "what=x", "params.env"},
		{"a directory of one's own", "cwd", "/tmp", "params.cwd"},
	} {
		var kind error
		if row.field != "" {
			kind = scheduler.ErrNotAllowed
		}
		wantField(t, row.why, a.Check(map[string]string{"cmd": "date -u", row.name: row.value}), kind, row.field)
	}
	// The refusal shows no secret, nor the list.
	err := a.Check(map[string]string{"cmd": "curl https://u:s3cret@h/"})
	if err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "/opt") || !strings.Contains(err.Error(), "--shell-allow") {
		t.Errorf("got %v", err)
	}
}

// TestShellAllowAtExecution: a plan that was stored when more was allowed is not
// run, and fails for good.
func TestShellAllowAtExecution(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := allowShell(t, "touch "+dir+"/allowed", "echo *")
	_, err := a.Execute(t.Context(), testFiring(map[string]string{"cmd": "touch " + dir + "/stored"}))
	wantFailure(t, "stored before", err, false, "params.cmd", "--shell-allow")
	if _, err := os.Stat(filepath.Join(dir, "stored")); err == nil {
		t.Error("it ran")
	}
	if _, err := a.Execute(t.Context(), testFiring(map[string]string{"cmd": "touch " + dir + "/allowed", "env": "WHAT=x"})); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "allowed")); err != nil {
		t.Error(err)
	}
	// A real shell takes what plain arguments may have as they stand.
	const plain = "a_b -c +d e=f g.h i,j k:l /m/n o@p 100% =x : . .. -- then fi do"
	out, err := a.Execute(t.Context(), testFiring(map[string]string{"cmd": "echo " + plain}))
	if err != nil || string(out) != plain+"\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestShellAllowValidate(t *testing.T) {
	for _, bad := range []ShellAllow{
		{Commands: []string{}},
		{Commands: []string{""}},
		{Commands: []string{"*"}},
		{Commands: []string{" *"}},
		{Commands: []string{"date "}},
		{Commands: []string{"a\nb"}},
		{Commands: []string{"echo 'a *"}},
		{Commands: []string{"a; *"}},
		{Commands: []string{"$X *"}},
		{Commands: []string{"LANG=C *"}},
		{Commands: []string{"date"}, Env: []string{"A B"}},
		{Commands: []string{"date"}, Env: []string{"FORSUN_KEY"}},
		{Env: []string{"A"}},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	if err := (ShellAllow{Commands: []string{"LANG=C date *", "echo '*'", "x*"}, Env: []string{"A_1"}}).Validate(); err != nil {
		t.Error(err)
	}
}
