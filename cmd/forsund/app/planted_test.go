package app

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/snower/forsun/actions/actionstest"
	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/redisstore/redistest/proc"
	"github.com/snower/forsun/rpc/gen/forsun"
	"github.com/snower/forsun/scheduler"
)

const (
	// referred stands in every secret that plans refer to, written in every plan that
	// has one in it.
	referred = "REFSECRET"
	written  = "NAMEDSECRET"
	// nasty has whatever may be written otherwise by whom it comes back from.
	nasty = referred + `n <&">'; %2F \x é`
	word  = referred + "word"
)

// targets are a server for each action, with accounts for the secrets, that say all
// that they get.
type targets struct {
	http, redis, mysql, beanstalk, thrift map[string]string // parameters that lead there

	mu  sync.Mutex
	got []string // by HTTP and Thrift
}

func (s *targets) note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, text)
}

// thriftReceiver quotes what it got in its exceptions.
type thriftReceiver struct {
	forsun.Forsun
	*targets
}

func (r thriftReceiver) ForsunCall(_ context.Context, key string, _ int32, params map[string]string) error {
	r.note(key + fmt.Sprint(params))
	if strings.Contains(key, "ok") {
		return nil
	}
	return fmt.Errorf("cannot handle %q", params)
}

func startTargets(t *testing.T) *targets {
	t.Helper()
	s := &targets{}
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		user, password, _ := r.BasicAuth()
		said := fmt.Sprintf("%s\n%s\n%q\n%s\n%s %s\n%s", r.URL, r.URL.Path, r.URL.Query(), r.Header, user, password, body)
		s.note(said)
		w.Header().Set("X-Said", strconv.QuoteToASCII(said))
		if strings.HasPrefix(r.URL.Path, "/fail") {
			w.WriteHeader(http.StatusInternalServerError)
		}
		io.WriteString(w, said)
	}))
	t.Cleanup(echo.Close)
	s.http = map[string]string{"url": echo.URL}
	redis := redistest.Start(t, "requirepass "+referred+"redis")
	s.redis = map[string]string{"host": "127.0.0.1", "port": strconv.Itoa(redis.Port)}
	mariadb := actionstest.StartMariaDB(t)
	s.mysql = map[string]string{"host": mariadb.Host, "port": mariadb.Port}
	beanstalkd := actionstest.StartBeanstalkd(t, "-z", "100")
	s.beanstalk = map[string]string{"host": beanstalkd.Host, "port": beanstalkd.Port}

	socket, err := thrift.NewTServerSocket("127.0.0.1:0")
	if err == nil {
		err = socket.Listen()
	}
	if err != nil {
		t.Fatal(err)
	}
	server := thrift.NewTSimpleServer4(forsun.NewForsunProcessor(thriftReceiver{targets: s}), socket,
		thrift.NewTTransportFactory(), thrift.NewTBinaryProtocolFactoryConf(nil))
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve() })
	t.Cleanup(func() { socket.Close(); server.Stop(); serving.Wait() })
	host, port, _ := net.SplitHostPort(socket.Addr().String())
	s.thrift = map[string]string{"host": host, "port": port}
	return s
}

// gossip is an extension that tells everybody what it gets: on its standard error,
// in its output, in its errors.
const gossip = `#!/usr/bin/env python3
import json, sys
def say(m):
    sys.stdout.write(json.dumps(m) + "\n"); sys.stdout.flush()
for line in sys.stdin:
    m = json.loads(line)
    if m["type"] == "hello":
        say({"type": "hello", "protocol": 1, "name": m["name"], "version": "1", "concurrency": 4, "check": True})
    elif m["type"] in ("check", "execute"):
        told = json.dumps(m["params"]) + " " + " ".join(m["params"].values())
        print("told " + told, file=sys.stderr, flush=True)
        if m["type"] == "check":
            say({"type": "checked", "id": m["id"], **({"error": "no: " + told, "parameter": m["params"]["refuse"]} if "refuse" in m["params"] else {})})
        else:
            say({"type": "result", "id": m["id"], "output": told, **({} if "ok" in m["key"] else {"error": "no: " + told, "retryable": False})})
`

