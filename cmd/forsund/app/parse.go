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

// configCommand is the word before the options that asks for what they add up to.
const configCommand = "config"

// Parse reads a command line, without the program's name, the configuration file
// that it names, and the environment: an option on the command line outweighs the
// file, which outweighs the option's FORSUN_ variable, which outweighs the
// default. own are the names of actions of a main of its own. Every error is a
// *UsageError and fits on a line.
func Parse(args []string, env func(string) (string, bool), own ...string) (*Options, error) {
	groups := flags()
	config := len(args) > 0 && args[0] == configCommand
	if config {
		args = args[1:]
	}
	given, err := parseArgs(args, groups)
	if err != nil {
		return nil, err
	}
	if given["help"] == "true" {
		return &Options{Help: true}, nil // whatever else is right or wrong
	}
	o := &Options{Config: config, own: own}
	file, err := givenConf(groups, given, env)
	if err != nil {
		return nil, err
	}
	o.settings = resolve(groups, given, file, env)
	if file != nil {
		o.Notices = file.notices
	}
	if err := apply(o, o.settings); err != nil {
		return nil, err
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
	return o, whence(o.finish(env), o.settings)
}

// givenConf reads the configuration file that the command line names, or the
// environment; nil: neither does.
func givenConf(groups []group, given map[string]string, env func(string) (string, bool)) (*conf, error) {
	path, ok := given["conf"]
	if !ok {
		path, ok = env(envPrefix + "CONF")
	}
	if !ok || path == "" || given["version"] == "true" {
		return nil, nil
	}
	return readConf(path, groups)
}

// notOurs recognises variables that have the name of an option, in small letters
// and without the prefix, and another meaning: FORSUN_VERSION, which images like
// to set, and what Kubernetes puts into every container beside a service named
// "forsun": FORSUN_PORT=tcp://10.0.0.1:6458.
func notOurs(name, value string) bool {
	return name == "version" || name == "help" || strings.HasSuffix(name, "port") && strings.Contains(value, "://")
}

// plainVariable is the name of an option as notOurs has it.
func plainVariable(name string) string { return strings.ReplaceAll(name, "-", "_") }

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
	all := app.Flags
	app.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return usageError(err, all) }
	// The library compares each flag with each: it gets those that may be meant.
	app.Flags = slices.DeleteFunc(slices.Clone(all), func(f cli.Flag) bool { return !mentioned(args, f.Names()) })
	app.Action = func(c *cli.Context) error {
		delete(given, "help")
		if c.NArg() > 0 {
			return strayWord(c.Args().First())
		}
		set := c.LocalFlagNames() // IsSet looks through all flags for each
		for _, g := range groups {
			for _, f := range g.flags {
				if !slices.Contains(set, f.name) {
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

// mentioned says whether one of args may be an option of one of these names.
func mentioned(args, names []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		return slices.Contains(names, name)
	})
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
