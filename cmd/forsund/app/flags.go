package app

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/snower/forsun/actions"
	"github.com/snower/forsun/cmd/redisflags"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/memstore"
)

// flag is a command line option: its name, how the help shows it, and how its
// value goes into Options.
type flag struct {
	name     string
	value    string // what the help calls its value; "" for an option that is on or off
	list     bool   // may be given several times, which adds up
	merge    bool   // what command line, file and environment say adds up, too
	fallback string // the value without the option
	usage    string // for the help, without the default
	showing  string // the default as the help shows it, where it is not fallback
	set      func(o *Options, value string) error
}

// group is a heading of the help.
type group struct {
	title string
	flags []flag
}

// envName is the environment variable that stands for the option.
func (f *flag) envName() string {
	return "FORSUN_" + strings.ToUpper(strings.ReplaceAll(f.name, "-", "_"))
}

// into makes a flag's set from a parser and a place for what it returns.
func into[T any](parse func(string) (T, error), place func(*Options) *T) func(*Options, string) error {
	return func(o *Options, value string) error {
		v, err := parse(value)
		if err == nil {
			*place(o) = v
		}
		return err
	}
}

func intBetween(lo, hi int) func(string) (int, error) {
	return func(s string) (int, error) { return parseInt(s, lo, hi) }
}

func between(lo, hi time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) { return parseDuration(s, lo, hi) }
}

// oneOf reads a word out of several, in any case.
func oneOf[T ~string](words ...T) func(string) (T, error) {
	return func(s string) (T, error) {
		for _, w := range words {
			if strings.EqualFold(s, string(w)) {
				return w, nil
			}
		}
		allowed := make([]string, len(words))
		for i, w := range words {
			allowed[i] = string(w)
		}
		return "", notAllowed(s, strings.Join(allowed, ", "))
	}
}

// noop is an action that is there only if --actions names it.
const noop = "noop"

