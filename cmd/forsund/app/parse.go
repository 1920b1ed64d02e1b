package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// Parse reads a command line, without the program's name, and the environment:
// an option on the command line outweighs its FORSUN_ variable, which outweighs
// the default. Every error is a *UsageError and fits on a line.
func Parse(args []string, env func(string) (string, bool)) (*Options, error) {
	groups := flags()
	given, err := parseArgs(args, groups)
	if err != nil {
		return nil, err
	}
	if given["help"] == "true" {
		return &Options{Help: true}, nil // whatever else is right or wrong
	}
	o := new(Options)
	for _, g := range groups {
		for _, f := range g.flags {
			value, source := f.fallback, "--"+f.name
			if v, ok := given[f.name]; ok {
				value = v
			} else if v, ok := env(f.envName()); ok && v != "" && !notOurs(f.name, v) {
				value, source = v, f.envName()
			} else if value == "" {
				continue
			}
			if err := f.set(o, value); err != nil {
				return nil, &UsageError{source, err.Error()}
			}
		}
	}
	if o.Version {
		return o, nil
	}
	for name := range given { // those of the environment may be there for others
		if o.Driver == driverMem && strings.HasPrefix(name, "driver-redis-") {
			o.Idle = append(o.Idle, "--"+name)
		}
	}
	slices.Sort(o.Idle)
	return o, o.finish(env)
}

// notOurs recognises variables that have the name of an option and another
// meaning: FORSUN_VERSION, which images like to set, and what Kubernetes puts into
// every container beside a service named "forsun": FORSUN_PORT=tcp://10.0.0.1:6458.
func notOurs(name, value string) bool {
	return name == "version" || name == "help" || name == "port" && strings.Contains(value, "://")
}

// parseArgs returns the options given on the command line.
func parseArgs(args []string, groups []group) (map[string]string, error) {
	given := make(map[string]string)
	app := &cli.App{
		Name:                      "forsund",
		HideHelp:                  true,
		HideVersion:               true,
		DisableSliceFlagSeparator: true,
		Writer:                    io.Discard,
		ErrWriter:                 io.Discard,
		ExitErrHandler:            func(*cli.Context, error) {},
	}
	var switches []string
	for _, g := range groups {
		for _, f := range g.flags {
			var aliases []string
			if f.name == "help" {
				aliases = []string{"h"}
			}
			switch {
			case f.value == "":
				switches = append(switches, f.name)
				app.Flags = append(app.Flags, &cli.BoolFlag{Name: f.name, Aliases: aliases})
			case f.list:
				app.Flags = append(app.Flags, &cli.StringSliceFlag{Name: f.name})
			default:
				app.Flags = append(app.Flags, &cli.StringFlag{Name: f.name})
			}
		}
	}
	app.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return usageError(err, app.Flags) }
	app.Action = func(c *cli.Context) error {
		delete(given, "help")
		if c.NArg() > 0 {
			return &UsageError{"", fmt.Sprintf("%q: forsund takes options only (forsund -h lists them)", c.Args().First())}
		}
		for _, g := range groups {
			for _, f := range g.flags {
				if !c.IsSet(f.name) {
					continue
				}
				switch {
				case f.value == "":
					given[f.name] = fmt.Sprint(c.Bool(f.name))
				case f.list:
					given[f.name] = strings.Join(c.StringSlice(f.name), ",")
				default:
					given[f.name] = c.String(f.name)
				}
				// "--log --demon" would log to a file of that name.
				if strings.HasPrefix(given[f.name], "--") {
					return &UsageError{"--" + f.name, fmt.Sprintf("needs a value, not the option %s", given[f.name])}
				}
			}
		}
		return nil
	}
	given["help"] = "true" // which keeps the library from calling Action
	err := app.RunContext(context.Background(), append([]string{"forsund"}, foldSwitches(args, switches)...))
	return given, err
}

// foldSwitches rewrites "--demon true" as "--demon=true", which is how argparse
// users write what would otherwise end the options; and other words for true
// and false as these.
func foldSwitches(args, switches []string) []string {
	folded := make([]string, 0, len(args))
	for i := 0; i < len(args); i++ {
		arg := args[i]
		name, value, joined := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !strings.HasPrefix(arg, "-") || !slices.Contains(switches, name) {
			folded = append(folded, arg)
			continue
		}
		if !joined && i+1 < len(args) {
			value = args[i+1]
		}
		if on, err := parseBool(value); err == nil {
			arg = fmt.Sprintf("--%s=%t", name, on)
			if !joined {
				i++
			}
		}
		folded = append(folded, arg)
	}
	return folded
}

// usageError turns what package flag says (in words only: it has no error
// types) into ours.
func usageError(err error, flags []cli.Flag) error {
	var ours *UsageError
	if errors.As(err, &ours) {
		return err
	}
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		reason := "no such option"
		if near := cli.SuggestFlag(flags, name, true); len(name) > 2 && near != "" {
			reason += ", did you mean " + near + "?"
		}
		return &UsageError{"--" + strings.TrimLeft(name, "-"), reason + " (forsund -h lists them)"}
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return &UsageError{"--" + strings.TrimLeft(name, "-"), "needs a value"}
	}
	if rest, ok := strings.CutPrefix(text, "invalid boolean value "); ok {
		if value, name, ok := strings.Cut(rest, " for -"); ok {
			name, _, _ = strings.Cut(name, ":")
			return &UsageError{"--" + name, value + " is not allowed; allowed: true or false"}
		}
	}
	return &UsageError{"", text}
}
