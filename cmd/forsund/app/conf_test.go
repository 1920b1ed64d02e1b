package app

import (
	"errors"
	goflag "flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snower/forsun/actions"
	"github.com/snower/forsun/scheduler"
)

// confFile writes a configuration file.
func confFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "forsun.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPythonSettings goes over every name of the Python forsun's configuration
// file: each takes effect, or is accepted with a notice.
func TestPythonSettings(t *testing.T) {
	engine := func(o *Options) scheduler.EngineOptions { return (&app{o: o}).tuned(scheduler.DefaultEngineOptions()) }
	acts := func(o *Options) actions.Options {
		opts := actions.DefaultOptions("1")
		if err := o.Action.into(&opts); err != nil {
			t.Error(err)
		}
		return opts
	}
	shards := func(o *Options) string {
		opts, err := o.Redis.Options()
		return fmt.Sprint(opts.Shards, err)
	}
	redis := func(get func(*Options) string) func(*Options) string { return get }
	rows := []struct {
		section, line string
		got           func(*Options) string // nil: a notice
		want          string
	}{
		{"", "port=7000", func(o *Options) string { return fmt.Sprint(o.Port) }, "7000"},
		{"", "bind_address=0.0.0.0", func(o *Options) string { return o.Bind }, "0.0.0.0"},
		{"", "http_bind=0.0.0.0:9000", func(o *Options) string { return o.HTTP }, "0.0.0.0:9000"},
		{"", "server_mode=TIMER", func(o *Options) string { return fmt.Sprint(o.Lead) }, "true"},
		{"", "log_file=/var/log/forsun.log", func(o *Options) string { return o.LogFile }, "/var/log/forsun.log"},
		{"", "log_level=ERROR", func(o *Options) string { return o.LogLevel.String() }, "error"},
		{"", "log_format=json", func(o *Options) string { return string(o.LogFormat) }, "json"},
		{"", "log_file=/l\nlog_rotate=1.5M", func(o *Options) string { return fmt.Sprint(o.LogRotate) }, "{false 1572864}"},
		{"", "log_file=/l\nlog_rotate=DAY", func(o *Options) string { return fmt.Sprint(o.LogRotate) }, "{true 0}"},
		{"", "log_backup_count=7", func(o *Options) string { return fmt.Sprint(o.LogBackups) }, "7"},

		{"store", "driver=redis", func(o *Options) string { return o.Driver }, "redis"},
		{"store", "status_expried=60", nil, ""},
		{"store", "mem_store_file=/data/forsun", func(o *Options) string { return o.StoreDir }, "/data/forsun"},
		{"store", "mem_time_rate=2", nil, ""},
		{"store", "redis_host=r.internal", redis(func(o *Options) string { return o.Redis.String() }), "r.internal:6379/0 forsun"},
		{"store", "redis_port=6380", redis(func(o *Options) string { return o.Redis.String() }), "127.0.0.1:6380/0 forsun"},
		{"store", "redis_db=3", redis(func(o *Options) string { return o.Redis.String() }), "127.0.0.1:6379/3 forsun"},
		{"store", "redis_password=s3cret=%x", func(o *Options) string { opts, err := o.Redis.Options(); return fmt.Sprint(opts.Password, err) }, "s3cret=%x<nil>"},
		{"store", "redis_prefix=jobs", redis(func(o *Options) string { return o.Redis.String() }), "127.0.0.1:6379/0 jobs"},
		{"store", "redis_server_id=2", shards, "[2] <nil>"},
		{"store", "redis_max_connections=9", nil, ""},
		{"store", "redis_client_timeout=9", nil, ""},
		{"store", "redis_bulk_size=9", nil, ""},
		{"store", "redis_currenttime_expried=9", nil, ""},
		{"store", "redis_plan_expried=9", nil, ""},
		{"store", "redis_plantime_expried=9", nil, ""},

		{"action", "retry_delay_seconds=5", func(o *Options) string { return fmt.Sprint(engine(o).Retry.Delay) }, "5s"},
		{"action", "retry_delay_rate=2", func(o *Options) string { return fmt.Sprint(engine(o).Retry.Rate) }, "2"},
		{"action", "retry_max_count=9", func(o *Options) string { return fmt.Sprint(engine(o).Retry.Retries) }, "9"},
		{"action", "poll_idle_seconds=60", func(o *Options) string {
			a := acts(o)
			return fmt.Sprint(a.HTTP.IdleTime, a.Thrift.IdleTime, a.Beanstalk.IdleTime, a.Redis.IdleTime, a.MySQL.IdleTime)
		}, "1m0s 1m0s 1m0s 1m0s 1m0s"},
		{"action", "shell_cwd=/srv", func(o *Options) string { return acts(o).Shell.Cwd }, "/srv"},
		{"action", "http_max_clients=5", func(o *Options) string { return fmt.Sprint(engine(o).Slots["http"]) }, "5"},
		{"action", "http_connect_timeout=7", func(o *Options) string { return fmt.Sprint(acts(o).HTTP.ConnectTimeout) }, "7s"},
		{"action", "http_request_timeout=120", func(o *Options) string { return fmt.Sprint(acts(o).HTTP.RequestTimeout) }, "2m0s"},
		{"action", "http_user_agent=reports/1 (x)", func(o *Options) string { return acts(o).HTTP.UserAgent }, "reports/1 (x)"},
		{"action", "redis_max_connections=9", func(o *Options) string { return fmt.Sprint(acts(o).Redis.MaxConnections) }, "9"},
		{"action", "redis_client_timeout=7200", func(o *Options) string { a := acts(o); return fmt.Sprint(a.Redis.IdleTime, a.MySQL.IdleTime) }, "2h0m0s 2m0s"},
		{"action", "redis_bulk_size=9", nil, ""},
		{"action", "thrift_max_connections=9", func(o *Options) string { return fmt.Sprint(acts(o).Thrift.MaxConnections) }, "9"},
		{"action", "mysql_user=app", func(o *Options) string { return acts(o).MySQL.User }, "app"},
		{"action", "mysql_passwd=p w", func(o *Options) string { return acts(o).MySQL.Passwd }, "p w"},
		{"action", "mysql_max_connections=9", func(o *Options) string { return fmt.Sprint(acts(o).MySQL.MaxConnections) }, "9"},
		{"action", "mysql_wait_connection_timeout=7200", func(o *Options) string { return fmt.Sprint(acts(o).MySQL.Wait) }, "2h0m0s"},
		{"action", "mysql_idle_seconds=60", func(o *Options) string { a := acts(o); return fmt.Sprint(a.MySQL.IdleTime, a.Redis.IdleTime) }, "1m0s 2m0s"},

		// What the options of extensions allow depends on what is there: only that
		// the values arrive.
		{"extension", "path=/opt/extensions", func(o *Options) string { return given(o, "extension-path") }, "/opt/extensions"},
		{"extension", "extensions=mail;sms", func(o *Options) string { return given(o, "extension") }, "mail,sms"},
	}
	tested := make(map[place]bool)
	for _, row := range rows {
		lines := strings.Split(row.line, "\n")
		name, _, _ := strings.Cut(lines[len(lines)-1], "=")
		tested[place{row.section, plainName(name)}] = true
		text := row.line + "\n"
		if row.section != "" {
			text = "[" + row.section + "]\n" + text
		}
		if row.section == "extension" {
			// Not Parse: it would look for them.
			c, err := readConf(confFile(t, text), flags())
			if err != nil {
				t.Errorf("[%s] %s: %v", row.section, row.line, err)
				continue
			}
			o := &Options{settings: resolve(flags(), nil, c, environment(nil))}
			if got := row.got(o); got != row.want {
				t.Errorf("[%s] %s: got %q, want %q", row.section, row.line, got, row.want)
			}
			continue
		}
		o, err := Parse([]string{"--conf=" + confFile(t, text)}, environment(map[string]string{"HOME": "/h"}))
		switch {
		case err != nil:
			t.Errorf("[%s] %s: %v", row.section, row.line, err)
		case row.got == nil && (len(o.Notices) != 1 || !strings.Contains(o.Notices[0], name+" means nothing here: ")):
			t.Errorf("[%s] %s: notices %q", row.section, row.line, o.Notices)
		case row.got != nil && (row.got(o) != row.want || len(o.Notices) > 0):
			t.Errorf("[%s] %s: got %q, notices %q, want %q", row.section, row.line, row.got(o), o.Notices, row.want)
		}
	}
	for _, n := range pythonNames() {
		if !tested[place{n.section, plainName(n.name)}] {
			t.Errorf("[%s] %s: no row", n.section, n.name)
		}
		if n.option != "" && !slices.Contains(optionNames(), n.option) || (n.option == "") == (n.why == "") {
			t.Errorf("[%s] %s: stands for %q, why %q", n.section, n.name, n.option, n.why)
		}
	}
	if len(tested) != 9+16+18+2 {
		t.Errorf("%d names were tested, the Python forsun has 45", len(tested))
	}
	if o, err := Parse([]string{"--driver=redis", "--conf=" + confFile(t, "server_mode=agent")}, environment(nil)); err != nil || o.Lead {
		t.Errorf("server_mode=agent: got %+v, %v, want not to lead", o, err)
	}
}