// flags is every option of forsund.
func flags() []group {
	builtin := actions.Names()
	engine := scheduler.DefaultEngineOptions()
	store := memstore.DefaultOptions()
	service := scheduler.DefaultServiceOptions()

	return []group{
		{"optional arguments", []flag{
			{name: "help", usage: "show this help message and exit", set: into(parseBool, func(o *Options) *bool { return &o.Help })},
			{name: "version", usage: "show the version and exit", set: into(parseBool, func(o *Options) *bool { return &o.Version })},
			{
				name: "bind", value: "BIND_HOST", fallback: "127.0.0.1", usage: "bind host",
				set: into(parseBind, func(o *Options) *string { return &o.Bind }),
			},
			{
				name: "port", value: "BIND_PORT", fallback: "6458", usage: "bind port",
				set: into(intBetween(0, 65535), func(o *Options) *int { return &o.Port }),
			},
			{
				name: "http", value: "HTTP_BIND", usage: "bind http server, example: 127.0.0.1:9001", showing: "no http server",
				set: into(parseHostPort, func(o *Options) *string { return &o.HTTP }),
			},
			{
				name: "admin", value: "ADMIN_BIND", fallback: "127.0.0.1:6459",
				usage: "metrics, health and pprof for operators, who need no password there; none: nowhere",
				set:   into(parseAdmin, func(o *Options) *string { return &o.Admin }),
			},
			{
				name: "demon", usage: "run demon mode: detach, print the pid, or why it did not start; logs go to --log only",
				set: into(parseBool, func(o *Options) *bool { return &o.Demon }),
			},
			{
				name: "nodemon", usage: "stay in the foreground, whatever --demon or its environment variable says",
				set: into(parseBool, func(o *Options) *bool { return &o.nodemon }),
			},
			{
				name: "conf", value: "CONF", usage: "configuration file: options by their names, and the INI file of the Python forsun", showing: "none",
				set: into(parsePath, func(o *Options) *string { return &o.Conf }),
			},
			{
				name: "pid-file", value: "PID_FILE", usage: "file to write the pid to, removed at the end", showing: "none",
				set: into(parsePath, func(o *Options) *string { return &o.PIDFile }),
			},
			{
				name: "log", value: "LOG_FILE", usage: "log file; reopened at SIGHUP; - is standard error", showing: "standard error",
				set: into(parseLogFile, func(o *Options) *string { return &o.LogFile }),
			},
			{
				name: "log-level", value: "LOG_LEVEL", fallback: "INFO", usage: "log level: DEBUG, INFO, WARNING, ERROR, CRITICAL",
				set: func(o *Options, value string) (err error) { o.LogLevel, err = parseLevel(value); return err },
			},
			{
				name: "log-format", value: "FORMAT", fallback: string(logAuto),
				usage: "form of the log: json, a line each; text, for people; auto, json in a file and text on standard error",
				set:   into(parseLogFormat, func(o *Options) *logFormat { return &o.LogFormat }),
			},
			{
				name: "log-rotate", value: "WHEN", usage: "when the log file begins anew: DAY, at midnight, or at a size such as 100M (B, K, M, G)", showing: "never",
				set: into(parseRotation, func(o *Options) *rotation { return &o.LogRotate }),
			},
			{
				name: "log-backup-count", value: "N", fallback: "64", usage: "log files kept beside the one in use, with --log-rotate",
				set: into(intBetween(1, 10_000), func(o *Options) *int { return &o.LogBackups }),
			},
		}},
		{"extensions", []flag{ // first, since what follows may name them
			{
				name: "extension-path", value: "EXTENSION_PATH", usage: "directory of the extensions", showing: "none",
				set: into(parsePath, func(o *Options) *string { return &o.ExtensionPath }),
			},
			{
				name: "extension", value: "EXTENSIONS", list: true, usage: "extensions to run, commas between: executables in --extension-path, each an action of that name", showing: "none",
				set: func(o *Options, value string) (err error) {
					o.Extensions, err = parseExtensions(value, o.own)
					return err
				},
			},
		}},
		{"who may come in", []flag{
			{
				name: "allow-cidr", value: "NETWORKS", list: true, usage: "networks and addresses whose peers are let in without a token or certificate, commas between; loopback always is; none: nobody else",
				showing: "private networks", set: into(parseAllowed, func(o *Options) *[]netip.Prefix { return &o.AllowCIDR }),
			},
			{
				name: "trusted-proxies", value: "NETWORKS", list: true, usage: "networks and addresses of proxies that are believed whom they speak for, by the PROXY protocol or X-Forwarded-For, commas between",
				showing: "none", set: into(parseProxies, func(o *Options) *[]netip.Prefix { return &o.TrustedProxies }),
			},
			{
				name: "auth-token-file", value: "FILE", usage: "file of tokens that peers may show, a line each: NAME read|write|admin TOKEN [keys=PREFIX,...] [actions=NAME,...]; read again at SIGHUP",
				showing: "none", set: into(parsePath, func(o *Options) *string { return &o.TokenFile }),
			},
			{
				name: "tls-cert", value: "FILE", usage: "certificate to show, with its chain, PEM; both ports then speak TLS only; read again at SIGHUP",
				showing: "no TLS", set: into(parsePath, func(o *Options) *string { return &o.TLSCert }),
			},
			{
				name: "tls-key", value: "FILE", usage: "its key, PEM",
				showing: "none", set: into(parsePath, func(o *Options) *string { return &o.TLSKey }),
			},
			{
				name: "tls-client-ca", value: "FILE", usage: "certificates of the authorities that vouch for clients, PEM; a client with a certificate of theirs may do everything, one without is as without TLS",
				showing: "none", set: into(parsePath, func(o *Options) *string { return &o.TLSClientCA }),
			},
			{
				name: "audit-log", value: "FILE", usage: "file for a line for each change by a client, JSON, reopened at SIGHUP; off: none are written",
				showing: "the log", set: into(parseAudit, func(o *Options) *string { return &o.AuditLog }),
			},
			{
				name: "shell-from", value: "PEERS", fallback: string(service.ShellFrom),
				usage: "who may create shell plans: loopback (and whoever shows a token or certificate), private (also private networks), any, nobody",
				set: into(oneOf(scheduler.ShellFromLoopback, scheduler.ShellFromPrivate, scheduler.ShellFromAny, scheduler.ShellFromNobody),
					func(o *Options) *scheduler.ShellFrom { return &o.ShellFrom }),
			},
			{
				name: "actions", value: "NAMES", list: true, usage: "actions that plans may use and that are run, in the whole deployment, commas between; noop is for measurements: it does nothing", showing: strings.Join(builtin, ", "),
				set: func(o *Options, value string) (err error) { o.Actions, err = parseNames(value, o.known()); return err },
			},
		}},
		{"what plans may do", []flag{
			{
				name: "shell-allow", value: "COMMANDS", list: true, usage: "the commands that shell plans may run, as they are written there, commas between, \\, for a comma in one; one that ends in \" *\" may be followed by plain arguments",
				showing: "any", set: into(parseCommands, func(o *Options) *[]string { return &o.ShellAllow.Commands }),
			},
			{
				name: "shell-allow-env", value: "NAMES", list: true, usage: "with --shell-allow, the variables that shell plans may set, commas between",
				showing: "none", set: into(parseVariables, func(o *Options) *[]string { return &o.ShellAllow.Env }),
			},
			{
				name: "egress-allow", value: "NETWORKS", list: true, usage: "networks that targets of http, redis, mysql, thrift and beanstalk plans may be in, commas between; one within the networks that are refused by default is an exception to that",
				showing: "all but link-local and metadata addresses", set: into(parseEgress, func(o *Options) *[]netip.Prefix { return &o.Egress.Allow }),
			},
			{
				name: "egress-deny", value: "NETWORKS", list: true, usage: "networks that they may not be in, whatever --egress-allow says, commas between",
				showing: "none more", set: into(parseEgress, func(o *Options) *[]netip.Prefix { return &o.Egress.Deny }),
			},
			{
				name: "secrets-file", value: "FILE", usage: "secrets that plans may name as ${secret:NAME}, a line of NAME=value each; others may not read it; read again at SIGHUP; what it does not have is looked for as FORSUN_SECRET_NAME in the environment",
				showing: "none", set: into(parsePath, func(o *Options) *string { return &o.SecretsFile }),
			},
		}},
		{"firing", []flag{
			{
				name: "timezone", value: "ZONE", fallback: "UTC", usage: "zone of calendar plans that name none, such as Asia/Shanghai",
				set: into(parseZone, func(o *Options) **time.Location { return &o.Zone }),
			},
			{
				name: "misfire-grace", value: "TIME", fallback: shortDuration(engine.MisfireGrace),
				usage: "due seconds missed by up to this all fire; of older ones of a plan, one does",
				set:   into(between(time.Second, 24*time.Hour), func(o *Options) *time.Duration { return &o.MisfireGrace }),
			},
			{
				name: "work", value: "NAMES", list: true, usage: "actions that this process runs, commas between; none: it runs nothing", showing: "all",
				set: func(o *Options, value string) (err error) { o.Work, err = parseWork(value, o.known()); return err },
			},
			{
				name: "lead", fallback: "true", usage: "whether this process may lead shards, which is what makes plans fire, beside running actions; false needs other replicas",
				set: into(parseBool, func(o *Options) *bool { return &o.Lead }),
			},
			{
				name: "slots", value: "NAME=N", list: true, merge: true, usage: "attempts of an action at a time, such as http=200,shell=8",
				showing: slotsText(engine, builtin),
				set:     func(o *Options, value string) (err error) { o.Slots, err = parseSlots(value, o.known()); return err },
			},
			{
				name: "target-slots", value: "N", fallback: fmt.Sprint(engine.TargetSlots), usage: "attempts at a time to one target, such as an HTTP host",
				set: into(intBetween(1, 1_000_000), func(o *Options) *int { return &o.TargetSlots }),
			},
			{
				name: "retries", value: "N", fallback: fmt.Sprint(engine.Retry.Retries), usage: "further attempts of a firing that failed, where its plan says nothing",
				set: into(intBetween(0, 100), func(o *Options) *int { return &o.Retry.Retries }),
			},
			{
				name: "retry-delay", value: "TIME", fallback: shortDuration(engine.Retry.Delay), usage: "wait before the first of them; each later one waits that much longer",
				set: into(between(0, 24*time.Hour), func(o *Options) *time.Duration { return &o.Retry.Delay }),
			},
			{
				name: "retry-delay-rate", value: "RATE", fallback: fmt.Sprint(engine.Retry.Rate), usage: "by how many times the first delay each later one is longer; 0: all are the same",
				set: into(parseRate, func(o *Options) *float64 { return &o.Retry.Rate }),
			},
			{
				name: "drain-timeout", value: "TIME", fallback: shortDuration(engine.DrainTimeout), usage: "how long running actions may go on when forsund is stopped",
				set: into(between(0, 24*time.Hour), func(o *Options) *time.Duration { return &o.DrainTimeout }),
			},
			{
				name: "canary", value: "TIME", fallback: "10s",
				usage: "how often a plan of forsun's own goes all the way in each shard, to show that it works; the same on all replicas; 0: never",
				set:   into(parseCanary, func(o *Options) *time.Duration { return &o.Canary }),
			},
		}},
		{"actions", actionFlags()},
		{"store", append([]flag{
			{
				name: "driver", value: "DRIVER", fallback: driverMem, usage: "store driver: mem, embedded, for one forsund; redis, for a fleet of them",
				set: into(oneOf(driverMem, driverRedis), func(o *Options) *string { return &o.Driver }),
			},
			{
				name: "driver-mem-store-file", value: "STORE_MEM_STORE_FILE",
				usage:   "directory of the embedded store, made if it is not there; :memory: keeps nothing",
				showing: "/var/lib/forsun for root, else $XDG_DATA_HOME/forsun or ~/.local/share/forsun",
				set:     into(parseStoreDir, func(o *Options) *string { return &o.StoreDir }),
			},
			{
				name: "driver-mem-sync", value: "SYNC", fallback: string(store.Sync),
				usage: "when a plan that was accepted is on disk: always (before the answer), 1s (a second later), never (when the system likes)",
				set: into(oneOf(memstore.SyncAlways, memstore.SyncSecond, memstore.SyncNever),
					func(o *Options) *memstore.Sync { return &o.StoreSync }),
			},
		}, redisFlags()...)},
	}
}

