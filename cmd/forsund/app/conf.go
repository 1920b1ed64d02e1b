package app

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// pythonName is a setting of the Python forsun's configuration file: where it
// stands there, and what it is here.
type pythonName struct {
	section string // "" before the first section
	name    string
	option  string                       // the flag it stands for; "" if it has no meaning here
	why     string                       // it has no meaning: said in a notice
	value   func(string) (string, error) // its value as the flag's; nil: the same
}

// pythonNames are all of them, in the order of the Python forsun's own example.
func pythonNames() []pythonName {
	const (
		pipelined = "forsund sends what there is to Redis in pipelines over few connections"
		noExpiry  = "keys of forsund do not expire: plans stay until they are done"
	)
	slots := func(action string) func(string) (string, error) {
		return func(s string) (string, error) { return action + "=" + s, nil }
	}
	return []pythonName{
		{name: "port", option: "port"},
		{name: "bind_address", option: "bind"},
		{name: "http_bind", option: "http"},
		{name: "server_mode", option: "lead", value: leadOfMode},
		{name: "log_file", option: "log"},
		{name: "log_level", option: "log-level"},
		{name: "log_format", option: "log-format"},
		{name: "log_rotate", option: "log-rotate"},
		{name: "log_backup_count", option: "log-backup-count"},

		{section: "store", name: "driver", option: "driver"},
		{section: "store", name: "status_expried", why: "finished attempts are in the history (forsun history)"},
		{section: "store", name: "mem_store_file", option: "driver-mem-store-file"},
		{section: "store", name: "mem_time_rate", why: "the embedded store has every plan on disk when it is answered (--driver-mem-sync)"},
		{section: "store", name: "redis_host", option: "driver-redis-host"},
		{section: "store", name: "redis_port", option: "driver-redis-port"},
		{section: "store", name: "redis_db", option: "driver-redis-db"},
		{section: "store", name: "redis_password", option: "driver-redis-password"},
		{section: "store", name: "redis_prefix", option: "driver-redis-prefix"},
		{section: "store", name: "redis_server_id", option: "driver-redis-server-id"},
		{section: "store", name: "redis_max_connections", why: pipelined},
		{section: "store", name: "redis_client_timeout", why: "the connections to the store stay open"},
		{section: "store", name: "redis_bulk_size", why: pipelined},
		{section: "store", name: "redis_currenttime_expried", why: noExpiry},
		{section: "store", name: "redis_plan_expried", why: noExpiry},
		{section: "store", name: "redis_plantime_expried", why: noExpiry},

		{section: "action", name: "retry_delay_seconds", option: "retry-delay"},
		{section: "action", name: "retry_delay_rate", option: "retry-delay-rate"},
		{section: "action", name: "retry_max_count", option: "retries"},
		{section: "action", name: "poll_idle_seconds", option: "action-idle"},
		{section: "action", name: "shell_cwd", option: "action-shell-cwd"},
		{section: "action", name: "http_max_clients", option: "slots", value: slots("http")},
		{section: "action", name: "http_connect_timeout", option: "action-http-connect-timeout"},
		{section: "action", name: "http_request_timeout", option: "action-http-request-timeout"},
		{section: "action", name: "http_user_agent", option: "action-http-user-agent"},
		{section: "action", name: "redis_max_connections", option: "action-redis-max-connections"},
		{section: "action", name: "redis_client_timeout", option: "action-redis-idle"},
		{section: "action", name: "redis_bulk_size", why: "the commands of a firing go out together, those of different firings apart"},
		{section: "action", name: "thrift_max_connections", option: "action-thrift-max-connections"},
		{section: "action", name: "mysql_user", option: "action-mysql-user"},
		{section: "action", name: "mysql_passwd", option: "action-mysql-passwd"},
		{section: "action", name: "mysql_max_connections", option: "action-mysql-max-connections"},
		{section: "action", name: "mysql_wait_connection_timeout", option: "action-mysql-wait"},
		{section: "action", name: "mysql_idle_seconds", option: "action-mysql-idle"},

		{section: "extension", name: "path", option: "extension-path"},
		{section: "extension", name: "extensions", option: "extension", value: func(s string) (string, error) {
			return strings.ReplaceAll(s, ";", ","), nil
		}},
	}
}

// leadOfMode reads server_mode: an AGENT serves requests and leads no shard.
func leadOfMode(s string) (string, error) {
	switch strings.ToUpper(s) {
	case "TIMER":
		return "true", nil
	case "AGENT":
		return "false", nil
	}
	return "", notAllowed(s, "TIMER, AGENT")
}

