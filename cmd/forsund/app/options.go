package app

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/actions"
	"github.com/snower/forsun/cmd/redisflags"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/memstore"
)

// Options is what forsund was asked to do: the flags, read and checked. Parse
// makes them.
type Options struct {
	Help    bool // print HelpText and end
	Version bool // print the version and end
	Config  bool // print ConfigText and end

	Conf string // absolute; "": none

	Bind      string         // address of the Thrift server, a host name or an IP
	Port      int            // its port, 0 to 65535; 0: any free one
	HTTP      string         // HOST:PORT of the HTTP server; "": none
	Admin     string         // HOST:PORT of metrics, health and pprof; "": none
	AllowCIDR []netip.Prefix // beside loopback, peers to let in without a token; nil: private networks
	ShellFrom scheduler.ShellFrom

	TrustedProxies []netip.Prefix // believed whom they speak for
	TokenFile      string         // absolute; "": no tokens
	TLSCert        string         // absolute, as the next two; "": no TLS
	TLSKey         string
	TLSClientCA    string // "": no certificates of clients
	AuditLog       string // absolute; "": the log; auditOff: nowhere

	ShellAllow  actions.ShellAllow // what shell plans may run
	Egress      actions.Egress     // what the actions may connect to
	SecretsFile string             // absolute; "": none

	Demon    bool          // detach from the terminal
	PIDFile  string        // absolute; "": none
	LogFile  string        // absolute; "": standard error
	LogLevel zerolog.Level //

	LogFormat  logFormat
	LogRotate  rotation // of LogFile
	LogBackups int      // rotated files kept, at least 1

	Driver    string // driverMem or driverRedis
	StoreDir  string // absolute, or memstore.Memory; of driverMem
	StoreSync memstore.Sync
	Redis     redisflags.Redis // of driverRedis
	Idle      []string         // options given that mean nothing with this driver

	Zone         *time.Location
	MisfireGrace time.Duration
	Actions      []string       // actions plans may use; nil: all there are
	Work         []string       // actions this process runs; nil: all of Actions
	Lead         bool           // it may lead shards
	Slots        map[string]int // attempts at a time, by action
	TargetSlots  int            // attempts at a time, by target
	Retry        scheduler.RetryPolicy
	DrainTimeout time.Duration
	Action       actionOptions
	Canary       time.Duration // how often the canary of each shard fires; 0: there are none

	ExtensionPath string   // absolute; "": none
	Extensions    []string // executables in it, each an action

	Notices []string // what of the configuration file means nothing, or is unwise

	own      []string  // actions of a main of its own
	settings []setting // of every option
	nodemon  bool      // outweighs Demon
}

// known are the names of the actions there may be.
func (o *Options) known() []string {
	return slices.Concat(actions.Names(), []string{noop}, o.own, o.Extensions)
}

// Reloads says whether SIGHUP has something to read again. If not, it is what a
// terminal sends when it goes away.
func (o *Options) Reloads() bool {
	return o.LogFile != "" || o.TokenFile != "" || o.TLSCert != "" || o.auditFile() != "" || o.SecretsFile != ""
}

// UsageError is a command line, or an environment, that cannot be understood.
type UsageError struct {
	Option string // "--port", or "FORSUN_PORT" if it came from there
	Reason string
}

func (e *UsageError) Error() string {
	if e.Option == "" {
		return e.Reason
	}
	return e.Option + ": " + e.Reason
}

// notAllowed says what would have been right.
func notAllowed(value, allowed string) error {
	return fmt.Errorf("%q is not allowed; allowed: %s", value, allowed)
}