// Drivers.
const (
	driverMem   = "mem"
	driverRedis = "redis"
)

// redisFlags are those that other programs with a store on Redis have, too.
func redisFlags() (all []flag) {
	for _, f := range redisflags.Flags() {
		all = append(all, flag{
			name: f.Name, value: f.Value, fallback: f.Fallback, usage: f.Usage, showing: f.Showing,
			set: func(o *Options, value string) error {
				if f.Value == "" {
					on, err := parseBool(value)
					if err != nil {
						return err
					}
					value = strconv.FormatBool(on)
				}
				return f.Set(&o.Redis, value)
			},
		})
	}
	return all
}

func parseStoreDir(s string) (string, error) {
	if s == memstore.Memory {
		return s, nil
	}
	return parsePath(s)
}

// parseZone loads a zone by its IANA name.
func parseZone(s string) (*time.Location, error) {
	zone, err := scheduler.LoadZone("timezone", s)
	var field *scheduler.FieldError
	if errors.As(err, &field) {
		return nil, notAllowed(s, field.Allowed)
	}
	return zone, err
}

// slotsText shows the slots of the actions this build has.
func slotsText(o scheduler.EngineOptions, names []string) string {
	var b strings.Builder
	for _, name := range names {
		n, ok := o.Slots[name]
		if !ok {
			n = o.DefaultSlots
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s=%d", name, n)
	}
	return b.String()
}
