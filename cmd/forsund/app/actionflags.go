package app

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/snower/forsun/actions"
)

// actionOptions are defaults of the actions' parameters, and bounds of their
// connections.
type actionOptions struct {
	idle     time.Duration // an unused connection is closed after this
	shellCwd string

	httpConnect   time.Duration
	httpRequest   time.Duration
	httpUserAgent string // "": forsun/VERSION

	redisConnections     int
	redisIdle            time.Duration // 0: idle
	thriftConnections    int
	beanstalkConnections int

	mysqlUser        string
	mysqlPasswd      string
	mysqlPasswdFile  string // absolute; "": none
	mysqlConnections int
	mysqlWait        time.Duration // 0: as long as the attempt may take
	mysqlIdle        time.Duration // 0: idle
}

// actionFlags are the options of what plans run.
func actionFlags() []flag {
	d := actions.DefaultOptions("")
	seconds := between(time.Second, 24*time.Hour)
	connections := intBetween(1, 1024)
	number := func(name, action string, def int, place func(*actionOptions) *int) flag {
		return flag{
			name: name, value: "N", fallback: fmt.Sprint(def), usage: "connections in use at a time to one " + action + " server, where its first plan sets no max_connections",
			set: into(connections, func(o *Options) *int { return place(&o.Action) }),
		}
	}
	const anHour = time.Hour
	return []flag{
		{
			name: "action-idle", value: "TIME", fallback: shortDuration(d.Thrift.IdleTime), usage: "a connection that no firing uses is closed after this",
			set: into(seconds, func(o *Options) *time.Duration { return &o.Action.idle }),
		},
		{
			name: "action-shell-cwd", value: "DIRECTORY", fallback: d.Shell.Cwd, usage: "directory of commands, where the plan sets no cwd",
			set: into(parseDir, func(o *Options) *string { return &o.Action.shellCwd }),
		},
		{
			name: "action-http-connect-timeout", value: "TIME", fallback: shortDuration(d.HTTP.ConnectTimeout), usage: "to connect, TLS included, where the plan sets no connect_timeout",
			set: into(between(time.Millisecond, anHour), func(o *Options) *time.Duration { return &o.Action.httpConnect }),
		},
		{
			name: "action-http-request-timeout", value: "TIME", fallback: shortDuration(d.HTTP.RequestTimeout), usage: "for all of a request, where the plan sets no request_timeout",
			set: into(between(time.Millisecond, anHour), func(o *Options) *time.Duration { return &o.Action.httpRequest }),
		},
		{
			name: "action-http-user-agent", value: "TEXT", usage: "User-Agent of requests, where the plan sets no user_agent", showing: "forsun/VERSION",
			set: into(parseUserAgent, func(o *Options) *string { return &o.Action.httpUserAgent }),
		},
		number("action-redis-max-connections", "Redis", d.Redis.MaxConnections, func(o *actionOptions) *int { return &o.redisConnections }),
		{
			name: "action-redis-idle", value: "TIME", usage: "as --action-idle, of redis plans", showing: "--action-idle",
			set: into(seconds, func(o *Options) *time.Duration { return &o.Action.redisIdle }),
		},
		number("action-thrift-max-connections", "Thrift", d.Thrift.MaxConnections, func(o *actionOptions) *int { return &o.thriftConnections }),
		{
			name: "action-beanstalk-max-connections", value: "N", fallback: fmt.Sprint(d.Beanstalk.MaxConnections), usage: "connections in use at a time to one beanstalkd server",
			set: into(connections, func(o *Options) *int { return &o.Action.beanstalkConnections }),
		},
		{
			name: "action-mysql-user", value: "USER", fallback: d.MySQL.User, usage: "user of mysql plans that name none",
			set: into(parseUser, func(o *Options) *string { return &o.Action.mysqlUser }),
		},
		{
			name: "action-mysql-passwd", value: "PASSWORD", usage: "password of mysql plans that name neither user nor passwd; better given in the environment, or in a file", showing: "none",
			set: into(parseText, func(o *Options) *string { return &o.Action.mysqlPasswd }),
		},
		{
			name: "action-mysql-passwd-file", value: "FILE", usage: "file that holds it", showing: "none",
			set: into(parsePath, func(o *Options) *string { return &o.Action.mysqlPasswdFile }),
		},
		number("action-mysql-max-connections", "MySQL", d.MySQL.MaxConnections, func(o *actionOptions) *int { return &o.mysqlConnections }),
		{
			name: "action-mysql-wait", value: "TIME", usage: "how long an attempt may wait for one of them to be free", showing: "as long as the attempt may take",
			set: into(seconds, func(o *Options) *time.Duration { return &o.Action.mysqlWait }),
		},
		{
			name: "action-mysql-idle", value: "TIME", usage: "as --action-idle, of mysql plans", showing: "--action-idle",
			set: into(seconds, func(o *Options) *time.Duration { return &o.Action.mysqlIdle }),
		},
	}
}

// check finds what is wrong with the options together.
func (a *actionOptions) check() error {
	if a.mysqlPasswd != "" && a.mysqlPasswdFile != "" {
		return &UsageError{"--action-mysql-passwd-file", "not together with --action-mysql-passwd"}
	}
	return nil
}

// into puts the options into those of the registry. It reads the file that was
// named.
func (a *actionOptions) into(o *actions.Options) error {
	for _, s := range []*actions.ServerOptions{&o.Redis.ServerOptions, &o.Thrift.ServerOptions, &o.Beanstalk.ServerOptions, &o.MySQL.ServerOptions} {
		s.IdleTime = a.idle
	}
	o.HTTP.IdleTime = a.idle
	o.Shell.Cwd = a.shellCwd
	o.HTTP.ConnectTimeout, o.HTTP.RequestTimeout = a.httpConnect, a.httpRequest
	if a.httpUserAgent != "" {
		o.HTTP.UserAgent = a.httpUserAgent
	}
	o.Redis.MaxConnections, o.Thrift.MaxConnections = a.redisConnections, a.thriftConnections
	o.Beanstalk.MaxConnections, o.MySQL.MaxConnections = a.beanstalkConnections, a.mysqlConnections
	if a.redisIdle > 0 {
		o.Redis.IdleTime = a.redisIdle
	}
	if a.mysqlIdle > 0 {
		o.MySQL.IdleTime = a.mysqlIdle
	}
	o.MySQL.User, o.MySQL.Passwd, o.MySQL.Wait = a.mysqlUser, a.mysqlPasswd, a.mysqlWait
	if a.mysqlPasswdFile != "" {
		b, err := os.ReadFile(a.mysqlPasswdFile)
		if err != nil {
			return fmt.Errorf("--action-mysql-passwd-file: %w", err)
		}
		o.MySQL.Passwd = strings.TrimRight(string(b), "\r\n")
	}
	return nil
}

// parseRate reads a factor.
func parseRate(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || f < 0 || f > 100 {
		return 0, notAllowed(s, "a number from 0 to 100, decimals allowed")
	}
	return f, nil
}

// parseDir reads a directory, which need not be there yet.
func parseDir(s string) (string, error) {
	if s == "" || strings.ContainsRune(s, 0) {
		return "", notAllowed(s, "a directory")
	}
	return parsePath(s)
}

func parseUserAgent(s string) (string, error) {
	o := actions.DefaultHTTPOptions()
	o.UserAgent = s
	if o.Validate() != nil {
		return "", notAllowed(s, "printable text")
	}
	return s, nil
}

func parseUser(s string) (string, error) {
	if s == "" {
		return "", notAllowed(s, "an account's name")
	}
	return s, nil
}

func parseText(s string) (string, error) { return s, nil }