// with returns parameters, and more: name, value, …
func with(params map[string]string, more ...string) map[string]string {
	all := maps.Clone(params)
	if all == nil {
		all = make(map[string]string)
	}
	for i := 0; i+1 < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return all
}

// planted are plans with a secret in every place that can have one, by key; those
// with "ok" in it succeed.
func planted(s *targets, dir string) map[string]scheduler.Request {
	url := s.http["url"]
	user := strings.Replace(url, "://", "://bob:"+written+"url@", 1)
	all := map[string]scheduler.Request{}
	add := func(key, action string, params map[string]string) {
		all[key] = scheduler.Request{
			Key: key, Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 1, Count: 1}, Action: action,
			Params: with(params, "forsun.retries", "1", "forsun.retry_delay", "0.1"),
		}
	}
	// By reference.
	add("ref-shell-ok", "shell", map[string]string{"cmd": `printf %s "$S" >shell; echo "got $S"; echo "not $S" >&2; env`, "cwd": dir, "env": "S=${secret:nasty}"})
	add("ref-shell-fails", "shell", map[string]string{"cmd": `echo "$S"; exit 3`, "env": "S=a${secret:nasty}b"})
	add("ref-shell-long", "shell", map[string]string{"cmd": `i=0; while [ $i -lt 300 ]; do echo "$i $S"; i=$((i+1)); done; exit 1`, "env": "S=${secret:word}"})
	add("ref-shell-cwd", "shell", map[string]string{"cmd": "true", "cwd": "/nonexistent/${secret:word}"})
	for _, key := range []string{"ok", "fail"} {
		add("ref-http-"+key, "http", map[string]string{
			"url": url + "/" + key + "/${secret:word}/${secret:nasty}?q=${secret:nasty}", "method": "post", "body": `{"p": "${secret:nasty}"}`,
			"header_X-Key": "${secret:word}", "auth_username": "bob", "auth_password": "${secret:nasty}",
		})
	}
	add("ref-http-user", "http", map[string]string{"url": strings.Replace(url, "://", "://${secret:word}:${secret:nasty}@", 1) + "/fail", "header_Cookie": "a=${secret:word}"})
	add("ref-http-digest", "http", map[string]string{"url": url + "/fail", "auth_username": "${secret:word}", "auth_password": "${secret:nasty}", "auth_mode": "digest"})
	add("ref-http-host", "http", map[string]string{"url": "http://${secret:word}.invalid/x"})
	add("ref-http-hook", "http", map[string]string{"url": "${secret:hook}"})
	add("ref-redis-ok", "redis", with(s.redis, "password", "${secret:redis}", "command", "SET planted ${secret:nasty}; GET planted; ECHO ${secret:word}"))
	add("ref-redis-auth-ok", "redis", with(s.redis, "command", "AUTH ${secret:redis}; SET planted2 1"))
	add("ref-redis-denied", "redis", with(s.redis, "password", "${secret:word}", "command", "PING"))
	add("ref-redis-quoted", "redis", with(s.redis, "password", "${secret:redis}", "command", "OBJECT ${secret:word} x"))
	add("ref-redis-script", "redis", with(s.redis, "password", "${secret:redis}", "command", `EVAL "return redis.error_reply('ERR ' .. ARGV[1])" 0 ${secret:nasty}`))
	add("ref-redis-user", "redis", with(s.redis, "user", "${secret:word}", "password", "${secret:nasty}", "command", "PING"))
	add("ref-redis-host", "redis", map[string]string{"host": "${secret:word}.invalid", "command": "PING"})
	add("ref-mysql-ok", "mysql", with(s.mysql, "user", "planted", "passwd", "${secret:mysql}", "sql", "SET PASSWORD = PASSWORD('${secret:mysql}')"))
	add("ref-mysql-denied", "mysql", with(s.mysql, "user", "planted", "passwd", "${secret:nasty}", "sql", "SELECT 1"))
	add("ref-mysql-syntax", "mysql", with(s.mysql, "sql", "SELEC '${secret:word}'"))
	for n := range 12 { // the server quotes 80 bytes: a secret is cut somewhere
		add(fmt.Sprintf("ref-mysql-cut-%d", n), "mysql", with(s.mysql, "sql", "SELEC '"+strings.Repeat("x", 58+n)+"${secret:word}'"))
	}
	add("ref-mysql-names", "mysql", with(s.mysql, "db", "${secret:word}", "sql", "SELECT 1"))
	add("ref-mysql-user", "mysql", with(s.mysql, "user", "${secret:word}", "sql", "SELECT 1"))
	add("ref-mysql-signal", "mysql", with(s.mysql, "sql", "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no ${secret:word}'"))
	add("ref-beanstalk-ok", "beanstalk", with(s.beanstalk, "name", "${secret:word}", "body", "${secret:nasty}"))
	add("ref-beanstalk-big", "beanstalk", with(s.beanstalk, "body", "${secret:nasty}"+strings.Repeat("x", 200)))
	add("ref-beanstalk-host", "beanstalk", map[string]string{"host": "${secret:word}.invalid"})
	add("ref-thrift-ok", "thrift", with(s.thrift, "any", "${secret:nasty}"))
	add("ref-thrift-fails", "thrift", with(s.thrift, "any", "${secret:nasty}", "other", "${secret:word}"))
	add("ref-thrift-host", "thrift", map[string]string{"host": "${secret:word}.invalid"})
	add("ref-gossip-ok", "gossip", map[string]string{"any": "${secret:nasty}", "long": strings.Repeat("x", 3990) + "${secret:word}"})
	add("ref-gossip-fails", "gossip", map[string]string{"any": "x ${secret:word}", "long": strings.Repeat("x", 4080) + "${secret:word}"})
	// Written into the plan, in the parameters that are known to hold secrets.
	for _, key := range []string{"ok", "fail"} {
		add("named-http-"+key, "http", map[string]string{
			"url": url + "/" + key, "auth_username": "bob", "auth_password": written + ` <"p>`, "header_Cookie": "lang=en; session=" + written + "cookie",
		})
		add("named-http-header-"+key, "http", map[string]string{"url": url + "/" + key, "header_authorization": "Bearer " + written + "bearer"})
		add("named-http-url-"+key, "http", map[string]string{"url": user + "/" + key})
	}
	add("named-http-down", "http", map[string]string{"url": "http://bob:" + written + "@127.0.0.1:1/"})
	add("named-redis", "redis", with(s.redis, "password", written+"redis", "command", "PING"))
	add("named-mysql", "mysql", with(s.mysql, "user", "planted", "passwd", written+"mysql", "sql", "SELECT 1"))
	add("named-mysql-signal", "mysql", with(s.mysql, "sql", "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'dsn mysql://u:"+written+"@h/db'"))
	add("named-thrift", "thrift", with(s.thrift, "password", written+` "thrift`, "callback", "https://u:"+written+"@h/"))
	add("named-beanstalk", "beanstalk", with(s.beanstalk, "password", written, "body", strings.Repeat("x", 200)+"http://u:"+written+"@h/"))
	add("named-shell", "shell", map[string]string{"cmd": "echo curl http://u:" + written + "@h/ https://" + written + "@h; exit 1", "password": written})
	add("named-gossip-fails", "gossip", map[string]string{"passwd": written + "gossip", "url": "amqp://u:" + written + "@h/"})
	return all
}