// finish sets what follows from several options together, and checks it.
func (o *Options) finish(env func(string) (string, bool)) error {
	if o.nodemon {
		o.Demon = false
	}
	// In the environment it may stand for others: an image may set it.
	if o.LogRotate != (rotation{}) && o.LogFile == "" && o.from("log-rotate") != "FORSUN_LOG_ROTATE" {
		o.Notices = append(o.Notices, "log-rotate means nothing without a log file (--log)")
	}
	if err := o.Action.check(); err != nil {
		return err
	}
	if len(o.Extensions) > 0 && o.ExtensionPath == "" {
		return &UsageError{"--extension", "needs --extension-path, the directory where " + strings.Join(o.Extensions, ", ") + " is"}
	}
	for _, name := range o.Extensions {
		if o.Actions != nil && !slices.Contains(o.Actions, name) {
			return &UsageError{"--extension", notAllowed(name, "what --actions allows: "+strings.Join(o.Actions, ", ")).Error()}
		}
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return &UsageError{"--tls-cert", "needs --tls-key, and the other way round"}
	}
	if o.TLSClientCA != "" && o.TLSCert == "" {
		return &UsageError{"--tls-client-ca", "needs --tls-cert"}
	}
	if slices.Equal(o.Actions, []string{noop}) {
		return &UsageError{"--actions", "noop needs another action beside it"}
	}
	for _, name := range o.Work {
		if o.Actions != nil && !slices.Contains(o.Actions, name) {
			return &UsageError{"--work", notAllowed(name, "what --actions allows: "+strings.Join(o.Actions, ", ")).Error()}
		}
	}
	if o.ShellAllow.Env != nil && o.ShellAllow.Commands == nil {
		return &UsageError{"--shell-allow-env", "needs --shell-allow; without it shell plans may set any variable"}
	}
	if o.Driver == driverRedis {
		return flagError(o.Redis.Check())
	}
	if err := o.Redis.NeedsRedis(); err != nil {
		return flagError(err)
	}
	// Nobody else would do it.
	if !o.Lead {
		return &UsageError{"--lead", notAllowed("false", "true with --driver=mem").Error()}
	}
	if o.Work != nil && len(o.Work) == 0 {
		return &UsageError{"--work", notAllowed(workNone, "actions, with --driver=mem").Error()}
	}
	if o.StoreDir == "" {
		dir, err := defaultStoreDir(env)
		if err != nil {
			return &UsageError{"--driver-mem-store-file", err.Error()}
		}
		o.StoreDir = dir
	}
	return nil
}

// flagError is an error of redisflags as one of ours.
func flagError(err error) error {
	var f *redisflags.Error
	if errors.As(err, &f) {
		return &UsageError{"--" + f.Flag, f.Reason}
	}
	return err
}

// defaultStoreDir is where a program of this user keeps its data.
func defaultStoreDir(env func(string) (string, bool)) (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/forsun", nil
	}
	if dir, ok := env("XDG_DATA_HOME"); ok && filepath.IsAbs(dir) {
		return filepath.Join(dir, "forsun"), nil
	}
	if home, ok := env("HOME"); ok && filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "share", "forsun"), nil
	}
	return "", fmt.Errorf("needed, since neither XDG_DATA_HOME nor HOME says where this user's data belongs")
}

// forbidden are the actions that this program has and that are not allowed.
func (o *Options) forbidden() []string {
	allowed := o.Actions
	if allowed == nil {
		allowed = slices.Concat(actions.Names(), o.own)
	}
	return slices.DeleteFunc(slices.Concat(actions.Names(), []string{noop}, o.own), func(name string) bool { return slices.Contains(allowed, name) })
}

// parseInt reads a whole number from lo to hi.
func parseInt(s string, lo, hi int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < lo || n > hi {
		return 0, notAllowed(s, fmt.Sprintf("a number from %d to %d", lo, hi))
	}
	return n, nil
}

// parseBool reads what argparse users write behind an option that is on or off.
func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "true", "1", "yes", "on", "t", "y":
		return true, nil
	case "false", "0", "no", "off", "f", "n":
		return false, nil
	}
	return false, notAllowed(s, "true or false")
}