// given returns what was said of an option.
func given(o *Options, name string) string {
	for _, s := range o.settings {
		if s.flag.name == name {
			return s.value
		}
	}
	return ""
}

func optionNames() (names []string) {
	for _, g := range flags() {
		for _, f := range g.flags {
			names = append(names, f.name)
		}
	}
	return names
}

func TestConfErrors(t *testing.T) {
	rows := []struct {
		why, text string
		want      string // FILE stands for the path
	}{
		{"a name misspelt", "prot = 1\n", "FILE:1: prot: no such setting, did you mean port?"},
		{"an option misspelt", "\n# c\ndrain-timout = 1\n", "FILE:3: drain-timout: no such setting, did you mean drain-timeout?"},
		{"nothing near", "colour = blue\n", "FILE:1: colour: no such setting (forsund config lists them)"},
		{"misspelt in a section", "[action]\nshell_pwd = /\n", "FILE:2: shell_pwd: no such setting in [action], did you mean shell_cwd?"},
		{"what the Python forsun's own example has", "[store]\nSTORE_REDIS_PASSWORD=\n", "FILE:2: STORE_REDIS_PASSWORD: no such setting in [store], did you mean redis_password?"},
		{"in the wrong section", "[action]\nredis_host = h\n", "FILE:2: redis_host: belongs in [store]"},
		{"in no section", "shell_cwd = /\n", "FILE:1: shell_cwd: belongs in [action]"},
		{"an option in a section", "[store]\ndurability = replica\n", "FILE:2: durability: belongs before the first section, not in [store]"},
		{"a section misspelt", "[stores]\ndriver = mem\n", "FILE:2: driver: there is no section [stores], did you mean [store]?"},
		{"a section there is not", "[mysql]\nport = 1\n", "FILE:2: port: there is no section [mysql]; there are [action], [extension], [store], and options of forsund belong before the first section"},
		{"twice", "port = 1\nPORT = 2\n", "FILE:2: PORT: was said in line 1 already"},
		{"twice, by two names", "log = /a\nlog_file = /b\n", "FILE:2: log_file: was said in line 1 already"},
		{"twice, in other words", "lead = true\nserver_mode = AGENT\n", "FILE:2: server_mode: was said already, by FILE:1: lead"},
		{"a bad value", "[store]\nredis_port = many\n", `FILE:2: redis_port: "many" is not allowed; allowed: a number from 1 to 65535`},
		{"a comment behind a value", "port = 6458 # Thrift\n", `FILE:1: port: "6458 # Thrift" is not allowed; allowed: a number from 0 to 65535`},
		{"a mode there is not", "server_mode = BOTH\n", `FILE:1: server_mode: "BOTH" is not allowed; allowed: TIMER, AGENT`},
		{"what is wrong together names the line", "server_mode = AGENT\n", `FILE:1: server_mode: "false" is not allowed; allowed: true with --driver=mem`},
		{"Python's log format", "log_format = %(asctime)s\n", `FILE:1: log_format: "%(asctime)s" is a format of Python's logging, which forsund does not have; allowed: auto, json, text`},
		{"not for a file", "conf = x\n", "FILE:1: conf: belongs on the command line"},
		{"not for a file either", "help = true\n", "FILE:1: help: belongs on the command line"},
		{"no value", "demon\n", `--conf: FILE:1: what stands there is not allowed; allowed: name = value, [SECTION], or a comment that begins with #`},
		{"no name", "= 1\n", `--conf: FILE:1: what stands there is not allowed; allowed: name = value, [SECTION], or a comment that begins with #`},
		{"a value that goes on", "actions = http,\n  shell\n", "--conf: FILE:2: begins with a blank, which would continue the line before; a value stands on one line"},
		{"a section left open", "[store\n", `--conf: FILE:1: "[store" is not allowed; allowed: [NAME], to begin a section`},
		{"not text", "port = \xff\n", "--conf: FILE:1: not a line of UTF-8 text"},
		{"far too long", strings.Repeat("#\n", 600<<10), "--conf: FILE is larger than a configuration file may be: 1024 KiB"},
	}
	for _, row := range rows {
		path := confFile(t, row.text)
		_, err := Parse([]string{"--conf", path}, environment(nil))
		var usage *UsageError
		if got := strings.ReplaceAll(errText(err), path, "FILE"); got != row.want || !errors.As(err, &usage) {
			t.Errorf("%s\ngot  %q (%T)\nwant %q", row.why, got, err, row.want)
		}
	}
}

