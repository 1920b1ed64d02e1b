package app

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/memstore"
)

// environment is an env function of a map.
func environment(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
}

func TestParseDefaults(t *testing.T) {
	o, err := Parse(nil, environment(map[string]string{"HOME": "/home/ann"}))
	if err != nil {
		t.Fatal(err)
	}
	engine := scheduler.DefaultEngineOptions()
	if o.Bind != "127.0.0.1" || o.Port != 6458 || o.HTTP != "" || o.Demon || o.LogFile != "" || o.LogLevel != zerolog.InfoLevel {
		t.Errorf("server: got %+v", o)
	}
	if o.ShellFrom != scheduler.ShellFromLoopback || o.AllowCIDR != nil || o.Actions != nil || o.Work != nil {
		t.Errorf("who may come in: got %+v", o)
	}
	if o.Zone.String() != "UTC" || o.MisfireGrace != engine.MisfireGrace || o.TargetSlots != engine.TargetSlots ||
		o.Retry.Retries != engine.Retry.Retries || o.Retry.Delay != engine.Retry.Delay || o.DrainTimeout != engine.DrainTimeout {
		t.Errorf("firing: got %+v", o)
	}
	want := "/var/lib/forsun"
	if os.Geteuid() != 0 {
		want = "/home/ann/.local/share/forsun"
	}
	if o.StoreDir != want || o.StoreSync != memstore.SyncAlways {
		t.Errorf("store: got %s %s, want %s always", o.StoreDir, o.StoreSync, want)
	}
}