// parseDuration reads "1m30s", or a number of seconds.
func parseDuration(s string, lo, hi time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		d, err = time.ParseDuration(s + "s")
	}
	if err != nil || d < lo || d > hi {
		return 0, notAllowed(s, fmt.Sprintf("a time such as 90s or 1m30s, from %s to %s", shortDuration(lo), shortDuration(hi)))
	}
	return d, nil
}

// shortDuration writes d without the units that are zero: 1m, not 1m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// parseBind reads a host to listen on. An empty one would mean every address
// there is, which must be asked for in so many words.
func parseBind(s string) (string, error) {
	if s == "" || strings.ContainsAny(s, " /") {
		return "", notAllowed(s, "a host name or an IP address, such as 127.0.0.1, or 0.0.0.0 for every one")
	}
	return strings.Trim(s, "[]"), nil
}

// parseHostPort reads the address of the HTTP server.
func parseHostPort(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	host, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = parseInt(port, 0, 65535)
	}
	if err == nil {
		_, err = parseBind(host)
	}
	if err != nil {
		return "", notAllowed(s, "HOST:PORT, such as 127.0.0.1:9001")
	}
	return s, nil
}

// parseAdmin reads an address, or "none", or nothing, for none.
func parseAdmin(s string) (string, error) {
	if strings.EqualFold(strings.TrimSpace(s), "none") {
		return "", nil
	}
	return parseHostPort(s)
}

// parseCanary reads how often canaries fire: whole seconds, or 0 for never.
func parseCanary(s string) (time.Duration, error) {
	d, err := parseDuration(s, 0, time.Hour)
	if err != nil || d%time.Second != 0 {
		return 0, notAllowed(s, "whole seconds from 1s to 1h, or 0 for no canaries")
	}
	return d, nil
}

