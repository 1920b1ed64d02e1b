package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
)

// TestImport stores a file in which lines of every kind are bad, some of them so
// that only the server finds out, which refuses the whole request for it.
func TestImport(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	bad := map[int]string{ // line: what is reported
		1:    "", // a comment
		3:    "", // empty
		7:    "1007: week: shell is not allowed",
		40:   "1006: 未知处理动作类型 (unknown action); allowed: beanstalk",
		41:   "1002: ",
		500:  "1007: cmd参数是必须的",
		1001: "1008: ",
		1002: "1009: line: a ; outside of quotes is not allowed",
		1003: "1009: params: \"2 words\" is not allowed",
		1004: "1008: line: ",
		2222: "1013: the line is longer than 1048576 bytes",
		2999: "1009: ",
		3000: "1008: second: 60 is not allowed",
	}
	var text strings.Builder
	var want []string
	for n := 1; n <= 3000; n++ {
		switch n {
		case 1:
			text.WriteString("  # key s m h D M W action params")
		case 3:
		case 7:
			text.WriteString("k 0 0 0 * * shell ls")
		case 40:
			text.WriteString("k 0 0 0 * * * nope a=b")
		case 41:
			text.WriteString("k 0 0 0 31 2 * shell ls")
		case 500:
			text.WriteString("k 0 0 0 * * * shell cwd=/tmp")
		case 1001:
			text.WriteString("k\x01 0 0 0 * * * shell ls")
		case 1002:
			text.WriteString("k 0 0 0 * * * redis host=127.0.0.1;command=PING")
		case 1003:
			text.WriteString("k 0 0 0 * * * shell ls -la")
		case 1004:
			text.WriteString(`{"key": "k", "second": "x"}`)
		case 2222:
			text.WriteString("k 0 0 0 * * * shell '" + strings.Repeat("x", maxLine) + "'")
		case 2999:
			text.WriteString("k 0 0 0 * * * http 'url=gopher://h/'")
		case 3000:
			text.WriteString("k 60 0 0 * * * shell ls")
		default:
			key := fmt.Sprintf("key-%04d", n)
			want = append(want, key)
			if n%2 == 0 {
				fmt.Fprintf(&text, "%s */86400/1 * * * * * shell 'echo %d", key, n) // closed by the line's end
			} else {
				fmt.Fprintf(&text, `{"key": %q, "minute": 5, "second": 0, "action": "shell", "params": {"cmd": "echo %d"}, "status": 1}`, key, n)
			}
		}
		text.WriteString("\r\n"[n%2:])
	}
	file := filepath.Join(t.TempDir(), "plans")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}

	reports := 0
	for _, message := range bad {
		if message != "" {
			reports++
		}
	}
	got := s.run("import", file)
	if want := fmt.Sprintf("%d stored, %d failed\n", len(want), reports); got.code != 1 || got.out != want {
		t.Fatalf("exit %d, %s, want 1, %s\n%s", got.code, got.out, want, got.err)
	}
	for n, message := range bad {
		if message != "" && !strings.Contains(got.err, fmt.Sprintf("%s:%d: %s", file, n, message)) {
			t.Errorf("line %d: no %q in\n%s", n, message, got.err)
		}
	}
	if lines := strings.Count(got.err, "\n"); lines != reports {
		t.Errorf("%d lines of reports, want %d:\n%s", lines, reports, got.err)
	}
	var keys []string
	for line := range strings.Lines(s.must(t, "-o", "json", "ls")) {
		var p jsonPlan
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, p.Key)
	}
	if !slices.Equal(keys, want) {
		t.Errorf("%d keys stored, want the %d good ones", len(keys), len(want))
	}

	// As JSON, and nothing but bad lines.
	got = s.pipe("k 0 0 0 * * shell ls\nk 0 0 0 * * * nope a=b\n", "-o", "json", "import", "-")
	if got.code != 1 || got.out != `{"failed":2,"stored":0}`+"\n" {
		t.Errorf("exit %d, %s", got.code, got.out)
	}
	for n, line := range strings.Split(strings.TrimSpace(got.err), "\n") {
		var e jsonError
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Code != []wire.Code{wire.Missing, wire.UnknownAction}[n] || e.Message == "" {
			t.Errorf("report %s: %v", line, err)
		}
	}
	s.run("import", filepath.Join(t.TempDir(), "nosuch")).check(t, "no file", 1, "", "no such file")
	s.run("import", t.TempDir()).check(t, "a directory", 1, "0 stored, 0 failed\n", "is a directory")
	s.run("import").check(t, "no name", 1, "", "import: FILE is missing; usage: import [--replace] FILE")
}

