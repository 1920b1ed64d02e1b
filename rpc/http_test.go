package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/snower/forsun/scheduler"
)

// startHTTP serves a new store over HTTP.
func startHTTP(t testing.TB, change func(*Options)) (*scheduler.Service, string) {
	t.Helper()
	opts := DefaultOptions()
	if change != nil {
		change(&opts)
	}
	svc := newService(t, newStore(t))
	return svc, "http://" + serve(t, NewHTTPServer(svc, opts))
}

// answer is an envelope as a client decodes it.
type answer struct {
	Errcode int
	Errmsg  string
	Data    json.RawMessage
}

// request sends one request and returns the status, the head and the body.
func request(t testing.TB, method, url, kind, body string) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// plan returns the JSON of a timeout plan as the interface shows it.
func planJSON(key string, second, count, next int) string {
	return fmt.Sprintf(`{"key":%q,"second":%d,"minute":-1,"hour":-1,"day":-1,"month":-1,"week":-1,"status":0,"count":%d,`+
		`"is_time_out":true,"next_time":%d,"current_count":0,"last_timeout":0,"created_time":%d.0,"action":"noop","params":{}}`,
		key, second, count, next, goldenNow)
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	_, base := startHTTP(t, nil)
	const (
		jsonType = "application/json"
		crontab  = "application/crontab"
		missing  = `{"errcode":1007,"errmsg":"key参数是必须的","data":{}}`
	)
	ok := func(data string) string { return `{"errcode":0,"errmsg":"","data":` + data + `}` }
	for _, row := range []struct {
		name, method, path, kind, body string
		status                         int
		want                           string // "" where the status says it all; a trailing "…": the beginning
	}{
		{"ping", "GET", "/v1/ping", "", "", 200, ok(`{}`)},
		{
			"calendar plan, seconds", "POST", "/v1/plan", jsonType,
			`{"key":"c1","seconds":0,"minute":30,"hour":16,"action":"noop","count":9,"params":{"a":"1"},"unknown":[]}`, 200,
			ok(`{"key":"c1","second":0,"minute":30,"hour":16,"day":-1,"month":-1,"week":-1,"status":0,"count":0,"is_time_out":false,"next_time":1795365000,` +
				fmt.Sprintf(`"current_count":0,"last_timeout":0,"created_time":%d.0,"action":"noop","params":{"a":"1"}}`, goldenNow)),
		},
		{"calendar plan, second", "POST", "/v1/plan", jsonType, `{"key":"c2","second":"0","minute":"0","action":"noop"}`, 200, ok(`{"key":"c2","second":0,"minute":0,"hour":-1,…`)},
		{"seconds before second", "POST", "/v1/plan", jsonType, `{"key":"c3","second":7,"seconds":8,"action":"noop"}`, 200, ok(`{"key":"c3","second":8,…`)},
		{"timeout plan for ever", "PUT", "/v1/plan", jsonType, `{"key":"t1","seconds":5,"action":"noop"}`, 200, ok(planJSON("t1", 5, 0, goldenNow+5))},
		{
			"timeout plan, charset, numbers as strings", "PUT", "/v1/plan", jsonType + "; charset=utf-8",
			`{"key":"t2","seconds":"100000","count":"3","action":"noop"}`, 200, ok(planJSON("t2", 100000, 3, goldenNow+100000)),
		},
		{"the method of an object is the request's", "PUT", "/v1/plan", jsonType, `{"method":"create","key":"t3","seconds":5,"action":"noop"}`, 200, ok(planJSON("t3", 5, 0, goldenNow+5))},
		{"no content type", "PUT", "/v1/plan", "", `{"key":"t4","seconds":5,"count":1,"action":"noop"}`, 200, ok(planJSON("t4", 5, 1, goldenNow+5))},
		{
			"list", "POST", "/v1/plan", jsonType,
			`[{"key":"l1","seconds":5,"count":1,"action":"noop"},{"method":"create","key":"l2","seconds":0,"action":"noop"}]`, 200, ok(`[` + planJSON("l1", 5, 1, goldenNow+5) + `,{"key":"l2",…`),
		},
		{"list of one", "PUT", "/v1/plan", jsonType, `[{"key":"l3","seconds":5,"action":"noop"}]`, 200, ok(planJSON("l3", 5, 0, goldenNow+5))},
		{"empty list", "POST", "/v1/plan", jsonType, `[]`, 200, missing},
		{
			"list with a bad item stores none", "PUT", "/v1/plan", jsonType, `[{"key":"n1","seconds":5,"action":"noop"},{"key":"n2","seconds":5,"action":"nope"}]`, 200,
			`{"errcode":1006,"errmsg":"plan 2 (key n2): 未知处理动作类型","data":{}}`,
		},
		{"nothing of it is there", "GET", "/v1/plan?key=n1", "", "", 200, `{"errcode":1003,"errmsg":"计划未找到","data":{}}`},
		{"list with a bad method", "PUT", "/v1/plan", jsonType, `[{"method":"x","key":"n1"}]`, 200, `{"errcode":1008,"errmsg":"plan 1 (key n1): method: \"x\" is not allowed; allowed: create, createTimeout","data":{}}`},
		{"params that are no strings", "PUT", "/v1/plan", jsonType, `{"key":"p1","seconds":1,"action":"noop","params":{"port":80,"on":true,"f":1.5}}`, 200, ok(`{"key":"p1",…`)},
		{"they are stored as written", "GET", "/v1/plan?key=p1", "", "", 200, ok(strings.Replace(planJSON("p1", 1, 0, goldenNow+1), `{}`, `{"f":"1.5","on":"true","port":"80"}`, 1))},
		{
			"params with a list", "PUT", "/v1/plan", jsonType, `{"key":"p2","seconds":1,"action":"noop","params":{"password":["secret"]}}`, 200,
			`{"errcode":1009,"errmsg":"params.password: action parameters not allowed; allowed: a string, a number or a boolean","data":{}}`,
		},
		{"params that are no object", "PUT", "/v1/plan", jsonType, `{"key":"p2","seconds":1,"action":"noop","params":"x"}`, 200, `{"errcode":1009,…`},
		{"no key", "PUT", "/v1/plan", jsonType, `{"seconds":5}`, 200, missing},
		{"a key that is no string", "PUT", "/v1/plan", jsonType, `{"key":5,"seconds":5}`, 200, `{"errcode":1008,"errmsg":"key: 5 is not allowed; allowed: a string","data":{}}`},
		{"a number that is none", "PUT", "/v1/plan", jsonType, `{"key":"x","seconds":"soon"}`, 200, `{"errcode":1008,…`},
		{"a fraction", "PUT", "/v1/plan", jsonType, `{"key":"x","seconds":1.5}`, 200, `{"errcode":1008,…`},
		{"a fraction of 0", "PUT", "/v1/plan", jsonType, `{"key":"x","seconds":5.0,"action":"noop"}`, 200, ok(planJSON("x", 5, 0, goldenNow+5))},
		{"count below 0", "PUT", "/v1/plan", jsonType, `{"key":"x","seconds":5,"count":-1}`, 200, `{"errcode":1002,"errmsg":"定时时间错误","data":{}}`},
		{"a field out of range", "POST", "/v1/plan", jsonType, `{"key":"x","seconds":61}`, 200, `{"errcode":1008,"errmsg":"second: 61 is not allowed; allowed: 0 to 59, or -1 for any","data":{}}`},
		{"a parameter the action needs", "PUT", "/v1/plan", jsonType, `{"key":"x","seconds":5,"action":"http"}`, 200, `{"errcode":1007,"errmsg":"url参数是必须的","data":{}}`},
		{"crontab: one line", "POST", "/v1/plan", crontab, "cr1 */5/2 * * * * * noop", 200, ok(planJSON("cr1", 5, 2, goldenNow+5))},
		{"crontab: two lines, PUT", "PUT", "/v1/plan", crontab, "cr2 */5 * * * * * noop 'a=1'\n\ncr3 0 30 16 * * * noop\r\n", 200, ok(`[{"key":"cr2",…`)},
		{"crontab: nothing", "POST", "/v1/plan", crontab, "\n", 200, missing},
		{"crontab: a bad line", "POST", "/v1/plan", crontab, "cr4 */5 * * * * * noop\ncr5 30 16 * * * noop", 200, `{"errcode":1008,"errmsg":"plan 2 (key cr5): …`},
		{"get", "GET", "/v1/plan?key=t1", "", "", 200, ok(planJSON("t1", 5, 0, goldenNow+5))},
		{"get without a key", "GET", "/v1/plan", "", "", 200, missing},
		{"get of an absent key", "GET", "/v1/plan?key=nosuch", "", "", 200, `{"errcode":1003,"errmsg":"计划未找到","data":{}}`},
		{"remove", "DELETE", "/v1/plan?key=t4", "", "", 200, ok(planJSON("t4", 5, 1, goldenNow+5))},
		{"remove again", "DELETE", "/v1/plan?key=t4", "", "", 200, `{"errcode":1003,"errmsg":"计划未找到","data":{}}`},
		{"remove without a key", "DELETE", "/v1/plan", "", "", 200, missing},
		{"time", "GET", fmt.Sprintf("/v1/time?timestamp=%d", goldenNow+100000), "", "", 200, ok(fmt.Sprintf(`{"current_timestamp":%d,"plans":[%s]}`, goldenNow, planJSON("t2", 100000, 3, goldenNow+100000)))},
		{"time: now", "GET", "/v1/time", "", "", 200, ok(fmt.Sprintf(`{"current_timestamp":%d,"plans":[]}`, goldenNow))},
		{"time 0: now", "GET", "/v1/time?timestamp=0", "", "", 200, ok(fmt.Sprintf(`{"current_timestamp":%d,"plans":[]}`, goldenNow))},
		{"time that is no number", "GET", "/v1/time?timestamp=soon", "", "", 200, `{"errcode":1007,"errmsg":"timestamp参数是必须的","data":{}}`},
		{"time, paged", "GET", fmt.Sprintf("/v1/time?timestamp=%d&limit=1", goldenNow+100000), "", "", 200, ok(`{"current_timestamp":…`)},
		{"keys", "GET", "/v1/keys?prefix=l*", "", "", 200, ok(`["l1","l2","l3"]`)},
		{"keys of nothing", "GET", "/v1/keys?prefix=zzz", "", "", 200, ok(`[]`)},
		{"keys, paged", "GET", "/v1/keys?prefix=l&limit=10", "", "", 200, ok(`{"cursor":"","keys":["l1","l2","l3"]}`)},
		{"keys, a limit too large", "GET", "/v1/keys?limit=20000", "", "", 200, `{"errcode":1008,"errmsg":"limit: 20000 is not allowed; allowed: 1 to 10000","data":{}}`},
		{"plans", "GET", "/v1/plans?prefix=t1", "", "", 200, ok(`{"cursor":"","plans":[` + planJSON("t1", 5, 0, goldenNow+5) + `]}`)},
		{"next", "GET", "/v1/plan/next?key=t1&n=2", "", "", 200, ok(fmt.Sprintf(`{"key":"t1","times":[%d,%d]}`, goldenNow+5, goldenNow+10))},
		{"history", "GET", "/v1/history", "", "", 200, ok(`{"attempts":[],"cursor":""}`)},
		{"dead letters", "GET", "/v1/dead?key=t1", "", "", 200, ok(`{"cursor":"","dead":[]}`)},
		{"redrive", "POST", "/v1/dead/redrive", jsonType, `{"all":true}`, 200, ok(`{"count":0}`)},
		{"redrive of nothing in particular", "POST", "/v1/dead/redrive", jsonType, `{}`, 200, `{"errcode":1008,…`},
		{"purge", "DELETE", "/v1/dead/purge", jsonType, `{"key":"t1"}`, 200, ok(`{"count":0}`)},
		{"shards", "GET", "/v1/shards", "", "", 200, ok(`[{"shard":0,…`)},
		{"replicas", "GET", "/v1/replicas", "", "", 200, ok(`[]`)},
		{"not JSON", "POST", "/v1/plan", jsonType, `key=1`, 400, ""},
		{"JSON and more", "POST", "/v1/plan", jsonType, `{"key":"a"} x`, 400, ""},
		{"no object", "POST", "/v1/plan", jsonType, `"x"`, 400, ""},
		{"null", "POST", "/v1/plan", jsonType, `null`, 400, ""},
		{"a list of numbers", "POST", "/v1/plan", jsonType, `[1]`, 400, ""},
		{"no body", "POST", "/v1/plan", jsonType, ``, 400, ""},
		{"not UTF-8", "POST", "/v1/plan", jsonType, "{\"key\":\"\xff\"}", 400, ""},
		{"very deep", "POST", "/v1/plan", jsonType, strings.Repeat("[", 100_000), 400, ""},
		{"a form, as curl -d sends it", "POST", "/v1/plan", "application/x-www-form-urlencoded", `{"key":"x"}`, 400, ""},
		{"text", "POST", "/v1/plan", "text/plain", `{"key":"x"}`, 400, ""},
		{"other method", "PATCH", "/v1/plan", jsonType, `{}`, 405, ""},
		{"other method", "POST", "/v1/ping", "", "", 405, ""},
		{"HEAD", "HEAD", "/v1/ping", "", "", 405, ""},
		{"other path", "GET", "/v1/nosuch", "", "", 404, ""},
		{"other path", "GET", "/", "", "", 404, ""},
		{"a body of 5 MiB", "POST", "/v1/plan", jsonType, `{"key":"` + strings.Repeat("k", 5<<20) + `"}`, 413, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			status, head, body := request(t, row.method, base+row.path, row.kind, row.body)
			if status != row.status {
				t.Fatalf("status: got %d, want %d; body %s", status, row.status, body)
			}
			if row.want == "" {
				return
			}
			if got, want := head.Get("Content-Type"), "application/json; charset=UTF-8"; got != want {
				t.Errorf("content type: got %q, want %q", got, want)
			}
			if beginning, _, cut := strings.Cut(row.want, "…"); cut {
				if !strings.HasPrefix(body, beginning) {
					t.Errorf("got  %s\nwant %s…", body, beginning)
				}
			} else if body != row.want {
				t.Errorf("got  %s\nwant %s", body, row.want)
			}
		})
	}
}

