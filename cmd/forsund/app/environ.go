package app

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// envPrefix begins the name of every variable that means something to forsun.
const envPrefix = "FORSUN_"

// otherVariables have the prefix and are not forsund's: the command line's, and
// what a shell plan gets, which may start one or the other.
func otherVariables() []string {
	return []string{
		"FORSUN_HOST", "FORSUN_PORT", "FORSUN_TOKEN_FILE",
		"FORSUN_TLS", "FORSUN_TLS_CA", "FORSUN_TLS_CERT", "FORSUN_TLS_KEY", "FORSUN_TLS_SERVER_NAME",
		"FORSUN_TIMESTAMP", "FORSUN_KEY", "FORSUN_FIRING_ID", "FORSUN_ATTEMPT",
	}
}

// linkVariable matches what Kubernetes and Docker put into a container beside a
// service whose name begins with "forsun".
var linkVariable = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`)

// CheckEnvironment returns a *UsageError that names a variable of environ
// (NAME=value) that begins with FORSUN_ and means nothing, and what was probably
// meant: a misspelt one would have no effect, and nobody would notice.
func CheckEnvironment(environ []string) error {
	known := make(map[string]string) // and what to say instead
	for _, g := range flags() {
		for _, f := range g.flags {
			known[f.envName()] = f.envName()
		}
	}
	// The Python forsun reads PORT, STORE_REDIS_HOST, ACTION_SHELL_CWD.
	python := make(map[string]string)
	for _, n := range pythonNames() {
		if n.option != "" {
			name := n.name
			if n.section != "" && n.name != "extensions" {
				name = n.section + "_" + name
			}
			python[envPrefix+strings.ToUpper(name)] = (&flag{name: n.option}).envName()
		}
	}
	for _, variable := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(variable, "=")
		switch {
		case !strings.HasPrefix(name, envPrefix), strings.HasPrefix(name, "FORSUN_SECRET_"), known[name] != "", slices.Contains(otherVariables(), name):
		case linkVariable.MatchString(name), notOurs(strings.ToLower(strings.TrimPrefix(name, envPrefix)), value):
		case python[name] != "":
			return &UsageError{name, "no option has this variable; " + python[name] + " is what it is here"}
		default:
			reason := "no option has this variable"
			if near := nearest(name, slices.Collect(maps.Keys(known))); near != "" {
				reason += ", did you mean " + near + "?"
			}
			return &UsageError{name, reason + " (forsund -h lists the options)"}
		}
	}
	return nil
}