// An import that loses its server says how far it came.
func TestImportStops(t *testing.T) {
	t.Parallel()
	got := runWith(map[string]string{"FORSUN_PORT": "1"}, "\na */5 * * * * * shell ls\n", "import", "-")
	got.check(t, "no server", 1, "0 stored, 0 failed\n", "no server at 127.0.0.1:1 (connection refused)")
	if !strings.HasPrefix(got.err, "<stdin>:2: no server") || !strings.HasSuffix(got.err, "; the import stops here\n") {
		t.Errorf("reported: %s", got.err)
	}
}

func TestExportImport(t *testing.T) {
	t.Parallel()
	from, to := startServer(t), startServer(t)
	params := map[string]string{
		"plain":                  "ls -la /tmp",
		"with 'quotes'":          `echo "it's" \' \" \\ $HOME`,
		"trailing":               `a\`,
		"#comment":               "true",
		"{brace":                 "true",
		"semi;colon":             "a; b; c",
		"lines":                  "a\nb\r\nc",
		"escape":                 "\x1b[31m",
		"next line":              "a\u0085b",
		"键":                      "值",
		" blanks ":               "  a  ",
		"equals":                 "a=b",
		"cmd=":                   "cmd=x;cwd=y",
		strings.Repeat("k", 512): strings.Repeat("x;'\" ", 5000),
	}
	for key, cmd := range params {
		if got := from.run("set", key, "0", "*", "*", "*", "*", "7", "shell", "cwd=/;cmd="+quoted(cmd)); got.code != 0 {
			t.Fatalf("%q: %s", key, got.err)
		}
	}
	from.must(t, "set every */40000/0 * */3 * * * shell 'cmd=ls;env=\\'a=1;b=2\\';forsun.retries=0'")
	from.must(t, "set thrice */5/3 * * * * * thrift 'host=h;odd name=x'")
	from.must(t, "set once * * * */400 * * mysql 'sql=select 1;passwd=secret'")

	const once = "once * * * */400/1 * * mysql \"passwd='secret';sql='select 1'\"\n"
	if got := from.must(t, "export once"); got != once {
		t.Errorf("export: %s, want %s", got, once)
	}
	for _, form := range []string{"table", "json"} {
		lines := from.must(t, "export", "-o", form)
		if got := to.pipe(lines, "import", "-"); got.code != 0 || got.err != "" {
			t.Fatalf("import of %s: %s%s", form, got.out, got.err)
		}
		if strings.Count(lines, "\n") != len(params)+3 {
			t.Errorf("export -o %s: %d lines, want %d", form, strings.Count(lines, "\n"), len(params)+3)
		}
		if got, want := plansOf(t, to), plansOf(t, from); !slices.Equal(got, want) {
			t.Errorf("after export -o %s and import:\n%s\nwant\n%s", form, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	// Bytes that are no text survive in a line, and are no JSON.
	from.must(t, "set", "bytes", "0", "*", "*", "*", "*", "*", "shell", "cmd=\xff\xfe")
	if got := to.pipe(from.must(t, "export bytes"), "import", "-"); got.code != 0 {
		t.Errorf("import of bytes: %s", got.err)
	}
	if p, err := to.service.Get(t.Context(), "bytes"); err != nil || p.Params["cmd"] != "\xff\xfe" {
		t.Errorf("bytes: %+v, %v", p, err)
	}
	from.run("-o", "json", "export bytes").check(t, "bytes as JSON", 1, "", "params.cmd of bytes", "this plan is left out")
	from.must(t, "rm bytes")

	// Only what words cannot hold is JSON.
	json := 0
	for line := range strings.Lines(from.must(t, "export")) {
		if line[0] == '{' {
			json++
		}
	}
	if json != 5 { // #comment, {brace, lines, escape, next line
		t.Errorf("%d plans exported as JSON, want 5", json)
	}
}

// quoted writes a value of PARAMS, which the set of a test takes as a word.
func quoted(value string) string {
	body := strings.TrimRight(value, `\`)
	return "'" + strings.ReplaceAll(body, "'", `\'`) + "'" + value[len(body):]
}

// plansOf returns a server's plans, one a line, without what an import draws
// anew or writes in other units.
func plansOf(t *testing.T, s *server) (plans []string) {
	t.Helper()
	for line := range strings.Lines(s.must(t, "-o", "json", "ls")) {
		var p jsonPlan
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatal(err)
		}
		p.CreatedTime = 0
		if p.IsTimeOut {
			seconds := scheduler.Schedule{Kind: scheduler.Timeout, Second: p.Second, Minute: p.Minute, Hour: p.Hour, Day: p.Day, Month: p.Month, Week: p.Week}
			p.Second, p.Minute, p.Hour, p.Day, p.Month, p.Week = int(seconds.Interval()), 0, 0, 0, 0, 0
		}
		text, _ := json.Marshal(p)
		plans = append(plans, string(text))
	}
	return plans
}