// confValue is what a configuration file says of an option.
type confValue struct {
	value string // in the flag's form
	from  string // FILE:LINE: NAME
}

// conf is a configuration file, read: what it says of each option by name.
type conf struct {
	values  map[string][]confValue // several only of an option whose sources add up
	notices []string               // what was accepted and means nothing
}

// readConf reads a configuration file. One rule: before the first section stand
// options of forsund by the names of their flags, and of the Python forsun's
// names those that it has there; in its sections stand its names. Names are read
// in any case, with - and _ alike; a value that is empty counts as not given.
// Every error is a *UsageError.
func readConf(path string, groups []group) (*conf, error) {
	lines, err := readINI(path)
	if err != nil {
		return nil, &UsageError{"--conf", err.Error()}
	}
	names := confNames(groups)
	c := &conf{values: make(map[string][]confValue)}
	seen := make(map[string]int)
	for _, line := range lines {
		from := fmt.Sprintf("%s:%d: %s", path, line.number, line.name)
		fail := func(reason string) (*conf, error) { return nil, &UsageError{from, reason} }
		known, ok := names[place{line.section, plainName(line.name)}]
		if !ok {
			return fail(unknownName(line, names))
		}
		if known.option == "conf" || known.option == "help" || known.option == "version" {
			return fail("belongs on the command line")
		}
		// By option, so that log and log_file cannot contradict each other.
		what := known.option
		if known.option == "" || known.value != nil {
			what = known.section + " " + known.name
		}
		if before := seen[what]; before != 0 {
			return fail(fmt.Sprintf("was said in line %d already", before))
		}
		seen[what] = line.number
		value := line.value
		switch {
		case value == "":
			continue
		case known.option == "":
			c.notices = append(c.notices, fmt.Sprintf("%s means nothing here: %s", from, known.why))
			continue
		case known.value != nil:
			if value, err = known.value(value); err != nil {
				return fail(err.Error())
			}
		}
		if other := c.values[known.option]; len(other) > 0 && !mergeable(groups, known.option) {
			return fail(fmt.Sprintf("was said already, by %s", other[0].from))
		}
		c.values[known.option] = append(c.values[known.option], confValue{value, from})
	}
	c.checkMode(path)
	return c, nil
}

// checkMode notes a file that holds a password and that others may read.
func (c *conf) checkMode(path string) {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o004 == 0 {
		return
	}
	for option := range c.values {
		if isSecret(option) {
			c.notices = append(c.notices, fmt.Sprintf("%s holds a password, and everybody on this machine may read it (mode %04o)", path, info.Mode().Perm()))
			return
		}
	}
}

// place is where a name may stand.
type place struct{ section, name string }

// plainName is a name as places have it.
func plainName(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

// confNames are all names that a file may have, by where they stand.
func confNames(groups []group) map[place]pythonName {
	names := make(map[place]pythonName)
	for _, g := range groups {
		for _, f := range g.flags {
			names[place{"", f.name}] = pythonName{name: f.name, option: f.name}
		}
	}
	for _, n := range pythonNames() {
		names[place{n.section, plainName(n.name)}] = n
	}
	return names
}

func mergeable(groups []group, option string) bool {
	for _, g := range groups {
		for _, f := range g.flags {
			if f.name == option {
				return f.merge
			}
		}
	}
	return false
}

// unknownName says what may have been meant by a name that there is not.
func unknownName(line iniLine, names map[place]pythonName) string {
	var here, sections []string
	for at, n := range names {
		if at.section == line.section {
			here = append(here, n.name)
		}
		if at.section != "" && !slices.Contains(sections, at.section) {
			sections = append(sections, at.section)
		}
	}
	if line.section != "" && !slices.Contains(sections, line.section) {
		reason := fmt.Sprintf("there is no section [%s]", line.section)
		if near := nearest(line.section, sections); near != "" {
			return reason + fmt.Sprintf(", did you mean [%s]?", near)
		}
		slices.Sort(sections)
		return reason + "; there are [" + strings.Join(sections, "], [") + "], and options of forsund belong before the first section"
	}
	name := plainName(line.name)
	if _, ok := names[place{"", name}]; ok {
		return fmt.Sprintf("belongs before the first section, not in [%s]", line.section)
	}
	slices.Sort(sections)
	for _, section := range sections {
		if _, ok := names[place{section, name}]; ok {
			return fmt.Sprintf("belongs in [%s]", section)
		}
	}
	reason := "no such setting"
	if line.section != "" {
		reason += " in [" + line.section + "]"
	}
	if near := nearest(line.name, here); near != "" {
		return reason + ", did you mean " + near + "?"
	}
	return reason + " (forsund config lists them)"
}