func TestHTTPOrigin(t *testing.T) {
	t.Parallel()
	_, base := startHTTP(t, nil)
	host := strings.TrimPrefix(base, "http://")
	_, port, _ := strings.Cut(host, ":")
	for _, row := range []struct {
		origin string
		host   string // asked for, if not base's
		status int
	}{
		{"", "", 200},
		{"", "forsun.example:" + port, 200},
		{base, "", 200},
		{"https://" + host, "", 200},
		{"http://localhost:" + port, "localhost:" + port, 200},
		{"http://evil.example", "", 403},
		{"http://evil.example:" + port, "evil.example:" + port, 403}, // a name that points here
		{"null", "", 403},
		{"http://127.0.0.1:1", "", 403},
	} {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", base+"/v1/ping", nil)
		r.Close = true
		if row.origin != "" {
			r.Header.Set("Origin", row.origin)
		}
		r.Host = row.host
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != row.status {
			t.Errorf("Origin %q: got %d, want %d", row.origin, resp.StatusCode, row.status)
		}
	}
}

// TestHTTPOriginToken: of a page under a name that points here only a token counts,
// and not what it can make up.
func TestHTTPOriginToken(t *testing.T) {
	t.Parallel()
	g := startGuarded(t, nil)
	_, open := startHTTP(t, nil)
	for _, row := range []struct {
		base, authorization string
		status              int
	}{
		{"http://" + g.http, "Bearer " + adminToken, 200},
		{"http://" + g.http, "Bearer " + badToken, 401},
		{"http://" + g.http, "Basic eDp5", 403},
		{"http://" + g.http, "Bearer", 403},
		{open, "Bearer " + adminToken, 403}, // there are none
		{open, "x", 403},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", row.base+"/v1/plans", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Close = true
		r.Host = "evil.example:9001"
		r.Header.Set("Origin", "http://evil.example:9001")
		r.Header.Set("Authorization", row.authorization)
		// As a proxy on this machine would speak for somebody on it.
		r.Header.Set("X-Forwarded-For", "127.0.0.2")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != row.status {
			t.Errorf("%s, Authorization %q: got %d, want %d", row.base, row.authorization, resp.StatusCode, row.status)
		}
	}
}