// TestConfPipe: a pipe is no file, and is not waited for.
func TestConfPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Parse([]string{"--conf", path}, environment(nil))
	if got, want := errText(err), "--conf: "+path+" is not a file"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestConfPrecedence: flags, then the file, then the environment.
func TestConfPrecedence(t *testing.T) {
	path := confFile(t, "\ufeffPort: 7002\r\n; c\r\nretry_delay = 9\nslots = shell=2\ntimezone =\n[action]\nhttp_max_clients = 3\n")
	env := map[string]string{"HOME": "/h", "FORSUN_CONF": path, "FORSUN_PORT": "7001", "FORSUN_RETRIES": "5", "FORSUN_SLOTS": "redis=7,http=8", "FORSUN_TIMEZONE": "Asia/Shanghai"}
	o, err := Parse([]string{"--retry-delay=1s", "--slots=shell=4"}, environment(env))
	if err != nil {
		t.Fatal(err)
	}
	if o.Port != 7002 || o.Retry.Delay != time.Second || o.Retry.Retries != 5 || o.Zone.String() != "Asia/Shanghai" {
		t.Errorf("got port %d, retry delay %s, retries %d, zone %s", o.Port, o.Retry.Delay, o.Retry.Retries, o.Zone)
	}
	if got := fmt.Sprint(o.Slots); got != "map[http:3 redis:7 shell:4]" {
		t.Errorf("slots: got %s", got)
	}
	text := o.ConfigText()
	for _, want := range []string{
		`(?m)^port +7002 +` + regexp.QuoteMeta(path) + `:1: Port$`,
		`(?m)^retries +5 +FORSUN_RETRIES$`,
		`(?m)^retry-delay +1s +--retry-delay$`,
		`(?m)^slots +redis=7,http=8,shell=2,http=3,shell=4 +FORSUN_SLOTS, \S+:4: slots, \S+:7: http_max_clients, --slots$`,
		`(?m)^bind +127.0.0.1 +default$`,
		`(?m)^http +\(no http server\) +default$`,
		`(?m)^demon +false +default$`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("config lacks %s:\n%s", want, text)
		}
	}
	if o, err = Parse([]string{"--conf="}, environment(env)); err != nil || o.Port != 7001 {
		t.Errorf("--conf= : got %+v, %v, want the environment's port", o, err)
	}
}