// refusals are parameters that are refused at creation because of the secret.
func refusals(s *targets) map[string]scheduler.Request {
	all := map[string]scheduler.Request{}
	add := func(key, action string, params map[string]string) {
		all[key] = scheduler.Request{Key: key, Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 3600, Count: 1}, Action: action, Params: params}
	}
	add("number", "http", with(s.http, "connect_timeout", "${secret:word}"))
	add("choice", "http", with(s.http, "method", "${secret:nasty}"))
	add("no-url", "http", map[string]string{"url": "${secret:nasty}"})
	add("url", "http", map[string]string{"url": "ftp://u:${secret:nasty}@h/${secret:word}"})
	add("url-port", "http", map[string]string{"url": "http://u:" + written + "@h:99999/"})
	add("url-broken", "http", map[string]string{"url": "http://u:" + written + "@h:x%zz/"})
	add("user-agent", "http", with(s.http, "user_agent", "${secret:unknown}"))
	add("port", "redis", map[string]string{"port": "${secret:word}", "command": "PING"})
	add("redis-host", "redis", map[string]string{"host": "redis://u:" + written + "@h", "command": "PING"})
	add("redis-command", "redis", map[string]string{"command": "MONITOR ${secret:word}"})
	add("host", "mysql", map[string]string{"host": "${secret:nasty}", "sql": "SELECT 1"})
	add("sql", "mysql", map[string]string{"sql": "SELECT '${secret:nasty}'"})
	add("tube", "beanstalk", map[string]string{"name": "${secret:nasty}"})
	add("cwd", "shell", map[string]string{"cmd": "true", "cwd": "${secret:word}"})
	add("cmd", "shell", map[string]string{"cmd": "echo ${secret:word}"})
	add("option", "shell", map[string]string{"cmd": "true", "forsun.timeout": "${secret:word}"})
	add("gossip", "gossip", map[string]string{"any": "${secret:nasty}", "password": written + "x", "refuse": "${secret:word}"})
	add("action", "${secret:word}", nil)
	return all
}