// TestHTTPConnections checks that at the limit the connection idle longest goes,
// that slow requests end, and that the counts of info follow.
func TestHTTPConnections(t *testing.T) {
	t.Parallel()
	var info *Info
	svc := newService(t, newStore(t))
	info = NewInfo(svc, About{})
	opts := DefaultOptions()
	opts.Info, opts.MaxConns, opts.MessageTimeout = info, 10, 200*time.Millisecond
	addr := serve(t, NewHTTPServer(svc, opts))

	ping := func(c net.Conn) {
		t.Helper()
		got := ask(t, c, []byte("GET /v1/ping HTTP/1.1\r\nHost: x\r\n\r\n"), 12)
		if string(got) != "HTTP/1.1 200" {
			t.Errorf("ping: got %q", got)
		}
	}
	var conns []net.Conn
	for range 30 {
		c := dial(t, addr)
		ping(c)
		conns = append(conns, c)
	}
	closed(t, conns[0])
	eventually(t, "the number of connections is at its limit", func() bool { return info.http.connecting.Load() <= 10 })
	slow := dial(t, addr)
	slow.Write([]byte("PUT /v1/plan HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"))
	closed(t, slow)
	ping(dial(t, addr))
	if got := info.http.connected.Load(); got != 32 {
		t.Errorf("http_connected_count: got %d, want 32", got)
	}
	for _, c := range conns {
		c.Close()
	}
	slow.Close()
}