// TestParseSeed: every command line that the project's first README shows is
// understood.
func TestParseSeed(t *testing.T) {
	rows := []struct {
		line string
		err  string
	}{
		{"--bind=0.0.0.0 --port=6458 --log=/var/log/forsun.log --log-level=INFO --driver=mem --driver-mem-store-file=/var/lib/fousun/forsun.session --demon", ""},
		{"--bind=0.0.0.0 --port=6458 --log=/var/log/forsun.log --log-level=INFO --driver=redis --driver-redis-host=127.0.0.1 --driver-redis-db=1 --demon", ""},
		{"--bind=0.0.0.0 --port=6458 --http=0.0.0.0:9001 --log=/var/log/forsun.log --log-level=INFO --driver=redis --driver-redis-host=127.0.0.1 --driver-redis-db=1 --demon", ""},
		{"--bind 0.0.0.0 --port 6458 --http 0.0.0.0:80 --demon true --log forsun.log --log-level debug --driver mem --driver-mem-store-file /tmp/s " +
			"--driver-redis-host h --driver-redis-port 6379 --driver-redis-db 0 --driver-redis-prefix forsun --driver-redis-server-id 0 --extension-path= --extension=", ""},
		{"-h", ""},
	}
	for _, row := range rows {
		o, err := Parse(strings.Fields(row.line), environment(nil))
		if got := errText(err); got != row.err {
			t.Errorf("%s\ngot  %q\nwant %q", row.line, got, row.err)
		}
		if err == nil && !o.Help && (!o.Demon || o.Bind != "0.0.0.0" || !filepath.IsAbs(o.LogFile)) {
			t.Errorf("%s: got %+v", row.line, o)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestParseValues(t *testing.T) {
	args := []string{
		"--bind", "[::1]", "--http=[::1]:0", "--port=0", "--timezone=Asia/Shanghai", "--misfire-grace=90", "--drain-timeout", "1m30s",
		"--slots=http=3", "--slots", "shell=2,redis=5", "--work", "http,shell,http", "--actions=http, shell", "--target-slots=7",
		"--retries=0", "--retry-delay=1.5", "--shell-from=Private", "--allow-cidr=10.1.2.3/8,192.0.2.7", "--trusted-proxies=::ffff:10.9.0.0/112,::ffff:192.0.2.8", "--allow-cidr", "fd00::/8",
		"--egress-allow=10.0.0.0/8, ::ffff:192.0.2.0/120", "--egress-deny=10.1.2.3", "--egress-deny=fd00::1/8",
		`--shell-allow=/opt/report --at=a\,b,  date -u `, "--shell-allow=/opt/backup *", "--shell-allow-env=A, B",
		"--driver-mem-store-file=:memory:", "--driver-mem-sync=1s", "--log-level=Warning", "--pid-file=/run/forsund.pid", "-demon=no",
	}
	o, err := Parse(args, environment(map[string]string{"FORSUN_DEMON": "true"}))
	if err != nil {
		t.Fatal(err)
	}
	if o.Bind != "::1" || o.HTTP != "[::1]:0" || o.Port != 0 || o.PIDFile != "/run/forsund.pid" || o.Demon {
		t.Errorf("server: got %+v", o)
	}
	if o.Zone.String() != "Asia/Shanghai" || o.MisfireGrace != 90*time.Second || o.DrainTimeout != 90*time.Second ||
		o.Retry.Retries != 0 || o.Retry.Delay != 1500*time.Millisecond || o.TargetSlots != 7 {
		t.Errorf("firing: got %+v", o)
	}
	if want := map[string]int{"http": 3, "shell": 2, "redis": 5}; !maps.Equal(o.Slots, want) {
		t.Errorf("slots: got %v, want %v", o.Slots, want)
	}
	if want := []string{"http", "shell"}; !slices.Equal(o.Work, want) || !slices.Equal(o.Actions, want) {
		t.Errorf("work %v, actions %v, want %v", o.Work, o.Actions, want)
	}
	wantCIDR := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("fd00::/8")}
	if !slices.Equal(o.AllowCIDR, wantCIDR) || o.ShellFrom != scheduler.ShellFromPrivate {
		t.Errorf("peers: got %v, shell from %s", o.AllowCIDR, o.ShellFrom)
	}
	if got := fmt.Sprint(o.TrustedProxies); got != "[10.9.0.0/16 192.0.2.8/32]" {
		t.Errorf("trusted proxies: got %s", got)
	}
	if got := fmt.Sprint(o.Egress.Allow, o.Egress.Deny); got != "[10.0.0.0/8 192.0.2.0/24] [10.1.2.3/32 fd00::/8]" {
		t.Errorf("egress: got %s", got)
	}
	if got := fmt.Sprintf("%q", o.ShellAllow); got != `{["/opt/report --at=a,b" "date -u" "/opt/backup *"] ["A" "B"]}` {
		t.Errorf("shell: got %s", got)
	}
	if o.StoreDir != memstore.Memory || o.StoreSync != memstore.SyncSecond || o.LogLevel != zerolog.WarnLevel {
		t.Errorf("got store %s %s, log level %s", o.StoreDir, o.StoreSync, o.LogLevel)
	}
}

func TestParseRedis(t *testing.T) {
	rows := []struct {
		line  string
		where string
		work  []string
		lead  bool
	}{
		{"--driver=redis", "127.0.0.1:6379/0 forsun", nil, true},
		{"--driver=REDIS --driver-redis-host=::1 --driver-redis-port=1 --driver-redis-db=2 --driver-redis-prefix=p --lead=no --work=none", "[::1]:1/2 p", []string{}, false},
		{"--driver=redis --driver-redis-cluster=a:1,b:2 --work=http --lead", "cluster a:1,b:2 forsun", []string{"http"}, true},
		{"--driver=redis --driver-redis-sentinel-addrs=a:1 --driver-redis-sentinel-master=m --driver-redis-tls", "m of sentinels a:1/0 forsun", nil, true},
	}
	for _, row := range rows {
		o, err := Parse(strings.Fields(row.line), environment(nil)) // no HOME: no store directory is needed
		if err != nil {
			t.Errorf("%s: %v", row.line, err)
			continue
		}
		if got := o.Redis.String(); got != row.where || o.Lead != row.lead || !slices.Equal(o.Work, row.work) || (o.Work == nil) != (row.work == nil) {
			t.Errorf("%s\ngot  %q, work %#v, lead %v\nwant %q, %#v, %v", row.line, got, o.Work, o.Lead, row.where, row.work, row.lead)
		}
	}
}

func TestParsePrecedence(t *testing.T) {
	rows := []struct {
		why  string
		args []string
		env  map[string]string
		want int
		err  string
	}{
		{"default", nil, nil, 6458, ""},
		{"environment", nil, map[string]string{"FORSUN_PORT": "7000"}, 7000, ""},
		{"flag over environment", []string{"--port=7001"}, map[string]string{"FORSUN_PORT": "7000"}, 7001, ""},
		{"an empty variable is none", nil, map[string]string{"FORSUN_PORT": ""}, 6458, ""},
		{"no prefix, no meaning", nil, map[string]string{"PORT": "1"}, 6458, ""},
		{"what Kubernetes sets beside a service named forsun", nil, map[string]string{"FORSUN_PORT": "tcp://10.0.0.1:6458"}, 6458, ""},
		{"what an image may set", nil, map[string]string{"FORSUN_VERSION": "1.2.3", "FORSUN_HELP": "x"}, 6458, ""},
		{"a bad variable is named", nil, map[string]string{"FORSUN_PORT": "x"}, 0, `FORSUN_PORT: "x" is not allowed; allowed: a number from 0 to 65535`},
	}
	for _, row := range rows {
		o, err := Parse(append(row.args, "--driver-mem-store-file=:memory:"), environment(row.env))
		if got := errText(err); got != row.err || err == nil && o.Port != row.want {
			t.Errorf("%s: got %+v, %q, want port %d, %q", row.why, o, got, row.want, row.err)
		}
	}
}

func TestParseErrors(t *testing.T) {
	rows := []struct {
		args string // blanks separate
		want string
	}{
		{"--prot=1", "--prot: no such option, did you mean --port? (forsund -h lists them)"},
		{"--deamon", "--deamon: no such option, did you mean --demon? (forsund -h lists them)"},
		{"-x", "--x: no such option (forsund -h lists them)"},
		{"--port", "--port: needs a value"},
		{"--port=70000", `--port: "70000" is not allowed; allowed: a number from 0 to 65535`},
		{"--port=", `--port: "" is not allowed; allowed: a number from 0 to 65535`},
		{"--bind=", `--bind: "" is not allowed; allowed: a host name or an IP address, such as 127.0.0.1, or 0.0.0.0 for every one`},
		{"--http=9001", `--http: "9001" is not allowed; allowed: HOST:PORT, such as 127.0.0.1:9001`},
		{"--http=:9001", `--http: ":9001" is not allowed; allowed: HOST:PORT, such as 127.0.0.1:9001`},
		{"--log=x --log-rotate=weekly", `--log-rotate: "weekly" is not allowed; allowed: DAY, or a size from 1B on, with its unit B, K, M or G: 100M`},
		{"--log-backup-count=0", `--log-backup-count: "0" is not allowed; allowed: a number from 1 to 10000`},
		{"--log-format=xml", `--log-format: "xml" is not allowed; allowed: auto, json, text`},
		{"--log-format=%(message)s", `--log-format: "%(message)s" is a format of Python's logging, which forsund does not have; allowed: auto, json, text`},
		{"--retry-delay-rate=-1", `--retry-delay-rate: "-1" is not allowed; allowed: a number from 0 to 100, decimals allowed`},
		{"--retry-delay-rate=NaN", `--retry-delay-rate: "NaN" is not allowed; allowed: a number from 0 to 100, decimals allowed`},
		{"--action-http-request-timeout=2h", `--action-http-request-timeout: "2h" is not allowed; allowed: a time such as 90s or 1m30s, from 1ms to 1h`},
		{"--action-mysql-max-connections=0", `--action-mysql-max-connections: "0" is not allowed; allowed: a number from 1 to 1024`},
		{"--action-mysql-user=", `--action-mysql-user: "" is not allowed; allowed: an account's name`},
		{"--action-mysql-passwd=a --action-mysql-passwd-file=b", "--action-mysql-passwd-file: not together with --action-mysql-passwd"},
		{"--conf=/nonexistent/forsun.conf", "--conf: open /nonexistent/forsun.conf: no such file or directory"},
		{"--conf=/", "--conf: / is not a file"},
		{"config stray", `"stray": forsund takes options only (forsund -h lists them)`},
		{"confg --port=9", `"confg": forsund takes options only, did you mean forsund config? (forsund -h lists them)`},
		{"--port=9 backup", `"backup": belongs right after forsund, before all options`},
		{"--log --demon", "--log: needs a value, not the option --demon"},
		{"--log-level=loud", `--log-level: "loud" is not allowed; allowed: DEBUG, INFO, WARNING, ERROR, CRITICAL`},
		{"--demon=maybe", `--demon: "maybe" is not allowed; allowed: true or false`},
		{"--demon true --port 9 stray", `"stray": forsund takes options only (forsund -h lists them)`},
		{"stray --port=9", `"stray": forsund takes options only (forsund -h lists them)`},
		{"--driver=etcd", `--driver: "etcd" is not allowed; allowed: mem, redis`},
		{"--driver-mem-sync=often", `--driver-mem-sync: "often" is not allowed; allowed: always, 1s, never`},
		{"--driver-redis-port=x", `--driver-redis-port: "x" is not allowed; allowed: a number from 1 to 65535`},
		{"--driver-redis-server-id=0,0", `--driver-redis-server-id: "0,0" is not allowed; allowed: ids from 0 to 65535, each once, as an id, a list or a range: 0 or 0,3,7 or 0-15`},
		{"--driver=redis --driver-redis-cluster=a:1 --driver-redis-db=1", "--driver-redis-db: a Redis Cluster has 0 only"},
		{"--driver=redis --driver-redis-tls=maybe", `--driver-redis-tls: "maybe" is not allowed; allowed: true or false`},
		{"--durability=replica", `--durability: "replica" needs --driver=redis`},
		{"--lead=false", `--lead: "false" is not allowed; allowed: true with --driver=mem`},
		{"--work=none", `--work: "none" is not allowed; allowed: actions, with --driver=mem`},
		{"--extension=mail", "--extension: needs --extension-path, the directory where mail is"},
		{"--extension-path=/x --extension=http", "--extension: \"http\" is not allowed; allowed: names other than those of the actions that are there already: beanstalk, http, mysql, redis, shell, thrift, noop, none, own"},
		{"--extension-path=/x --extension=noop", "--extension: \"noop\" is not allowed; allowed: names other than those of the actions that are there already: beanstalk, http, mysql, redis, shell, thrift, noop, none, own"},
		{"--extension-path=/x --extension=none", "--extension: \"none\" is not allowed; allowed: names other than those of the actions that are there already: beanstalk, http, mysql, redis, shell, thrift, noop, none, own"},
		{"--extension-path=/x --extension=own", "--extension: \"own\" is not allowed; allowed: names other than those of the actions that are there already: beanstalk, http, mysql, redis, shell, thrift, noop, none, own"},
		{"--extension-path=/x --extension=../mail", "--extension: \"../mail\" is not allowed; allowed: names of 1 to 64 letters, digits, _ and -, each the file of an extension"},
		{"--extension-path=/x --extension=mail --actions=http", "--extension: \"mail\" is not allowed; allowed: what --actions allows: http"},
		{"--extension-path=/x --extension=mail --actions=mial,http", "--actions: \"mial\" is not allowed; allowed: beanstalk, http, mysql, redis, shell, thrift, noop, own, mail"},
		{"--timezone=Mars/Olympus", `--timezone: "Mars/Olympus" is not allowed; allowed: an IANA time zone name, such as UTC or Asia/Shanghai`},
		{"--misfire-grace=0", `--misfire-grace: "0" is not allowed; allowed: a time such as 90s or 1m30s, from 1s to 24h`},
		{"--drain-timeout=soon", `--drain-timeout: "soon" is not allowed; allowed: a time such as 90s or 1m30s, from 0s to 24h`},
		{"--work=mail", `--work: "mail" is not allowed; allowed: beanstalk, http, mysql, redis, shell, thrift, noop, own`},
		{"--actions=http --work=shell", `--work: "shell" is not allowed; allowed: what --actions allows: http`},
		{"--slots=http", `--slots: "http" is not allowed; allowed: NAME=N, with commas between; NAME is one of beanstalk, http, mysql, redis, shell, thrift, noop, own`},
		{"--slots=http=0", `--slots: "0" is not allowed; allowed: a number from 1 to 1000000`},
		{"--retries=101", `--retries: "101" is not allowed; allowed: a number from 0 to 100`},
		{"--shell-from=friends", `--shell-from: "friends" is not allowed; allowed: loopback, private, any, nobody`},
		{"--shell-allow=,", `--shell-allow: "," is not allowed; allowed: commands, with commas between`},
		{"--shell-allow=date,*", `--shell-allow: "*" is not allowed; allowed: a command; one that ends in " *" begins with a program and has letters, digits, blanks and _-+=.,:/@% before it`},
		{"--shell-allow=date --shell-allow-env=A-B", `--shell-allow-env: "A-B" is not allowed; allowed: names of variables, not beginning with FORSUN_, with commas between`},
		{"--shell-allow-env=A", "--shell-allow-env: needs --shell-allow; without it shell plans may set any variable"},
		{"--egress-allow=", `--egress-allow: "" is not allowed; allowed: networks and addresses such as 10.0.0.0/8 or 192.0.2.7, with commas between`},
		{"--egress-deny=internal", `--egress-deny: "internal" is not allowed; allowed: networks and addresses such as 10.0.0.0/8 or 192.0.2.7, with commas between`},
		{"--allow-cidr=10.0.0.0/99", `--allow-cidr: "10.0.0.0/99" is not allowed; allowed: networks and addresses such as 10.0.0.0/8 or 192.0.2.7, with commas between`},
	}
	for _, row := range rows {
		_, err := Parse(strings.Fields(row.args), environment(nil), "own")
		var usage *UsageError
		if got := errText(err); got != row.want || !errors.As(err, &usage) || strings.Contains(got, "\n") {
			t.Errorf("%s\ngot  %q (%T)\nwant %q", row.args, got, err, row.want)
		}
	}
}

// TestLogRotateWithoutFile: an image may set it, and whoever runs it log elsewhere;
// on the command line it is a mistake that is told of.
func TestLogRotateWithoutFile(t *testing.T) {
	env := map[string]string{"HOME": "/h", "FORSUN_LOG": "/l", "FORSUN_LOG_ROTATE": "1M"}
	for args, want := range map[string]int{"--log=-": 0, "--log=- --log-rotate=DAY": 1, "--log= --log-rotate=1K": 1, "--log-rotate=1K": 0} {
		if o, err := Parse(strings.Fields(args), environment(env)); err != nil || len(o.Notices) != want {
			t.Errorf("%s: got %+v, %v, want %d notices", args, o, err, want)
		}
	}
}

// TestNodemon: --nodemon outweighs --demon, wherever that came from.
func TestNodemon(t *testing.T) {
	for _, args := range [][]string{{"--demon", "--nodemon"}, {"--nodemon", "1", "--demon=1"}, {"--nodemon=yes"}} {
		o, err := Parse(append(args, "--driver-mem-store-file=:memory:"), environment(map[string]string{"FORSUN_DEMON": "on"}))
		if err != nil || o.Demon {
			t.Errorf("%v: got %+v, %v, want to stay in the foreground", args, o, err)
		}
	}
}

// TestHelp: the help has argparse's form, names every option with its default,
// and fits a terminal.
func TestHelp(t *testing.T) {
	help := HelpText()
	if !strings.HasPrefix(help, "usage: forsund [-h] [--version] [--bind BIND_HOST] [--port BIND_PORT]\n") {
		t.Errorf("usage line: got %q", help[:min(len(help), 200)])
	}
	for _, want := range []string{
		"High-performance timing scheduling service",
		"optional arguments:\n  -h, --help            show this help message and exit\n",
		"  --port BIND_PORT      bind port (default: 6458)\n",
		"  --log-level LOG_LEVEL\n",
		"--demon [DEMON]",
	} {
		if !strings.Contains(help, want) {
			t.Errorf("help lacks %q", want)
		}
	}
	for _, g := range flags() {
		for _, f := range g.flags {
			if strings.Count(help, "--"+f.name) < 2 && f.name != "help" {
				t.Errorf("--%s is not in both usage line and list", f.name)
			}
		}
	}
	for line := range strings.Lines(help) {
		if len(line) > helpWidth+1 {
			t.Errorf("line of %d: %q", len(line)-1, line)
		}
	}
}
