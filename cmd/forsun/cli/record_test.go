package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore"
	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
)

// startOnRedis starts a server whose store is on a Redis of its own.
func startOnRedis(t *testing.T, clock scheduler.Clock, firing bool) *server {
	t.Helper()
	opts := redisstore.DefaultOptions()
	opts.Addresses = []string{redistest.Start(t).Addr}
	opts.Replica = "test"
	store, err := redisstore.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, store, clock, firing)
}

// records returns the plans of an export, without its header and end.
func records(t *testing.T, export string) string {
	t.Helper()
	lines := strings.SplitAfter(strings.TrimSuffix(export, "\n"), "\n")
	if n := len(lines); n < 2 || !strings.HasPrefix(lines[0], `{"forsun":"export","version":1,"zone":"UTC",`) ||
		lines[n-1] != fmt.Sprintf(`{"forsun":"end","plans":%d}`, n-2) {
		t.Fatalf("not an export:\n%s", export)
	}
	return strings.Join(lines[1:len(lines)-1], "")
}

// TestRecordsBetweenStores moves plans of every kind from the embedded store to Redis and
// back: what each exports is the same to the byte.
func TestRecordsBetweenStores(t *testing.T) {
	t.Parallel()
	clock := fixedClock{goldenNow.Add(123456789 * time.Nanosecond)}
	embedded, redis, back := start(t, clock, false), startOnRedis(t, clock, false), start(t, clock, false)
	for _, line := range []string{
		"set daily 0 32 16 * * * http http://h/?a=1",
		"set sunday 0 0 0 * * 7 shell 'cmd=ls;forsun.timezone=Asia/Shanghai'",
		"set date 1 2 3 4 5 * redis 'host=h;command=PING'",
		"set endless */5/0 */3 * * * * shell ls",
		"set far */40000/70000 * * * * * mysql 'sql=select 1;passwd=secret'",
		"set '键 {}' * * * */400 * * beanstalk 'name=n;body=b'",
	} {
		embedded.must(t, line)
	}
	embedded.must(t, "set", "lines", "0", "*", "*", "*", "*", "*", "shell", "cmd='a\n\u2028b\x01<>&'")
	embedded.must(t, "set", "bytes", "0", "*", "*", "*", "*", "*", "shell", "cmd=\xff\xfe;cwd=/")
	// And plans that have been under way.
	now := goldenNow.Unix()
	var many []*scheduler.Plan
	for i := range 1200 {
		many = append(many, &scheduler.Plan{
			Key: fmt.Sprintf("many/%04d", i), Action: "shell", Params: map[string]string{"cmd": "true"},
			Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 60, Minute: -1, Hour: -1, Day: -1, Month: -1, Week: -1, Count: 9},
			Due:      now - 30 + int64(i), Fired: 1 + i%8, LastDue: now - 90, Status: scheduler.Status(i%3 - 1), Created: time.Unix(now-1000, 987654321),
		})
	}
	errs, err := embedded.service.Restore(t.Context(), many, scheduler.RestoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}

	first := embedded.must(t, "export", "--ndjson")
	if n := strings.Count(first, "\n"); n != 1210 {
		t.Fatalf("%d lines", n)
	}
	file := filepath.Join(t.TempDir(), "plans.ndjson")
	if err := os.WriteFile(file, []byte(first), 0o600); err != nil {
		t.Fatal(err)
	}
	redis.run("import", file).check(t, "to Redis", 0, "1208 stored, 0 failed\n")
	second := redis.must(t, "export", "--ndjson")
	if records(t, second) != records(t, first) {
		t.Errorf("after Redis:\n%s\nwant\n%s", second, first)
	}
	back.pipe(second, "import", "-").check(t, "back", 0, "1208 stored, 0 failed\n")
	if third := back.must(t, "export", "--ndjson"); records(t, third) != records(t, first) {
		t.Errorf("back:\n%s\nwant\n%s", third, first)
	}

	// Again: nothing changes, unless it is to be replaced.
	redis.must(t, "set daily 0 1 1 * * * shell true")
	redis.run("import", file).check(t, "again", 0, "0 stored, 1208 already there, 0 failed\n")
	if got := redis.must(t, "export daily"); !strings.HasPrefix(got, "daily 0 1 1 ") {
		t.Errorf("replaced: %s", got)
	}
	redis.run("-o", "json", "import", "--replace", file).check(t, "replace", 0, `{"failed":0,"stored":1208}`+"\n")
	if got := redis.must(t, "export", "--ndjson"); records(t, got) != records(t, first) {
		t.Errorf("after --replace:\n%s", got)
	}
	if got := records(t, redis.must(t, "export", "--ndjson", "many/000")); strings.Count(got, "\n") != 10 {
		t.Errorf("with a prefix: %s", got)
	}
}