// TestHTTPPages walks through plans page by page.
func TestHTTPPages(t *testing.T) {
	t.Parallel()
	svc, base := startHTTP(t, func(o *Options) { o.MaxList = 20 })
	var requests []scheduler.Request
	var want []string
	for i := range 25 {
		key := fmt.Sprintf("k%02d", i)
		want = append(want, key)
		requests = append(requests, scheduler.Request{Key: key, Action: "noop", Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 60, Count: 1}})
	}
	if _, _, err := svc.CreateMany(context.Background(), requests); err != nil {
		t.Fatal(err)
	}
	var got []string
	for cursor := ""; ; {
		_, _, body := request(t, "GET", base+"/v1/keys?limit=4&cursor="+cursor, "", "")
		var a struct {
			Data struct {
				Keys   []string
				Cursor string
			}
		}
		if err := json.Unmarshal([]byte(body), &a); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		got = append(got, a.Data.Keys...)
		if cursor = a.Data.Cursor; cursor == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	for _, path := range []string{"/v1/keys", fmt.Sprintf("/v1/time?timestamp=%d", goldenNow+60)} {
		_, _, body := request(t, "GET", base+path, "", "")
		var a answer
		if err := json.Unmarshal([]byte(body), &a); err != nil || a.Errcode != 1013 || !strings.Contains(a.Errmsg, "limit and cursor") {
			t.Errorf("%s of 25 with a bound of 20: got %s, want 1013 and how to page", path, body)
		}
	}
}

