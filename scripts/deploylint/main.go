// Command deploylint checks the files under deploy/: that each is what the tools
// it is for take, strictly, and that they agree with forsund and with each other,
// about options, ports, the paths of health checks, and how long a stop may take.
//
//	deploylint -forsund PROGRAM DIR
//
// It prints everything that is wrong and exits with 1. It is a module of its own,
// since it needs the parsers of those tools, and forsun does not.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// What forsund has beside its options.
const (
	thriftPort = 6458
	httpPort   = 9002
	adminPort  = 6459
	livePath   = "/livez"
	readyPath  = "/readyz"
	// stopMargin is what a stop may take beyond the drain: app.stopMargin.
	stopMargin = 15 * time.Second
)

func main() {
	forsund := flag.String("forsund", "forsund", "the program to ask what options mean")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: deploylint -forsund PROGRAM DIR")
		os.Exit(2)
	}
	l := &lint{dir: flag.Arg(0), forsund: *forsund}
	l.dockerfile("Dockerfile")
	l.compose("compose.yaml")
	l.kubernetes("kubernetes")
	for _, w := range l.wrong {
		fmt.Fprintln(os.Stderr, w)
	}
	if len(l.wrong) > 0 {
		os.Exit(1)
	}
}

// lint is one run.
type lint struct {
	dir     string // deploy/
	forsund string
	wrong   []string
}

// bad notes what is wrong with a file.
func (l *lint) bad(file, format string, args ...any) {
	l.wrong = append(l.wrong, file+": "+fmt.Sprintf(format, args...))
}

// want notes it unless ok.
func (l *lint) want(ok bool, file, format string, args ...any) {
	if !ok {
		l.bad(file, format, args...)
	}
}

func (l *lint) read(file string) []byte {
	data, err := os.ReadFile(filepath.Join(l.dir, file))
	if err != nil {
		l.bad(file, "%v", err)
	}
	return data
}

// config asks forsund what arguments and environment add up to: option → value;
// nil if it refuses them.
func (l *lint) config(file string, args, env []string) map[string]string {
	cmd := exec.Command(l.forsund, append([]string{"config"}, args...)...)
	cmd.Env = append([]string{"HOME=/nonexistent", "PATH=/usr/bin:/bin"}, env...)
	out, err := cmd.Output()
	if err != nil {
		reason := err.Error()
		if exit, ok := err.(*exec.ExitError); ok {
			reason = strings.TrimSpace(string(exit.Stderr))
		}
		l.bad(file, "forsund does not start like this: %s", reason)
		return nil
	}
	options := make(map[string]string)
	row := regexp.MustCompile(`^(\S+)  +(.*?)  +\S.*$`)
	for line := range strings.Lines(string(out)) {
		if m := row.FindStringSubmatch(strings.TrimSpace(line)); m != nil && m[1] != "OPTION" {
			options[m[1]] = m[2]
		}
	}
	if len(options) < 40 {
		l.bad(file, "forsund config printed %d options only", len(options))
		return nil
	}
	return options
}

// serves checks that a forsund of a container is reached on the ports there are; on
// the admin port, which lets everybody in, from the host admin.
func (l *lint) serves(file string, options map[string]string, admin string) {
	if options == nil {
		return
	}
	for _, o := range []struct{ name, want string }{
		{"bind", "0.0.0.0"},
		{"port", fmt.Sprint(thriftPort)},
		{"http", fmt.Sprintf("0.0.0.0:%d", httpPort)},
		{"admin", fmt.Sprintf("%s:%d", admin, adminPort)},
		{"demon", "false"},
	} {
		l.want(options[o.name] == o.want, file, "--%s is %s, want %s", o.name, options[o.name], o.want)
	}
}

// stops checks that whoever stops a forsund waits for as long as that may take.
func (l *lint) stops(file string, options map[string]string, patience time.Duration, before time.Duration) {
	if options == nil {
		return
	}
	drain, err := time.ParseDuration(options["drain-timeout"])
	if err != nil {
		l.bad(file, "--drain-timeout: %v", err)
		return
	}
	if need := before + drain + stopMargin; patience < need {
		l.bad(file, "a stop may take %v (%v before it, the drain of %v, %v after it), and is cut off after %v", need, before, drain, stopMargin, patience)
	}
}

// probe checks the URL of a health check.
func (l *lint) probe(file, url string) {
	want := []string{
		fmt.Sprintf("http://127.0.0.1:%d%s", adminPort, readyPath),
		fmt.Sprintf("http://127.0.0.1:%d%s", adminPort, livePath),
	}
	l.want(slices.Contains(want, url), file, "the health check asks %q, want one of %q", url, want)
}

// url returns the URL among the words of a command.
func url(words []string) string {
	i := slices.IndexFunc(words, func(w string) bool { return strings.Contains(w, "://") })
	if i < 0 {
		return ""
	}
	return words[i]
}