// parseCIDRs reads networks and single addresses. Those of IPv4 that are written in
// IPv6 are of IPv4, as addresses are when they are compared.
func parseCIDRs(s string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, item := range splitList(s) {
		prefix, err := netip.ParsePrefix(item)
		if err != nil {
			addr, addrErr := netip.ParseAddr(item)
			if addrErr != nil || addr.Zone() != "" {
				return nil, notAllowed(item, "networks and addresses such as 10.0.0.0/8 or 192.0.2.7, with commas between")
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		if addr := prefix.Addr(); addr.Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	return prefixes, nil
}

// parseCommands reads entries of a list of commands. A backslash before a comma
// makes it a part of a command; any other backslash is itself.
func parseCommands(s string) (commands []string, err error) {
	const comma = "\x00"
	for entry := range strings.SplitSeq(strings.ReplaceAll(s, `\,`, comma), ",") {
		if entry = strings.TrimSpace(strings.ReplaceAll(entry, comma, ",")); entry != "" {
			commands = append(commands, entry)
		}
	}
	if commands == nil {
		// None would be any.
		return nil, notAllowed(s, "commands, with commas between")
	}
	for _, entry := range commands {
		if (actions.ShellAllow{Commands: []string{entry}}).Validate() != nil {
			return nil, notAllowed(entry, `a command; one that ends in " *" begins with a program and has letters, digits, blanks and _-+=.,:/@% before it`)
		}
	}
	return commands, nil
}

// parseVariables reads names of environment variables.
func parseVariables(s string) ([]string, error) {
	names := splitList(s)
	for _, name := range names {
		if (actions.ShellAllow{Commands: []string{"true"}, Env: []string{name}}).Validate() != nil {
			return nil, notAllowed(name, "names of variables, not beginning with FORSUN_, with commas between")
		}
	}
	return names, nil
}

// parseEgress reads networks of targets.
func parseEgress(s string) ([]netip.Prefix, error) {
	prefixes, err := parseCIDRs(s)
	if err == nil && len(prefixes) == 0 {
		// None would be all of them: a variable that is empty by mistake opens nothing.
		err = notAllowed(s, "networks and addresses such as 10.0.0.0/8 or 192.0.2.7, with commas between")
	}
	return prefixes, err
}

// parseAllowed is parseCIDRs, and takes none for nobody.
func parseAllowed(s string) ([]netip.Prefix, error) {
	if strings.EqualFold(strings.TrimSpace(s), "none") {
		return []netip.Prefix{}, nil
	}
	return parseCIDRs(s)
}

// parseProxies is parseCIDRs without what has everybody in it: who may say of
// himself who he is may be anyone.
func parseProxies(s string) ([]netip.Prefix, error) {
	networks, err := parseCIDRs(s)
	for _, n := range networks {
		if n.Bits() == 0 {
			return nil, notAllowed(n.String(), "the networks of proxies only: everybody else could claim to be anyone")
		}
	}
	return networks, err
}

// auditOff is the value of --audit-log for no audit at all.
const auditOff = "off"

func parseAudit(s string) (string, error) {
	if strings.EqualFold(s, auditOff) {
		return auditOff, nil
	}
	return parsePath(s)
}

// auditFile is the file that changes are told to; "": none of their own.
func (o *Options) auditFile() string {
	if o.AuditLog == auditOff {
		return ""
	}
	return o.AuditLog
}

// parseNames reads names out of those that are known.
func parseNames(s string, known []string) ([]string, error) {
	var names []string
	for _, name := range splitList(s) {
		if !slices.Contains(known, name) {
			return nil, notAllowed(name, strings.Join(known, ", "))
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// parseExtensions reads the names of extensions, with commas or semicolons between.
func parseExtensions(s string, own []string) ([]string, error) {
	taken := slices.Concat(actions.Names(), []string{noop, workNone}, own)
	var names []string
	for _, name := range splitList(strings.ReplaceAll(s, ";", ",")) {
		if !actions.IsName(name) {
			return nil, notAllowed(name, "names of 1 to 64 letters, digits, _ and -, each the file of an extension")
		}
		if slices.Contains(taken, name) {
			return nil, notAllowed(name, "names other than those of the actions that are there already: "+strings.Join(taken, ", "))
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// workNone is the value of --work for a replica that runs nothing.
const workNone = "none"

// parseWork reads names, or "none".
func parseWork(s string, known []string) ([]string, error) {
	if strings.EqualFold(strings.TrimSpace(s), workNone) {
		return []string{}, nil
	}
	return parseNames(s, known)
}

// parseSlots reads "http=200,shell=8".
func parseSlots(s string, known []string) (map[string]int, error) {
	slots := make(map[string]int)
	for _, item := range splitList(s) {
		name, count, ok := strings.Cut(item, "=")
		if !ok || !slices.Contains(known, name) {
			return nil, notAllowed(item, "NAME=N, with commas between; NAME is one of "+strings.Join(known, ", "))
		}
		n, err := parseInt(count, 1, 1_000_000)
		if err != nil {
			return nil, err
		}
		slots[name] = n
	}
	return slots, nil
}

// splitList splits at commas, without blanks and empty items.
func splitList(s string) []string {
	var items []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// parsePath makes a path absolute, because a daemon leaves the directory it was
// started in.
func parsePath(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	return filepath.Abs(s)
}

// parseLevel reads a log level by the names that Python and zerolog have for it.
func parseLevel(s string) (zerolog.Level, error) {
	switch strings.ToLower(s) {
	case "trace":
		return zerolog.TraceLevel, nil
	case "debug":
		return zerolog.DebugLevel, nil
	case "info":
		return zerolog.InfoLevel, nil
	case "warning", "warn":
		return zerolog.WarnLevel, nil
	case "error":
		return zerolog.ErrorLevel, nil
	case "critical", "fatal":
		return zerolog.FatalLevel, nil
	}
	return 0, notAllowed(s, "DEBUG, INFO, WARNING, ERROR, CRITICAL")
}

// oneLine writes an error, which may be several joined, on one line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
