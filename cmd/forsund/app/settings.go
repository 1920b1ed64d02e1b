package app

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/snower/forsun/scheduler"
)

// setting is the value of an option, and where it came from.
type setting struct {
	flag  *flag
	value string
	from  string // "--port", "FORSUN_PORT", "FILE:LINE: NAME"; "" for the default
}

// isSecret says whether an option's value is nobody's business, by the option's
// name. A file that holds a secret is named openly.
func isSecret(option string) bool {
	for _, suffix := range []string{"password", "passwd", "secret", "token"} {
		if strings.HasSuffix(option, suffix) {
			return true
		}
	}
	return false
}

// resolve finds the value of every option: that of the command line, else of the
// file, else of the environment, else the default. Of an option whose sources add
// up they are all there, what outweighs behind what it outweighs.
func resolve(groups []group, given map[string]string, file *conf, env func(string) (string, bool)) []setting {
	var all []setting
	for _, g := range groups {
		for i := range g.flags {
			f := &g.flags[i]
			var said []confValue // weakest first
			if v, ok := env(f.envName()); ok && v != "" && !notOurs(plainVariable(f.name), v) {
				said = append(said, confValue{v, f.envName()})
			}
			if file != nil {
				said = append(said, file.values[f.name]...)
			}
			if v, ok := given[f.name]; ok {
				said = append(said, confValue{v, "--" + f.name})
			}
			s := setting{flag: f, value: f.fallback}
			for _, by := range said {
				if f.merge && s.from != "" {
					s.value, s.from = s.value+","+by.value, s.from+", "+by.from
				} else {
					s.value, s.from = by.value, by.from
				}
			}
			all = append(all, s)
		}
	}
	return all
}

// apply puts the settings into o. The error is a *UsageError.
func apply(o *Options, settings []setting) error {
	for _, s := range settings {
		if s.value == "" && s.from == "" {
			continue
		}
		if err := s.flag.set(o, s.value); err != nil {
			from := s.from
			if from == "" {
				from = "--" + s.flag.name
			}
			return &UsageError{from, err.Error()}
		}
	}
	return nil
}

// whence names the place where an option that err complains about was set, if
// that was not the command line.
func whence(err error, settings []setting) error {
	usage := (*UsageError)(nil)
	if !errors.As(err, &usage) {
		return err
	}
	for _, s := range settings {
		if usage.Option == "--"+s.flag.name && s.from != "" {
			return &UsageError{s.from, usage.Reason}
		}
	}
	return err
}

// from returns where an option was set; "" for its default.
func (o *Options) from(option string) string {
	for _, s := range o.settings {
		if s.flag.name == option {
			return s.from
		}
	}
	return ""
}

// ConfigText is what "forsund config" prints: every option, its value, and where
// that came from; and what of the configuration file means nothing. Secrets are
// masked.
func (o *Options) ConfigText() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "OPTION\tVALUE\tFROM")
	for _, s := range o.settings {
		if s.flag.name == "help" || s.flag.name == "version" {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.flag.name, s.shown(), s.source())
	}
	w.Flush()
	for _, n := range o.Notices {
		b.WriteString("\n" + n)
	}
	if len(o.Notices) > 0 {
		b.WriteString("\n")
	}
	return b.String()
}

// shown is the value for people: without secrets, and in words if there is none.
func (s setting) shown() string {
	switch {
	case isSecret(s.flag.name) && s.value != "":
		return scheduler.Masked
	case s.value == "" && s.flag.value == "":
		return "false"
	case s.value == "" && s.flag.showing != "":
		return "(" + s.flag.showing + ")"
	case s.value == "":
		return "(none)"
	}
	return scheduler.MaskText(s.value)
}

func (s setting) source() string {
	if s.from == "" {
		return "default"
	}
	return s.from
}