// TestImportRecordsTwice has what fired between two imports of a file not fire again.
func TestImportRecordsTwice(t *testing.T) {
	t.Parallel()
	from, to := startServer(t), startFiring(t)
	out := filepath.Join(t.TempDir(), "out")
	past := time.Now().Unix() - 5
	p := &scheduler.Plan{
		Key: "once", Action: "shell", Params: map[string]string{"cmd": "echo fired >> " + out}, Due: past,
		Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 60, Minute: -1, Hour: -1, Day: -1, Month: -1, Week: -1, Count: 1},
	}
	if errs, err := from.service.Restore(t.Context(), []*scheduler.Plan{p}, scheduler.RestoreOptions{}); err != nil || errs[0] != nil {
		t.Fatal(err, errs)
	}
	file := from.must(t, "export", "--ndjson")
	to.pipe(file, "import", "-").check(t, "first", 0, "1 stored, 0 failed\n")
	eventually(t, "it fired", func() bool {
		return strings.Contains(to.must(t, "-o", "json", "history", "once"), fmt.Sprintf(`"due":%d`, past))
	})
	for _, args := range [][]string{{"import", "-"}, {"import", "--replace", "-"}} {
		to.pipe(file, args...).check(t, "again", 0, "0 stored, 1 fired there already, 0 failed\n")
	}
	if b, err := os.ReadFile(out); err != nil || string(b) != "fired\n" {
		t.Errorf("it left %q, %v", b, err)
	}
}

// TestImportBadRecords names the line and what is wrong with it.
func TestImportBadRecords(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const header = `{"forsun":"export","version":1,"zone":"UTC","time":"2026-11-22T11:10:39Z"}`
	record := func(more string) string {
		return `{"forsun":"plan","key":"k","is_time_out":true,"second":5,"count":2,"next_time":2000000000,"action":"shell","params":{"cmd":"true"}` + more + "}"
	}
	rows := []struct {
		why, file, out string
		parts          []string
	}{
		{"cut off", header + "\n" + record("") + "\n", "1 stored, 0 failed\n", []string{"<stdin>:3: 1008: end of the file: here, after 1 plans"}},
		{"a line lost", header + "\n" + record("") + "\n" + `{"forsun":"end","plans":2}`, "0 stored, 1 already there, 1 failed\n", []string{"<stdin>:3: 1008: plans: 2 at the end of the export, 1 in the file"}},
		{"of a newer version", strings.Replace(header, `"version":1`, `"version":2`, 1), "0 stored, 1 failed\n", []string{"<stdin>:1: 1008: version: 2 is not allowed"}},
		{"what is that", `{"forsun":"cow"}`, "0 stored, 1 failed\n", []string{"forsun: cow is not allowed; allowed: export, plan, end"}},
		{"a name it does not know", record(`,"cows":1`), "0 stored, 1 failed\n", []string{`unknown field "cows"`}},
		{"half a line", record("")[:40], "0 stored, 1 failed\n", []string{"<stdin>:1: 1008: line: "}},
		{"two on a line", record("") + record(""), "0 stored, 1 failed\n", []string{"<stdin>:1: 1008: line: "}},
		{"not base64", record(`,"params_base64":{"cwd":"%"}`), "0 stored, 1 failed\n", []string{"params_base64.cwd"}},
		{"twice", record(`,"params_base64":{"cmd":"AA=="}`), "0 stored, 1 failed\n", []string{"params_base64.cmd"}},
		{"fired out", strings.Replace(record(`,"current_count":2`), `"k"`, `"k2"`, 1), "0 stored, 1 failed\n", []string{"<stdin>:1: 1008: current_count: 2"}},
		{"no such action", strings.Replace(record(""), `"shell"`, `"event"`, 1), "0 stored, 1 failed\n", []string{"<stdin>:1: 1006: ", "allowed: "}},
		{"status", record(`,"status":7`), "0 stored, 1 failed\n", []string{"status: 7"}},
		{"created", record(`,"created_time":-1`), "0 stored, 1 failed\n", []string{"created_time: -1"}},
	}
	for _, row := range rows {
		s.pipe(row.file, "import", "-").check(t, row.why, 1, row.out, row.parts...)
	}
	// Another zone is a warning.
	s.pipe(strings.Replace(header, "UTC", "Asia/Shanghai", 1)+"\n"+`{"forsun":"end","plans":0}`, "import", "-").
		check(t, "zone", 0, "0 stored, 0 failed\n", "warning: these plans are from a forsund in the zone Asia/Shanghai, this one is in UTC")
	// Lines can be picked out, and mixed with others.
	s.pipe("# comment\n"+strings.Replace(record(""), `"k"`, `"picked"`, 1)+"\nother 0 0 0 * * * shell ls\n", "import", "-").
		check(t, "picked", 0, "2 stored, 0 failed\n")
	var p jsonPlan
	if err := json.Unmarshal([]byte(s.must(t, "-o", "json", "get", "picked")), &p); err != nil || p.NextTime != 2000000000 || p.Count != 2 {
		t.Errorf("%+v, %v", p, err)
	}
}