// TestConfigSecrets: no value of a password option is shown, whatever its name
// and wherever it came from.
func TestConfigSecrets(t *testing.T) {
	const planted = "pl4nted"
	path := confFile(t, "[store]\ndriver = redis\nredis_password = "+planted+"\nredis_bulk_size = 1\n[action]\nmysql_passwd = "+planted+"\n")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"config", "--conf", path, "--driver-redis-sentinel-addrs=a:1", "--driver-redis-sentinel-master=m"}
	o, err := Parse(args, environment(map[string]string{"FORSUN_DRIVER_REDIS_SENTINEL_PASSWORD": planted}))
	if err != nil || !o.Config {
		t.Fatalf("got %+v, %v", o, err)
	}
	text := o.ConfigText()
	if strings.Contains(text, planted) || strings.Count(text, scheduler.Masked) != 3 {
		t.Errorf("want three masked passwords, got\n%s", text)
	}
	for _, want := range []string{"redis_bulk_size means nothing here", "everybody on this machine may read it (mode 0644)"} {
		if !strings.Contains(text, want) {
			t.Errorf("config lacks %q:\n%s", want, text)
		}
	}
	for _, name := range optionNames() {
		if regexp.MustCompile(`passw|secret|token`).MatchString(name) && !isSecret(name) && !regexp.MustCompile(`-file$|-dir$|-path$`).MatchString(name) {
			t.Errorf("--%s sounds like a secret and would be shown", name)
		}
	}
}