func TestRemaining(t *testing.T) {
	t.Parallel()
	timeout := func(second, minute, count int) scheduler.Schedule {
		return scheduler.Schedule{Kind: scheduler.Timeout, Second: second, Minute: minute, Hour: -1, Day: -1, Month: -1, Week: -1, Count: count}
	}
	calendar := scheduler.Schedule{Second: 0, Minute: -1, Hour: -1, Day: -1, Month: -1, Week: -1}
	const now = 1_800_000_000
	rows := []struct {
		why  string
		plan scheduler.Plan
		want scheduler.Schedule
	}{
		{"a calendar", scheduler.Plan{Schedule: calendar, Due: now + 5, Fired: 7}, calendar},
		{"without end", scheduler.Plan{Schedule: timeout(60, -1, 0), Due: now + 5, Fired: 7}, timeout(60, -1, 0)},
		{"untouched", scheduler.Plan{Schedule: timeout(60, -1, 3), Due: now + 60}, timeout(60, -1, 3)},
		{"two left", scheduler.Plan{Schedule: timeout(60, -1, 3), Due: now + 5, Fired: 1}, timeout(60, -1, 2)},
		{"one left", scheduler.Plan{Schedule: timeout(60, -1, 3), Due: now + 5, Fired: 2}, timeout(5, -1, 1)},
		{"a one-shot", scheduler.Plan{Schedule: timeout(-1, 10, 1), Due: now + 599}, timeout(599, -1, 1)},
		{"overdue", scheduler.Plan{Schedule: timeout(-1, 10, 1), Due: now - 5}, timeout(0, -1, 1)},
	}
	for _, row := range rows {
		if got := remaining(&row.plan, now); got != row.want {
			t.Errorf("%s: %+v, want %+v", row.why, got, row.want)
		}
	}
	// More seconds than the wire's fields hold are carried, and stay as many.
	far := remaining(&scheduler.Plan{Schedule: timeout(-1, 600_000, 1), Due: now + 35_999_999}, now)
	if far.Interval() != 35_999_999 || far.Validate() != nil {
		t.Errorf("far: %+v", far)
	}
}