// TestPlantedSecrets: with a secret in every place that can have one, of plans that
// succeed and that fail, no log, listing, history, dead letter, error or store shows
// it. What plans refer to is nowhere; what is written into a plan is where that plan
// itself is given back, and where it is stored.
func TestPlantedSecrets(t *testing.T) {
	t.Parallel()
	servers := startTargets(t)
	mariadb := exec.Command("mariadb", "--no-defaults", "-uroot", "-h"+servers.mysql["host"], "-P"+servers.mysql["port"],
		"-e", "CREATE USER planted@'127.0.0.1' IDENTIFIED BY '"+referred+"mysql'; GRANT ALL ON mysql.* TO planted@'127.0.0.1'")
	if out, err := mariadb.CombinedOutput(); err != nil {
		t.Fatalf("mariadb: %v\n%s", err, out)
	}
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, "../../forsun").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	if err := proc.WriteProgram(filepath.Join(bin, "gossip"), []byte(gossip)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(bin, "secrets")
	lines := "nasty = " + nasty + "\nword = " + word + "\nredis = " + referred + "redis\nhook = http://127.0.0.1:1/" + referred + "/hook\n"
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, driver := range []string{"mem", "redis"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			args := []string{"--driver-mem-store-file=" + filepath.Join(dir, "store")}
			kept := filepath.Join(dir, "store")
			if driver == "redis" {
				kept = filepath.Join(dir, "aof")
				if err := os.Mkdir(kept, 0o700); err != nil {
					t.Fatal(err)
				}
				store := redistest.Start(t, "appendonly yes", "dir "+kept)
				args = []string{"--driver=redis", "--driver-redis-port=" + strconv.Itoa(store.Port)}
			}
			work := filepath.Join(dir, "work")
			if err := os.Mkdir(work, 0o700); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--port=0", "--admin=127.0.0.1:0", "--http=127.0.0.1:0", "--log-level=DEBUG", "--log="+filepath.Join(dir, "log"), "--secrets-file="+file,
				"--extension-path="+bin, "--extension=gossip")
			p := &forsund{t: t, log: filepath.Join(dir, "log"), exited: make(chan struct{})}
			p.cmd = command(args...)
			p.cmd.Env = append(p.cmd.Env, "FORSUN_SECRET_MYSQL="+referred+"mysql")
			p.cmd.Stderr = &p.stderr
			if err := p.cmd.Start(); err != nil {
				t.Fatal(err)
			}
			go func() { p.cmd.Wait(); close(p.exited) }()
			t.Cleanup(p.kill)
			ready := p.waitLog("forsund is ready")
			p.address, _ = ready["thrift"].(string)
			p.http, _ = ready["http"].(string)
			p.admin, _ = ready["admin"].(string)

			said := map[string]string{} // where → what
			for key, r := range refusals(servers) {
				_, err := p.client().Create(t.Context(), r)
				if err == nil {
					t.Errorf("%s is accepted", key)
				}
				said["refusal of "+key] = fmt.Sprint(err)
			}
			plans := planted(servers, work)
			for _, r := range plans {
				p.create(r)
			}
			// Plans that are still to come, to be listed.
			lasting := map[string]scheduler.Request{}
			for key, r := range planted(servers, work) {
				r.Key, r.Schedule.Second = "later-"+key, 36000
				lasting[r.Key] = r
				p.create(r)
			}
			wrong := map[string]string{}
			poll(t, "every plan to end", func() bool {
				clear(wrong)
				ended := map[string]scheduler.Outcome{}
				for a, err := range p.client().Attempts(t.Context(), "") {
					if err != nil {
						return false
					}
					if a.Outcome != scheduler.Failed {
						ended[a.Key] = a.Outcome
					}
					if want := strings.Contains(a.Key, "-ok"); want != (a.Outcome == scheduler.Succeeded) {
						wrong[a.Key] = a.Error
					}
				}
				return len(ended) == len(plans)
			})
			for key, why := range wrong {
				if strings.Contains(key, "-ok") {
					t.Errorf("%s failed: %s", key, why)
				} else if _, failed := plans[key]; failed && why == "" {
					t.Errorf("%s succeeded", key)
				}
			}

			// The secrets did arrive.
			if got, _ := os.ReadFile(filepath.Join(work, "shell")); string(got) != nasty {
				t.Errorf("shell got %q", got)
			}
			conn, err := redistest.Dial("127.0.0.1:" + servers.redis["port"])
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.Do("AUTH", referred+"redis")
			if got, err := conn.Do("GET", "planted"); got != nasty {
				t.Errorf("redis got %v, %v", got, err)
			}
			servers.mu.Lock()
			arrived := strings.Join(servers.got, "\n")
			servers.mu.Unlock()
			for _, part := range []string{"bob " + nasty, `{"p": "` + nasty + `"}`, "ref-thrift-okmap[any:" + nasty, "Bearer " + written, "bob " + written + "url"} {
				if !strings.Contains(arrived, part) {
					t.Errorf("nobody got %s", part)
				}
			}

			// Everything there is to be read.
			replies := map[string]string{} // where plans are given back
			for _, path := range []string{"history?limit=1000", "dead?limit=1000", "keys", "info", "shards", "replicas", "doctor", "ping"} {
				said["GET /v1/"+path] = httpGet(t, p.http, "v1/"+path)
			}
			for _, path := range []string{"metrics", "livez", "readyz", "debug/pprof/cmdline", "debug/pprof/goroutine?debug=2"} {
				said["GET /"+path] = httpGet(t, p.admin, path)
			}
			if !strings.Contains(said["GET /metrics"], `action="mysql"`) {
				t.Errorf("metrics: %s", said["GET /metrics"])
			}
			for _, path := range []string{"plans?limit=1000", "time"} {
				replies["GET /v1/"+path] = httpGet(t, p.http, "v1/"+path)
			}
			for key := range lasting {
				replies["GET /v1/plan "+key] = httpGet(t, p.http, "v1/plan?key="+key)
			}
			_, port, _ := net.SplitHostPort(p.address)
			cli := func(args ...string) string {
				cmd := exec.Command(filepath.Join(bin, "forsun"), args...)
				cmd.Env = []string{"FORSUN_PORT=" + port, "HOME=" + dir, "NO_COLOR=1"}
				out, _ := cmd.CombinedOutput() // doctor's status tells what it found
				return string(out)
			}
			for _, args := range [][]string{
				{"history", "-n", "1000"},
				{"-o", "json", "history"},
				{"dead"},
				{"-o", "json", "dead"},
				{"ls"},
				{"doctor"},
				{"-o", "json", "doctor"},
				{"shards"},
				{"info"},
				{"replicas"},
				{"current"},
				{"set x 0 * * * * * http 'url=http://u:" + written + "@h/${secret:nope}'"},
			} {
				said["forsun "+strings.Join(args, " ")] = cli(args...)
			}
			said["forsun get"] = cli("get " + strings.Join(slices.Sorted(maps.Keys(lasting)), "; get "))
			if n := strings.Count(said["forsun get"], "later-"); n != len(lasting) {
				t.Errorf("forsun get shows %d plans, want %d: %s", n, len(lasting), said["forsun get"])
			}
			replies["forsun export"] = cli("export")
			replies["forsun -o json ls"] = cli("-o", "json", "ls")
			for a, err := range p.client().Attempts(t.Context(), "") {
				said["attempt of "+a.Key+" "+strconv.Itoa(a.Attempt)] = fmt.Sprintf("%+v %v", a, err)
			}
			for d, err := range p.client().Dead(t.Context(), "") {
				said["dead letter of "+d.Plan.Key] = fmt.Sprintf("%+v %+v %v", d, d.Plan, err)
			}
			for what, text := range said {
				if strings.Contains(what, "dead") && text == "" || strings.Contains(what, "GET /v1/") && !strings.Contains(text, `"errcode":0`) {
					t.Errorf("%s says nothing: %s", what, text)
				}
			}
			if n := strings.Count(said["GET /v1/history?limit=1000"], scheduler.Masked); n < 40 {
				t.Errorf("the history has %d masks: is what comes back looked at?", n)
			}
			log, err := os.ReadFile(p.log)
			if err != nil || !strings.Contains(string(log), "told ") || !strings.Contains(string(log), "dead letter") {
				t.Errorf("the log lacks what it should have: %v", err)
			}
			said["log"] = string(log)
			p.kill()
			said["standard error"] = p.stderr.String()
			files, bytes := 0, 0
			filepath.WalkDir(kept, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() && d.Name() != "ballast" {
					data, err := os.ReadFile(path)
					if err != nil {
						t.Error(err)
					}
					files, bytes = files+1, bytes+len(data)
					replies["stored in "+d.Name()] = string(data)
				}
				return nil
			})
			if all := strings.Join(slices.Collect(maps.Values(replies)), ""); files == 0 || !strings.Contains(all, written) || !strings.Contains(all, "${secret:nasty}") {
				t.Errorf("%d files, %d bytes of the store: are plans looked at?", files, bytes)
			}

			for what, text := range said {
				shows(t, what, text, written)
				shows(t, what, text, referred)
			}
			for what, text := range replies {
				shows(t, what, text, referred)
			}
		})
	}
}

// shows fails the test if text holds a secret, or what is left of one, in any of the
// forms that can be told.
func shows(t *testing.T, what, text, secret string) {
	t.Helper()
	forms := []string{secret[:8]}
	for shift := range 3 { // base64 of it wherever it stands in what was encoded
		b := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + secret[:9]))
		forms = append(forms, strings.TrimRight(b, "=")[4:11])
	}
	for _, form := range forms {
		if i := strings.Index(text, form); i >= 0 {
			t.Errorf("%s shows %s: …%s…", what, form, text[max(0, i-150):min(len(text), i+60)])
		}
	}
}

// httpGet returns the answer to a request.
func httpGet(t *testing.T, address, path string) string {
	t.Helper()
	client := http.Client{Timeout: time.Minute}
	resp, err := client.Get("http://" + address + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return string(body)
}
