package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
)

// raw16 and str8 are texts as older and newer versions of Python's msgpack wrote them.
func raw16(s string) msgpack.RawMessage {
	return append(binary.BigEndian.AppendUint16([]byte{0xda}, uint16(len(s))), s...)
}
func str8(s string) msgpack.RawMessage { return append([]byte{0xd9, byte(len(s))}, s...) }

func packed(t *testing.T, v any) []byte {
	t.Helper()
	b, err := msgpack.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pythonPlan is a plan as the Python forsun stores it.
func pythonPlan(key string, timeout bool, change map[string]any) map[string]any {
	p := map[string]any{
		"key": key, "second": 60, "minute": -1, "hour": -1, "day": -1, "month": -1, "week": -1, "status": 0, "count": 1,
		"is_time_out": timeout, "next_time": 0, "current_count": 0, "last_timeout": 0, "created_time": 0.0, "action": "shell",
		"params": map[string]any{"cmd": "true"},
	}
	if !timeout {
		p["second"], p["count"] = 0, 0
	}
	maps.Copy(p, change)
	return p
}

// pythonPlans are plans of all kinds, of a host whose times are wrong by shift, and what
// is to become of them: the next time here, 0 if left out.
func pythonPlans(shift int64) (plans []map[string]any, due map[string]int64, handled int64) {
	now := goldenNow.Unix()
	due = make(map[string]int64)
	add := func(want int64, p map[string]any) {
		plans = append(plans, p)
		switch key := p["key"].(type) {
		case string:
			due[key] = want
		case msgpack.RawMessage:
			due[string(key[len(raw16("")):])] = want
		}
	}
	at := func(t int64) int64 { return t + shift }
	add(now+1000, pythonPlan("once", true, map[string]any{"next_time": at(now + 1000), "created_time": float64(at(now-9)) + 0.5}))
	add(now+30, pythonPlan("counted", true, map[string]any{"next_time": at(now + 30), "count": 10, "current_count": 4, "last_timeout": at(now - 30)}))
	add(now+7, pythonPlan("endless", true, map[string]any{"next_time": at(now + 7), "count": 0, "current_count": 90000, "last_timeout": at(now - 53)}))
	add(now+3600, pythonPlan("calendar", false, map[string]any{"minute": 10, "next_time": at(now + 3600)}))
	add(now+86400, pythonPlan("week", false, map[string]any{"minute": 10, "hour": 11, "week": 3, "next_time": at(now + 86400)}))
	add(now+11, pythonPlan("rawkk", true, map[string]any{"key": raw16("rawkk"), "action": str8("shell"), "params": map[string]any{"cmd": raw16("echo")}, "next_time": at(now + 11)}))
	add(now+12, pythonPlan("numbers", true, map[string]any{"action": "redis", "next_time": at(now + 12), "params": map[string]any{"host": "h", "port": 6380, "selected_db": uint8(2), "command": "PING", "list": []any{1, "a", 2.5}, "flag": true, "none": nil}}))
	add(now+13, pythonPlan("bytes", true, map[string]any{"next_time": at(now + 13), "params": map[string]any{"cmd": "\xff\xfe"}}))
	add(now-20, pythonPlan("missed", true, map[string]any{"next_time": at(now - 20)}))
	add(0, pythonPlan("handled", true, map[string]any{"next_time": at(now - 500)}))
	add(now+20, pythonPlan("stuck", true, map[string]any{"next_time": at(now - 100), "count": 0}))
	add(0, pythonPlan("finished", true, map[string]any{"next_time": nil, "current_count": 1}))
	add(now+60, pythonPlan("lost", true, map[string]any{"next_time": nil, "count": 0}))
	add(now+3, pythonPlan("once:_:_retry", true, map[string]any{"next_time": at(now + 3), "current_count": 2}))
	add(0, pythonPlan("extension", true, map[string]any{"next_time": at(now + 9), "action": "event"}))
	add(0, pythonPlan("no url", true, map[string]any{"next_time": at(now + 9), "action": "http"}))
	add(0, pythonPlan("a calendar that cannot be", false, map[string]any{"minute": 99, "next_time": at(now + 9)}))
	add(0, pythonPlan("text", true, map[string]any{"second": "sixty", "next_time": at(now + 9)}))
	add(0, pythonPlan("no \xff text", true, map[string]any{"next_time": at(now + 9)}))
	return plans, due, at(now - 60)
}

// checkMigrated compares what is stored with what was to become of it.
func checkMigrated(t *testing.T, s *server, due map[string]int64) {
	t.Helper()
	for key, want := range due {
		p, err := s.service.Get(t.Context(), key)
		switch {
		case want == 0 && err == nil:
			t.Errorf("%q: stored, and was to be left out", key)
		case want != 0 && err != nil:
			t.Errorf("%q: %v", key, err)
		case want != 0 && p.Due != want:
			t.Errorf("%q: next time %d, want %d (%+d)", key, p.Due, want, p.Due-want)
		}
	}
	get := func(key string) *scheduler.Plan {
		p, err := s.service.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	now := goldenNow.Unix()
	if p := get("counted"); p.Fired != 4 || p.Schedule.Count != 10 || p.LastDue != now-30 {
		t.Errorf("counted: %+v", p)
	}
	if p := get("endless"); p.Fired != 90000 || p.Schedule.Count != 0 {
		t.Errorf("endless: %+v", p)
	}
	if p := get("once"); p.Created.UnixMilli() != (now-9)*1000+500 {
		t.Errorf("once: created %v", p.Created)
	}
	if p := get("once:_:_retry"); p.Fired != 0 || p.Schedule.Count != 1 {
		t.Errorf("retry: %+v", p)
	}
	if p := get("bytes"); p.Params["cmd"] != "\xff\xfe" {
		t.Errorf("bytes: %+v", p)
	}
	want := map[string]string{"host": "h", "port": "6380", "selected_db": "2", "command": "PING", "list": `[1,"a",2.5]`, "flag": "true"}
	if p := get("numbers"); !maps.Equal(p.Params, want) {
		t.Errorf("numbers: %v", p.Params)
	}
	if p := get("rawkk"); p.Params["cmd"] != "echo" || p.Action != "shell" {
		t.Errorf("raw: %+v", p)
	}
}

const migrated = "12 would be migrated (6 of them odd), 0 already there, 0 fired there already, 7 left out\n"

func TestMigrateDump(t *testing.T) {
	t.Parallel()
	for zone, shift := range map[string]int64{"UTC": 0, "Asia/Shanghai": -28800} {
		plans, due, handled := pythonPlans(shift)
		var list []any
		for _, p := range plans {
			list = append(list, packed(t, p)) // bin; as newer versions, others as text
		}
		list[1] = string(packed(t, plans[1]))
		dump := packed(t, map[string]any{"plans": list, "time_plans": map[int64]any{5: []string{"once"}, 6: nil}, "current_time": handled})
		file := filepath.Join(t.TempDir(), "forsun.session")
		if err := os.WriteFile(file, dump, 0o600); err != nil {
			t.Fatal(err)
		}
		os.Chtimes(file, time.Now(), goldenNow.Add(-59*time.Second))
		before := sha256.Sum256(dump)
		s := startServer(t)

		got := s.run("migrate", file, "--host-timezone", zone)
		if got.code != 0 || got.err != "" || !strings.Contains(got.out, fmt.Sprintf("%d read: %s", len(plans), migrated)) {
			t.Fatalf("%s: exit %d\n%s%s", zone, got.code, got.out, got.err)
		}
		for _, part := range []string{
			"left out handled: its last time is over: handled by the Python forsun at ", "left out finished: finished: 1 of 1 firings",
			"left out extension: 1006", "left out \"no url\": 1007", "left out \"a calendar that cannot be\": 1008: minute: 99", "left out text: a value that cannot be: second is sixty",
			`\xff text`, "odd      lost: it had no next time", "odd      missed: due ", "20s ago: it fires at once", "odd      week: a calendar with a week",
			"odd      once:_:_retry: a retry", "odd      numbers: params.list is a list", "odd      numbers: params.none is null", "odd      stuck: handled",
			"sample   before: next_time=", "         after:  once */60/1 * * * * * shell; fired 0; next ", "would be migrated shell: 11\n", "would be migrated redis: 1\n",
			"left out, no such action there: 1\n", "nothing was stored: this was a dry run",
		} {
			if !strings.Contains(got.out, part) {
				t.Errorf("%s: no %q in\n%s", zone, part, got.out)
			}
		}
		if out := s.must(t, "ls"); out != "" {
			t.Errorf("%s: stored in a dry run: %s", zone, out)
		}
		if zone != "UTC" { // forgotten
			if got := s.run("migrate", file); !strings.Contains(got.err, "seems to have been at UTC+08:00") {
				t.Errorf("no hint of the zone: %s", got.err)
			}
		}

		s.must(t, "set endless 0 0 0 * * * shell 'echo mine'")
		got = s.run("migrate", file, "--host-timezone", zone, "--apply")
		if want := "11 migrated (6 of them odd), 1 already there, 0 fired there already, 7 left out\n"; got.code != 0 || !strings.Contains(got.out, want) {
			t.Errorf("%s: exit %d\n%s%s", zone, got.code, got.out, got.err)
		}
		if out := s.must(t, "export endless"); !strings.Contains(out, "echo mine") {
			t.Errorf("%s: replaced: %s", zone, out)
		}
		got = s.run("migrate", file, "--host-timezone", zone, "--apply", "--replace", "-o", "json")
		if want := fmt.Sprintf(`{"dry_run":false,"read":%d,"migrated":12,"already_there":0,"already_fired":0,"left_out":7,"odd":6,`, len(plans)); got.code != 0 || !strings.Contains(got.out, want) {
			t.Errorf("%s: exit %d\n%s%s", zone, got.code, got.out, got.err)
		}
		checkMigrated(t, s, due)
		s.run("migrate", file, "--host-timezone", zone, "--apply", "--samples=0").check(t, "again", 0,
			s.run("migrate", file, "--host-timezone", zone, "--apply", "--samples=0").out)
		after, err := os.ReadFile(file)
		if err != nil || sha256.Sum256(after) != before {
			t.Errorf("%s: the file was changed: %v", zone, err)
		}
	}
}

// snapshot is every key of a Redis with what it holds and when it goes.
func snapshot(t *testing.T, c rueidis.Client) map[string]string {
	t.Helper()
	ctx := t.Context()
	keys, err := c.Do(ctx, c.B().Keys().Pattern("*").Build()).AsStrSlice()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, key := range keys {
		dump, err := c.Do(ctx, c.B().Dump().Key(key).Build()).ToString()
		if err != nil {
			t.Fatal(err)
		}
		at, err := c.Do(ctx, c.B().Pexpiretime().Key(key).Build()).AsInt64()
		if err != nil {
			t.Fatal(err)
		}
		all[key] = fmt.Sprint(at, dump)
	}
	return all
}

func TestMigrateRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr}, SelectDB: 3, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	const base = "odd[prefix]*:7"
	plans, due, handled := pythonPlans(-28800)
	set := func(key, value string) {
		t.Helper()
		if err := c.Do(ctx, c.B().Set().Key(key).Value(value).ExSeconds(604800).Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range plans {
		key, ok := p["key"].(string)
		if !ok {
			key = "rawkk"
		}
		set(base+":plan:"+key, string(packed(t, p)))
		if i%2 == 0 {
			c.Do(ctx, c.B().Hset().Key(fmt.Sprintf("%s:time:%d", base, i)).FieldValue().FieldValue(key, "0").Build())
		}
	}
	set(base+":current:time", fmt.Sprint(handled))
	c.Do(ctx, c.B().Expire().Key(base+":current:time").Seconds(30*86400-3600).Build()) // set an hour ago, or so
	// What is none of it, and what is and cannot be read.
	set("oddp:7:plan:other", "x")
	set("odd[prefix]*:8:plan:other", string(packed(t, pythonPlan("other", true, nil))))
	set(base+":plan:broken", "\xde\xff\xff")
	set(base+":plan:huge", strings.Repeat("x", 600<<10))
	c.Do(ctx, c.B().Rpush().Key(base+":plan:list").Element("x").Build())
	for i := range 2500 {
		key := fmt.Sprintf("many/%04d", i)
		set(base+":plan:"+key, string(packed(t, pythonPlan(key, true, map[string]any{"next_time": goldenNow.Unix() - 28800 + 5000 + int64(i)}))))
	}
	before := snapshot(t, c)

	host, port, _ := strings.Cut(server.Addr, ":")
	args := []string{
		"migrate", "--redis-host", host, "--redis-port", port, "--redis-db", "3", "--redis-prefix", "odd[prefix]*", "--redis-server-id=7",
		"--host-timezone", "Asia/Shanghai",
	}
	s := startServer(t)
	want := fmt.Sprintf("%d read: 2512 would be migrated", len(plans)+3+2500)
	if got := s.run(args...); got.code != 0 || !strings.Contains(got.out, want) || !strings.Contains(got.out, "left out, cannot be read: 3\n") {
		t.Errorf("exit %d, want %s\n%s%s", got.code, want, got.out, got.err)
	}
	if got := s.run(append(args, "--apply")...); got.code != 0 || !strings.Contains(got.out, "2512 migrated") {
		t.Errorf("exit %d\n%s%s", got.code, got.out, got.err)
	}
	checkMigrated(t, s, due)
	if p, err := s.service.Get(ctx, "many/2499"); err != nil || p.Due != goldenNow.Unix()+7499 {
		t.Errorf("the last of many: %+v, %v", p, err)
	}
	if after := snapshot(t, c); !maps.Equal(before, after) {
		t.Errorf("Redis was changed: %d keys, then %d", len(before), len(after))
	}
	wrong := []string{"migrate", "--redis-host", host, "--redis-port", port, "--redis-db", "3", "--redis-server-id=70"}
	if got := s.run(wrong...); got.code != 0 || !strings.Contains(got.out, "0 read:") || !strings.Contains(got.out, "--redis-server-id right?") {
		t.Errorf("another id: exit %d\n%s%s", got.code, got.out, got.err)
	}

	// It still runs.
	set(base+":current:time", fmt.Sprint(goldenNow.Unix()-28800))
	if got := s.run(append(args, "--apply")...); got.code != 1 || !strings.Contains(got.err, "nothing was stored: the Python forsun still runs") {
		t.Errorf("exit %d\n%s%s", got.code, got.out, got.err)
	}
	if got := s.run(append(args, "--apply", "--while-running")...); got.code != 0 || !strings.Contains(got.out, "2511 already there") {
		t.Errorf("exit %d\n%s%s", got.code, got.out, got.err)
	}
	s.run("migrate", "--redis-host", host, "--redis-port", port, "--redis-user", "nobody", "--redis-password", "x").check(t, "a user it has not", 1, "", "redis "+server.Addr)
}

// TestMigrateOptions names what is wrong with them.
func TestMigrateOptions(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for why, row := range map[string]struct {
		args []string
		part string
	}{
		"nothing":    {nil, "what is to be read is missing"},
		"two":        {[]string{"a", "b"}, "2 words, one is allowed"},
		"both":       {[]string{"a", "--redis-host=h"}, "give one of the two"},
		"zone":       {[]string{"a", "--host-timezone=Mars"}, "--host-timezone: Mars is not allowed"},
		"samples":    {[]string{"a", "--samples=-1"}, "allowed: 0 to 100"},
		"past":       {[]string{"a", "--past-due=never"}, "allowed: fire, skip"},
		"port":       {[]string{"--redis-port=x"}, "--redis-port: "},
		"tls":        {[]string{"--redis-tls-ca=/x"}, "--redis-tls: needed with the other --redis-tls-*"},
		"no file":    {[]string{"/nonexistent"}, "no such file"},
		"no dump":    {[]string{os.Args[0]}, "is no dump of the Python forsun"},
		"a folder":   {[]string{t.TempDir()}, "is no file"},
		"no redis":   {[]string{"--redis-port=1"}, "redis 127.0.0.1:1"},
		"no option":  {[]string{"--frobnicate"}, "no such option"},
		"empty id":   {[]string{"--redis-server-id="}, "--redis-server-id is empty"},
		"not a file": {[]string{os.DevNull}, "is no file"},
	} {
		s.run(append([]string{"migrate"}, row.args...)...).check(t, why, 1, "", row.part)
	}
}

// TestMigrateDamagedDump: what is cut off, lies about its lengths, or is deep within itself.
func TestMigrateDamagedDump(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var list []any
	for i := range 3 {
		list = append(list, packed(t, pythonPlan(fmt.Sprintf("k%d", i), true, map[string]any{"next_time": goldenNow.Unix() + 100})))
	}
	whole := packed(t, map[string]any{"plans": list})
	plans := append([]byte{0x81, 0xa5}, "plans"...)
	rows := map[string]struct {
		dump []byte
		part string
	}{
		"cut off":           {whole[:len(whole)-5], "is damaged at byte"},
		"more":              {append(slices.Clone(whole), 0), "there is more after its end"},
		"a billion plans":   {append(slices.Clone(plans), 0xdd, 0xff, 0xff, 0xff, 0xff), "is damaged at byte"},
		"a plan of 4 GiB":   {append(slices.Clone(plans), 0xdd, 0xff, 0xff, 0xff, 0xff, 0xc6, 0xff, 0xff, 0xff, 0xff, 1), "is damaged at byte"},
		"deep":              {append(slices.Clone(plans), bytes.Repeat([]byte{0x91}, 1<<20)...), "deep within each other"},
		"a map of billions": {append([]byte{0xdf, 0xff, 0xff, 0xff, 0xff, 0xa5}, "cows\xffs"...), "is damaged at byte"},
	}
	for why, row := range rows {
		file := filepath.Join(t.TempDir(), "dump")
		if err := os.WriteFile(file, row.dump, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := s.run("migrate", file, "--apply"); got.code != 1 || !strings.Contains(got.err, row.part) {
			t.Errorf("%s: exit %d\n%s%s", why, got.code, got.out, got.err)
		}
		if out := s.must(t, "ls"); out != "" {
			t.Errorf("%s: stored %s", why, out)
		}
	}
	file := filepath.Join(t.TempDir(), "dump")
	if err := os.WriteFile(file, whole[:len(whole)-5], 0o600); err != nil {
		t.Fatal(err)
	}
	if got := s.run("migrate", file, "--apply", "--accept-damage"); got.code != 1 || !strings.Contains(got.out, "2 read: 2 migrated") {
		t.Errorf("exit %d\n%s%s", got.code, got.out, got.err)
	}
	// A plan that lies costs itself only.
	for i, bad := range [][]byte{{0xdf, 0xff, 0xff, 0xff, 0xff}, bytes.Repeat([]byte{0x91}, 100<<10), {0x81, 0xa3, 'k', 'e', 'y', 0xdb, 0x7f, 0xff, 0xff, 0xff}, {}, {0xc0}, {0xc1}, {0xd4, 1, 2}} {
		if err := os.WriteFile(file, packed(t, map[string]any{"plans": []any{bad, make([]byte, 1<<20), 7, list[2]}}), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := s.run("migrate", file); got.code != 0 || !strings.Contains(got.out, "4 read: 1 would be migrated") {
			t.Errorf("bad plan %d: exit %d\n%s%s", i, got.code, got.out, got.err)
		}
	}
}