// TestInfo checks that both interfaces tell all the names clients look for, as
// strings.
func TestInfo(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	svc := newService(t, store)
	opts := DefaultOptions()
	opts.Info = NewInfo(svc, About{Version: "1.2.3", Store: "mem", Stores: []string{"mem", "redis"}, Extensions: []string{"a", "b"}})
	thriftAddr := serve(t, NewServer(svc, opts))
	base := "http://" + serve(t, NewHTTPServer(svc, opts))
	alive(t, dial(t, thriftAddr))
	request(t, "PUT", base+"/v1/plan", "", `{"key":"x","seconds":5,"action":"noop"}`)

	_, _, body := request(t, "GET", base+"/v1/info", "", "")
	var a struct{ Data map[string]string }
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	names := strings.Fields(`python_version forsun_version start_time cpu_user cpu_system mem_rss mem_vms current_time stores current_store actions bind_port
		http_bind_port extensions connecting_count connected_count requesting_count requested_count requested_error_count http_connecting_count
		http_connected_count http_requesting_count http_requested_count http_requested_error_count created_count create_timeouted_count removed_count
		plan_count timeout_handling_count timeout_handled_count action_executing_count action_executed_count action_executed_error_count
		action_retried_count timer_loop_count timer_loop_ready_error_count`)
	if len(names) != 36 {
		t.Fatalf("the list has %d names", len(names))
	}
	for _, name := range names {
		if _, ok := a.Data[name]; !ok {
			t.Errorf("info lacks %s", name)
		}
	}
	_, port, _ := net.SplitHostPort(thriftAddr)
	for name, want := range map[string]string{
		"forsun_version": "1.2.3", "stores": "mem;redis", "current_store": "mem", "extensions": "a;b", "bind_port": port,
		"connected_count": "1", "requested_count": "1", "http_requested_count": "1", "http_requesting_count": "1",
		"created_count": "1", "create_timeouted_count": "1", "plan_count": "1", "current_time": fmt.Sprint(goldenNow),
	} {
		if got := a.Data[name]; got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if a.Data["mem_rss"] == "0" || a.Data["start_time"] == "" {
		t.Errorf("mem_rss %q, start_time %q", a.Data["mem_rss"], a.Data["start_time"])
	}
	want := answered(2, "info", 3)
	if got := ask(t, dial(t, thriftAddr), call("info", 3), len(want)); !bytes.Equal(got, want) {
		t.Errorf("info over Thrift: got %x, want %x", got, want)
	}
}

// TestHTTPDoctor: an answer may take longer than a request may take to arrive.
func TestHTTPDoctor(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	if _, err := store.Announce(t.Context(), scheduler.Replica{ID: "a", Leads: []int{0}, Offset: -1500 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	opts := DefaultOptions()
	opts.MessageTimeout = 200 * time.Millisecond
	addr := serve(t, NewHTTPServer(newService(t, store), opts))
	get := func(path string) string {
		t.Helper()
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	defer http.DefaultClient.CloseIdleConnections()
	// There is no engine, and so no leader, which is looked at twice.
	got, start := get("/v1/doctor"), time.Now()
	want := `{"errcode":0,"errmsg":"","data":[{"shard":0,"severity":"error","subject":"shard 0","problem":"no replica leads it, and none may: nothing of it fires","advice":"start a forsund that may lead"},` +
		`{"shard":null,"severity":"warning","subject":"embedded store",`
	if !strings.HasPrefix(got, want) {
		t.Errorf("doctor: got after %v %s, want %s…", time.Since(start), got, want)
	}
	if got := get("/v1/replicas"); !strings.Contains(got, `{"id":"a","address":"","version":"","offset":-1.5,"leads":[0],"eager":false,"started":0.0,"seen":`) {
		t.Errorf("replicas: got %s", got)
	}
}
