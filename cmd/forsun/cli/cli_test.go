package cli

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestCommands(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const (
		redis = `2026-11-22 12:33:59+00:00 redis */5000/1 * * * * * redis "host='127.0.0.1';command='SET b 1 EX 300'"` + "\n"
		hello = `2026-11-22 16:32:00+00:00 hello 0 32 16 * * * shell "cmd='date >> log.txt'"` + "\n"
		my    = `2026-11-22 11:10:44+00:00 'my key' */5/3 * * * * * http "url='http://***@h/?a=1;b=2'"` + "\n"
	)
	// The rows run one after the other on one server.
	rows := []struct {
		why  string
		args []string
		code int
		out  string
		errs []string
	}{
		{why: "the golden plan line", args: []string{`set redis */5000/1 * * * * * redis 'host=127.0.0.1;command=\'SET b 1 EX 300\''`}, out: redis},
		{why: "a calendar", args: []string{`set hello 0 32 16 * * * sh 'date >> log.txt'`}, out: hello},
		{why: "several arguments are words as they are", args: []string{"set", "my key", "*/5/3", "*", "*", "*", "*", "*", "http", "http://u:p@h/?a=1;b=2"}, out: my},
		{why: "ls, by key", args: []string{"ls"}, out: hello + my + redis},
		{why: "ls of a prefix", args: []string{"ls re"}, out: redis},
		{why: "ls of a pattern of old", args: []string{"ls", "re*"}, out: redis},
		{why: "ls of nothing", args: []string{"ls", "nosuch"}},
		{why: "several commands", args: []string{"get redis; get 'my key'"}, out: redis + my},
		{why: "get", args: []string{"get", "my key"}, out: my},
		{why: "--exe", args: []string{"--exe", "get redis"}, out: redis},
		{why: "text prints plans the same", args: []string{"-o", "text", "get redis"}, out: redis},
		{why: "time, epoch", args: []string{"time 1795350839"}, out: redis},
		{why: "time, date", args: []string{"time '2026-11-22 12:33:59'"}, out: redis},
		{why: "time, date in two words", args: []string{"time", "2026-11-22", "12:33:59"}, out: redis},
		{why: "time without plans", args: []string{"time 1"}},
		{why: "time, now", args: []string{"time"}},
		{why: "time, nonsense", args: []string{"time tomorrow"}, code: 1, errs: []string{"tomorrow is not allowed", "YYYY-MM-DD"}},
		{why: "current", args: []string{"current"}},
		{why: "next", args: []string{"next 'my key' 9"}, out: "2026-11-22 11:10:44+00:00\n2026-11-22 11:10:49+00:00\n2026-11-22 11:10:54+00:00\n"},
		{why: "next, fewer", args: []string{"next", "hello", "2"}, out: "2026-11-22 16:32:00+00:00\n2026-11-23 16:32:00+00:00\n"},
		{why: "next, too many", args: []string{"next hello 1001"}, code: 1, errs: []string{"1001 is not allowed; allowed: 1 to 1000"}},
		{why: "next of no plan", args: []string{"next nosuch"}, code: 1, errs: []string{"1003: 计划未找到 (no such plan)"}},
		{why: "rm", args: []string{"rm redis"}, out: "success\n"},
		{why: "rm, absent", args: []string{"rm redis"}, code: 1, errs: []string{"1003: 计划未找到 (no such plan)"}},
		{why: "get, absent", args: []string{"get redis"}, code: 1, errs: []string{"1003: "}},
		{why: "the first error ends", args: []string{"rm nosuch; rm hello"}, code: 1, errs: []string{"1003: "}},
		{why: "and what stands behind it is not done", args: []string{"get hello"}, out: hello},
		{why: "exit ends without an error", args: []string{"get hello; exit; rm hello"}, out: hello},
		{why: "quit", args: []string{"quit; bogus"}},
		{why: "unknown", args: []string{"bogus"}, code: 1, errs: []string{"Unknown cmd\n", `"help" lists the commands`}},
		{why: "unknown, near", args: []string{"histroy"}, code: 1, errs: []string{"Unknown cmd\n", "did you mean history?"}},
		{why: "seconds of a day", args: []string{"set day */86400/1 * * * * * shell true"}, out: "2026-11-23 11:10:39+00:00 day * * * */1/1 * * shell \"cmd='true'\"\n"},
		{why: "the last count holds", args: []string{"set two */1/7 */1/2 * * * * shell true"}, out: "2026-11-22 11:11:40+00:00 two */1/2 */1/2 * * * * shell \"cmd='true'\"\n"},
		{why: "a number beside an interval", args: []string{"set x */1 5 * * * * shell true"}, code: 1, errs: []string{"1008: minute: 5 is not allowed"}},
		{why: "a field out of range", args: []string{"set x 61 * * * * * shell true"}, code: 1, errs: []string{"1008: second: 61 is not allowed", "0 to 59"}},
		{why: "a date that never comes", args: []string{"set x 0 0 0 31 2 * shell true"}, code: 1, errs: []string{"1002: "}},
		{why: "an unknown action", args: []string{"set x */1 * * * * * nope true=1"}, code: 1, errs: []string{"1006: 未知处理动作类型 (unknown action)", "allowed: beanstalk, http, mysql, redis, shell, thrift"}},
		{why: "an action without what it needs", args: []string{"set x */1 * * * * * shell"}, code: 1, errs: []string{"1007: cmd参数是必须的 (a required argument is missing)"}},
		{why: "a bad option of the plan", args: []string{"set x */1 * * * * * shell 'cmd=a;forsun.retries=x'"}, code: 1, errs: []string{"1008: ", "forsun.retries"}},
		{why: "a key with control characters", args: []string{"get", "a\x1b[31m"}, code: 1, errs: []string{"1008: ", "key"}},
		{why: "names of files for stars", args: []string{"set", "k", "*/5", "a.txt", "b.txt", "c", "d", "e", "f", "g", "shell", "ls"}, code: 1, errs: []string{"minute: a.txt is not allowed", "in quotes"}},
		{why: "get without a key", args: []string{"get"}, code: 1, errs: []string{"get: KEY is missing; usage: get KEY"}},
		{why: "get of two", args: []string{"get a b"}, code: 1, errs: []string{"one is allowed"}},
		{why: "a word that looks like an option", args: []string{"ls", "-la"}, code: 1, errs: []string{"no such option: -la", "goes after --"}},
		{why: "which it need not be", args: []string{"ls", "--", "-la"}},
		{why: "redrive of nothing", args: []string{"redrive"}, code: 1, errs: []string{"exactly one is allowed"}},
		{why: "redrive of two", args: []string{"redrive --all --key k"}, code: 1, errs: []string{"exactly one is allowed"}},
		{why: "redrive of an unknown id", args: []string{"redrive", "77"}, code: 1, out: "0 redriven\n", errs: []string{"name no dead letter"}},
		{why: "purge", args: []string{"purge --all"}, out: "0 purged\n"},
		{why: "history, empty", args: []string{"history"}},
		{why: "dead, empty", args: []string{"dead nosuch"}},
		{why: "a bad limit", args: []string{"history -n 0"}, code: 1, errs: []string{"-n 0 is not allowed"}},
		{why: "version", args: []string{"version"}, out: "forsun 1.2.3\nforsund 9.9.9 at " + net.JoinHostPort(s.host, s.port) + "\n"},
		{why: "help of nothing", args: []string{"help nosuch"}, code: 1, errs: []string{"Unknown cmd"}},
		{why: "blanks and semicolons only", args: []string{" ; ;"}},
	}
	for _, row := range rows {
		s.run(row.args...).check(t, row.why, row.code, row.out, row.errs...)
		if row.code == 0 && len(row.errs) == 0 && t.Failed() {
			return // later rows build on it
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, c := range commands() {
		if got := s.must(t, "help"); !strings.Contains(got, "  "+c.name) {
			t.Errorf("help does not list %s", c.name)
		}
		got := s.must(t, "help", c.name)
		if !strings.HasPrefix(got, strings.TrimSpace(c.name+" "+c.args)+"\n") {
			t.Errorf("help %s: %s", c.name, got)
		}
		if asked := s.must(t, c.name, "-h"); asked != got {
			t.Errorf("%s -h: %s\nwant what help %s prints", c.name, asked, c.name)
		}
	}
	got := s.must(t, "-h")
	for _, part := range []string{"usage: forsun [-h]", "positional arguments:", "optional arguments:", "--host HOST", "FORSUN_PORT"} {
		if !strings.Contains(got, part) {
			t.Errorf("-h has no %q", part)
		}
	}
	for line := range strings.Lines(got) {
		if len([]rune(line)) > 81 && !strings.HasPrefix(line, "  forsun ") {
			t.Errorf("-h has a long line: %s", line)
		}
	}
	if got := s.must(t, "--version"); got != "forsun 1.2.3\n" {
		t.Errorf("--version: %q", got)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	env := map[string]string{"FORSUN_HOST": "envhost", "FORSUN_PORT": "99"}
	rows := []struct {
		why  string
		args []string
		env  map[string]string
		want string // host:port output timeout words, or the error
	}{
		{"defaults", nil, nil, "127.0.0.1:6458 table 10s []"},
		{"environment", nil, env, "envhost:99 table 10s []"},
		{"the command line outweighs it", []string{"--port", "7", "--host=::1"}, env, "[::1]:7 table 10s []"},
		{"what Kubernetes sets", nil, map[string]string{"FORSUN_PORT": "tcp://10.0.0.1:6458"}, "127.0.0.1:6458 table 10s []"},
		{"a line", []string{"ls; info"}, nil, "127.0.0.1:6458 table 10s [ls; info]"},
		{"options behind the command", []string{"ls", "--port", "9"}, nil, "127.0.0.1:9 table 10s [ls]"},
		{"options between the words", []string{"get", "-o", "json", "k"}, nil, "127.0.0.1:6458 json 10s [get|k]"},
		{"joined", []string{"get", "-ojson", "--timeout=500ms", "k"}, nil, "127.0.0.1:6458 json 500ms [get|k]"},
		{"seconds", []string{"--timeout", "3"}, nil, "127.0.0.1:6458 table 3s []"},
		{"options of a command", []string{"history", "-n", "5"}, nil, "127.0.0.1:6458 table 10s [history|-n|5]"},
		{"nothing is one behind --", []string{"get", "--", "--port"}, nil, "127.0.0.1:6458 table 10s [get|--port]"},
		{"one dash", []string{"import", "-"}, nil, "127.0.0.1:6458 table 10s [import|-]"},
		{"brackets", []string{"--host", "[::1]"}, nil, "[::1]:6458 table 10s []"},
		{"unknown", []string{"--nope"}, nil, "no such option: --nope"},
		{"one dash too few", []string{"-port", "9"}, nil, "no such option: -port"},
		{"no value", []string{"ls", "--port"}, nil, "--port needs a value"},
		{"no port", []string{"--port", "http"}, nil, `--port "http" is not allowed; allowed: 1 to 65535`},
		{"no port in the environment", nil, map[string]string{"FORSUN_PORT": "0"}, `FORSUN_PORT "0" is not allowed; allowed: 1 to 65535`},
		{"port in the host", []string{"--host", "h:6458"}, nil, "the port goes to --port"},
		{"no host", []string{"--host", ""}, nil, `--host "" is not allowed`},
		{"no form", []string{"-o", "xml"}, nil, `--output "xml" is not allowed; allowed: table, json, text`},
		{"no time", []string{"--timeout", "soon"}, nil, `--timeout "soon" is not allowed`},
		{"no time at all", []string{"--timeout", "0"}, nil, `--timeout "0" is not allowed`},
		{"two commands", []string{"--exe", "ls", "info"}, nil, "give one of the two"},
		{"an empty command", []string{""}, nil, "the command is empty"},
	}
	for _, row := range rows {
		o, err := parse(row.args, func(name string) (string, bool) { v, ok := row.env[name]; return v, ok })
		var got string
		if err == nil {
			got = strings.Join([]string{o.Address(), string(o.Output), o.Timeout.String(), "[" + strings.Join(o.Words, "|") + "]"}, " ")
			if got == row.want {
				continue
			}
		} else if got = err.Error(); strings.Contains(got, row.want) {
			continue
		}
		t.Errorf("%s: %q: %s, want %s", row.why, row.args, got, row.want)
	}
	got := runWith(nil, "", "--nope")
	got.check(t, "a wrong option", exitUsage, "", "forsun: no such option: --nope")
}

// The commands of the document the project started from, as people paste them
// into a shell.
func TestSeedCommands(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	text, err := os.ReadFile("../../../scheduler/line/testdata/seed_commands.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	wants := map[string]map[string]string{
		"redis":     {"host": "172.16.0.2", "command": "SET b 1 EX 300"},
		"shell":     {"cmd": "ls"},
		"beanstalk": {"host": "10.4.14.14", "name": "etask", "body": "{}"},
		"thrift":    {"host": "10.4.14.14", "port": "4220"},
		"http":      {"url": "http://www.baidu.com"},
		"mysql": {
			"host": "172.16.0.2", "user": "root", "passwd": "123456", "db": "test",
			"sql": "update test set created_at=now() where id=1",
		},
	}
	if len(lines) != 2*len(wants) {
		t.Fatalf("%d commands, want %d", len(lines), 2*len(wants))
	}
	for i, command := range lines {
		got := s.shell(t, "sh", command)
		if i == len(lines)-1 { // it lacks a time field
			got.check(t, command, 1, "", "week: mysql is not allowed", "six time fields before the action (5 are given)")
			continue
		}
		key := strings.Fields(command)[2]
		when := "2026-11-22 11:10:44+00:00 " + key + " */5/1 * * * * * "
		if i >= len(wants) {
			when = "2026-11-22 16:32:00+00:00 " + key + " 0 32 16 * * * "
		}
		if got.code != 0 || got.err != "" || !strings.HasPrefix(got.out, when+key+" ") {
			t.Errorf("%s: exit %d, printed %s%s\nwant %s%s …", command, got.code, got.out, got.err, when, key)
		}
		var plan jsonPlan
		if err := json.Unmarshal([]byte(s.must(t, "-o", "json", "get", key)), &plan); err != nil {
			t.Fatal(err)
		}
		if plan.Action != key || !maps.Equal(plan.Params, wants[key]) {
			t.Errorf("%s: stored %s %q, want %q", command, plan.Action, plan.Params, wants[key])
		}
	}
}

// What is printed as JSON is JSON: one document, or one a line for lists.
func TestJSON(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	rows := []struct {
		args []string
		want string // found in what is printed, written again with sorted names
	}{
		{[]string{"set k */40000/2 * * * * * mysql 'sql=select 1;passwd=secret'"}, `"passwd":"secret"`},
		{[]string{"get", "k"}, `"is_time_out":true,"key":"k"`},
		{[]string{"ls"}, `"action":"mysql","count":2`},
		{[]string{"time 1795385839"}, `"key":"k"`},
		{[]string{"next", "k"}, `{"due":[1795385839,1795425839],"key":"k"}`},
		{[]string{"info"}, `"forsun_version":"9.9.9"`},
		{[]string{"shards"}, `"plans":1`},
		{[]string{"version"}, `{"forsun":"1.2.3","forsund":"9.9.9"}`},
		{[]string{"redrive --all"}, `{"redriven":0}`},
		{[]string{"purge --key k"}, `{"purged":0}`},
		{[]string{"export"}, `"passwd":"secret"`},
		{[]string{"import", os.DevNull}, `{"failed":0,"stored":0}`},
		{[]string{"rm", "k"}, `{"key":"k","result":"success"}`},
	}
	for _, row := range rows {
		got := s.must(t, append([]string{"-o", "json"}, row.args...)...)
		var v any
		if err := json.Unmarshal([]byte(got), &v); err != nil || strings.Count(got, "\n") != 1 {
			t.Errorf("%q: %s: %v, want a line of JSON", row.args, got, err)
			continue
		}
		again, _ := json.Marshal(v)
		if !strings.Contains(string(again), row.want) {
			t.Errorf("%q: %s, want in it %s", row.args, again, row.want)
		}
	}
	got := s.run("-o", "json", "rm", "k")
	var e jsonError
	if err := json.Unmarshal([]byte(got.err), &e); err != nil || e.Code != 1003 || got.code != 1 || got.out != "" {
		t.Errorf("an error: exit %d, %s%s: %v", got.code, got.out, got.err, err)
	}
}

func TestMasking(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	set := "set k */60/1 * * * * * mysql 'sql=select 1;passwd=hunter2'"
	for _, args := range [][]string{{set}, {"get k"}, {"ls"}, {"-o", "text", "ls"}, {"time 1795345899"}} {
		if got := s.must(t, args...); strings.Contains(got, "hunter2") || !strings.Contains(got, "passwd='***'") {
			t.Errorf("%q shows %s", args, got)
		}
	}
	for _, args := range [][]string{{"export"}, {"-o", "json", "ls"}, {"-o", "json", "get k"}} {
		if got := s.must(t, args...); !strings.Contains(got, "hunter2") {
			t.Errorf("%q hides the password: %s", args, got)
		}
	}
}

func TestScript(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	rows := []struct {
		why, in string
		code    int
		out     string
		errs    []string
	}{
		{why: "nothing", in: ""},
		{
			why: "lines", in: "# a comment\n\nset a */60/1 * * * * * shell 'cmd=ls\r\nrm a; rm b\nls\n", code: 1,
			out:  "2026-11-22 11:11:39+00:00 a */60/1 * * * * * shell \"cmd='ls'\"\nsuccess\n",
			errs: []string{"1003: ", "stopped at line 4"},
		},
		{why: "the last line without an end", in: "rm nosuch", code: 1, errs: []string{"1003: "}},
		{why: "exit", in: "exit\nbogus\n"},
		{why: "a line that is too long", in: "get " + strings.Repeat("k", maxLine) + "\nls\n", code: 1, errs: []string{"line 1: longer than"}},
		{why: "an import of the rest", in: "import -\na */60/1 * * * * * shell ls\nb */60/1 * * * * * shell ls\n", out: "2 stored, 0 failed\n"},
	}
	for _, row := range rows {
		s.pipe(row.in).check(t, row.why, row.code, row.out, row.errs...)
	}
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())

	// One that accepts and says nothing.
	got := runWith(nil, "", "--port", port, "--timeout", "100ms", "ls")
	got.check(t, "no answer", 1, "", "no answer from 127.0.0.1:"+port+" within 100ms (--timeout changes that)\n")
	got = runWith(nil, "", "--port", port, "--timeout", "100ms", "rm k")
	got.check(t, "no answer to a change", 1, "", "it is not known whether the request took effect")

	ln.Close()
	got = runWith(nil, "", "--port", port, "ls")
	got.check(t, "no server", 1, "", "no server at 127.0.0.1:"+port+" (connection refused): start one with \"forsund --port "+port+"\"")
	if strings.Count(got.err, "\n") != 1 {
		t.Errorf("no server: %s, want one line", got.err)
	}
	got = runWith(nil, "", "--port", port, "version")
	if got.code != 0 || !strings.HasPrefix(got.out, "forsun 1.2.3\nforsund unknown: no server at ") {
		t.Errorf("version: exit %d, %s", got.code, got.out)
	}
	got = runWith(nil, "", "--host", "no.such.host.invalid", "--timeout", "5s", "ls")
	got.check(t, "no host", 1, "", "no such host; --host says where it is")
}

func TestInterrupt(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var errs strings.Builder
	interrupted := func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return ctx, cancel
	}
	began := time.Now()
	code := Run(context.Background(), []string{"--host", s.host, "--port", s.port, "ls"}, Process{
		Stdin: strings.NewReader(""), Stdout: &errs, Stderr: &errs, Interrupt: interrupted,
	})
	if code != exitInterrupted || errs.String() != "interrupted\n" || time.Since(began) > 5*time.Second {
		t.Errorf("exit %d, %q after %s", code, errs.String(), time.Since(began))
	}
}