func TestCheckEnvironment(t *testing.T) {
	rows := []struct{ variable, want string }{
		{"FORSUN_PORT=1", ""},
		{"FORSUN_CONF=/x", ""},
		{"FORSUN_HOST=h", ""}, // the command line's
		{"FORSUN_SECRET_DB=x", ""},
		{"FORSUN_FIRING_ID=x", ""},
		{"FORSUN_VERSION=1.2", ""},
		{"FORSUND_X=1", ""},
		{"PORT=1", ""},
		{"FORSUN_SERVICE_HOST=10.0.0.1", ""},
		{"FORSUN_SERVICE_PORT_THRIFT=6458", ""},
		{"FORSUN_PORT_6458_TCP_ADDR=10.0.0.1", ""},
		{"FORSUN_REDIS_PORT=tcp://10.0.0.1:6379", ""},
		{"FORSUN_PROT=1", "FORSUN_PROT: no option has this variable, did you mean FORSUN_PORT? (forsund -h lists the options)"},
		{"FORSUN_WHATEVER_THIS_IS=1", "FORSUN_WHATEVER_THIS_IS: no option has this variable (forsund -h lists the options)"},
		{"FORSUN_LOG_FILE=x", "FORSUN_LOG_FILE: no option has this variable; FORSUN_LOG is what it is here"},
		{"FORSUN_STORE_REDIS_HOST=x", "FORSUN_STORE_REDIS_HOST: no option has this variable; FORSUN_DRIVER_REDIS_HOST is what it is here"},
	}
	for _, row := range rows {
		if got := errText(CheckEnvironment([]string{"HOME=/", row.variable})); got != row.want {
			t.Errorf("%s\ngot  %q\nwant %q", row.variable, got, row.want)
		}
	}
}

// TestOtherVariables: what the command line reads, forsund does not complain of.
func TestOtherVariables(t *testing.T) {
	files, err := filepath.Glob("../../forsun/cli/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	found := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`"FORSUN_[A-Z_]+[A-Z]"`).FindAllString(string(text), -1) {
			found++
			if err := CheckEnvironment([]string{strings.Trim(name, `"`) + "=x"}); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
	if found < 2 {
		t.Errorf("found %d variables of the command line", found)
	}
}

var update = goflag.Bool("update", false, "write deploy/forsun.conf.example")

// TestExampleConf: the example has every option, in the order of the help, and
// says nothing but the defaults.
func TestExampleConf(t *testing.T) {
	path := filepath.Join(root, "deploy", "forsun.conf.example")
	want := exampleConf()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s does not have the options of this forsund; go test ./cmd/forsund/app -run ExampleConf -update writes it", path)
	}
	c, err := readConf(path, flags())
	if err != nil {
		t.Fatal(err)
	}
	lines, err := readINI(path)
	if err != nil {
		t.Fatal(err)
	}
	said := make(map[string]bool)
	for _, l := range lines {
		said[l.name] = true
	}
	for _, s := range resolve(flags(), nil, c, environment(nil)) {
		switch {
		case s.flag.name == "help" || s.flag.name == "version" || s.flag.name == "conf":
		case !said[s.flag.name]:
			t.Errorf("--%s is missing", s.flag.name)
		case s.value != s.flag.fallback:
			t.Errorf("--%s: the example says %q, the default is %q", s.flag.name, s.value, s.flag.fallback)
		}
	}
	home := environment(map[string]string{"HOME": "/home/ann"})
	with, err := Parse([]string{"--conf", path}, home)
	if err != nil {
		t.Fatal(err)
	}
	without, err := Parse(nil, home)
	if err != nil {
		t.Fatal(err)
	}
	if len(with.Notices) > 0 {
		t.Errorf("notices: %q", with.Notices)
	}
	with.Conf, with.settings, without.settings = "", nil, nil
	if got, want := fmt.Sprintf("%+v", with), fmt.Sprintf("%+v", without); got != want {
		t.Errorf("with the example\n%s\nwithout\n%s", got, want)
	}
}

// exampleConf writes the example from the table of flags.
func exampleConf() string {
	var b strings.Builder
	b.WriteString(`# Configuration of forsund: forsund --conf=forsun.conf
#
# Every option with its default; an empty value is the default, too. The names
# are those of the command line, in any case, with - and _ alike. What is given
# there counts more than this file, what is in the environment (FORSUN_NAME)
# counts less. "forsund config --conf=FILE" checks a file and prints what it
# adds up to.
#
# All options belong before the first section. The names of the Python forsun's
# file are understood, too, each where it stands there: before the first section
# or in [store], [action], [extension].
`)
	for _, g := range flags() {
		fmt.Fprintf(&b, "\n# ---- %s\n", strings.Replace(g.title, "optional arguments", "server", 1))
		for _, f := range g.flags {
			if f.name == "help" || f.name == "version" || f.name == "conf" {
				continue
			}
			usage := f.usage
			if f.showing != "" {
				usage += " (default: " + f.showing + ")"
			}
			b.WriteString("\n# " + strings.ReplaceAll(fill(strings.Fields(usage), 2), "\n"+strings.Repeat(" ", 2), "\n# ") + "\n")
			b.WriteString(strings.TrimRight(f.name+" = "+f.fallback, " ") + "\n")
		}
	}
	return b.String()
}
