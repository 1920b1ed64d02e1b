package cli

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/snower/forsun/rpc/access"
	"github.com/snower/forsun/scheduler"
)

// output is a form of what is printed.
type output string

const (
	outputTable output = "table" // columns with a header where they help, else lines
	outputText  output = "text"  // lines; several values in tab-separated columns
	outputJSON  output = "json"  // one JSON document a command, or one a line for lists
)

// Options is what the program was asked to do, read and checked. parse makes
// them.
type Options struct {
	Help    bool
	Version bool

	Host    string
	Port    int
	Output  output
	Timeout time.Duration // bound on one request to the server

	Token string      // to show; "": none
	TLS   *tls.Config // to speak TLS with; nil: no TLS

	Words []string // one: a line; several: the words of one command; none: the prompt

	completing bool // Words are a command line to be completed
}

// Address is the server's, host:port.
func (o *Options) Address() string { return net.JoinHostPort(o.Host, strconv.Itoa(o.Port)) }

// completeWord begins the arguments with which completion scripts ask for
// candidates.
const completeWord = "__complete"

// optionNames are the options of the program and whether they take a value.
func optionNames() map[string]bool {
	return map[string]bool{
		"host": true, "port": true, "exe": true, "output": true, "o": true, "timeout": true,
		"token-file": true, "tls": false, "tls-ca": true, "tls-cert": true, "tls-key": true, "tls-server-name": true,
		"help": false, "h": false, "version": false,
	}
}

// parse reads a command line, without the program's name, and the environment. An
// option on the command line outweighs its variable, which outweighs the default.
// Options may stand before or after the command, as argparse has it; after "--"
// everything is a word.
func parse(args []string, env func(string) (string, bool)) (*Options, error) {
	completing := len(args) > 0 && args[0] == completeWord
	if completing {
		args = args[1:]
	}
	last := len(args)
	if completing && last > 0 {
		last-- // what is being completed is a word, whatever it looks like
	}
	front, words, err := splitOptions(args[:last], completing)
	if err != nil {
		return nil, err
	}
	words = append(words, args[last:]...)
	o := &Options{Words: words, completing: completing}
	app := &cli.App{
		Name: "forsun",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "host", Value: envOr(env, "FORSUN_HOST", "127.0.0.1")},
			&cli.StringFlag{Name: "port", Value: envOr(env, "FORSUN_PORT", "6458")},
			&cli.StringFlag{Name: "exe"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: string(outputTable)},
			&cli.StringFlag{Name: "timeout", Value: "10s"},
			&cli.StringFlag{Name: "token-file", Value: envOr(env, "FORSUN_TOKEN_FILE", "")},
			&cli.BoolFlag{Name: "tls"},
			&cli.StringFlag{Name: "tls-ca", Value: envOr(env, "FORSUN_TLS_CA", "")},
			&cli.StringFlag{Name: "tls-cert", Value: envOr(env, "FORSUN_TLS_CERT", "")},
			&cli.StringFlag{Name: "tls-key", Value: envOr(env, "FORSUN_TLS_KEY", "")},
			&cli.StringFlag{Name: "tls-server-name", Value: envOr(env, "FORSUN_TLS_SERVER_NAME", "")},
			&cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Destination: &o.Help},
			&cli.BoolFlag{Name: "version", Destination: &o.Version},
		},
		HideHelp: true, HideVersion: true, DisableSliceFlagSeparator: true,
		Writer: io.Discard, ErrWriter: io.Discard,
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return fmt.Errorf("%w (forsun -h lists the options)", err)
		},
		Action: func(c *cli.Context) error {
			if err := o.set(c); err != nil || o.Help || o.Version {
				return err
			}
			return o.setAccess(c, envOr(env, "FORSUN_TLS", ""))
		},
	}
	if err := app.RunContext(context.Background(), append([]string{"forsun"}, front...)); err != nil {
		return nil, err
	}
	// "forsun ls -h" asks about ls.
	if o.Help && len(o.Words) > 0 {
		if words := strings.Fields(o.Words[0]); len(words) > 0 {
			if _, ok := find(words[0]); ok {
				o.Help, o.Words = false, []string{"help", words[0]}
			}
		}
	}
	return o, nil
}

// set checks the values of the options.
func (o *Options) set(c *cli.Context) (err error) {
	if o.Help || o.Version {
		return nil
	}
	if c.IsSet("exe") {
		if len(o.Words) > 0 && !o.completing {
			return fmt.Errorf("--exe %q and the command %q: give one of the two", c.String("exe"), strings.Join(o.Words, " "))
		}
		o.Words = []string{c.String("exe")}
	}
	if len(o.Words) == 1 && strings.TrimSpace(o.Words[0]) == "" && !o.completing {
		return fmt.Errorf("the command is empty; allowed: a command (forsun -h lists them), or none for the prompt")
	}
	if o.Host = c.String("host"); o.Host == "" || strings.ContainsAny(o.Host, " /") {
		return fmt.Errorf("--host %q is not allowed; allowed: a host name or an IP address", o.Host)
	}
	if ip := strings.Trim(o.Host, "[]"); strings.Contains(o.Host, ":") {
		if net.ParseIP(strings.SplitN(ip, "%", 2)[0]) == nil {
			return fmt.Errorf("--host %q is not allowed; allowed: a host name or an IP address; the port goes to --port", o.Host)
		}
		o.Host = ip
	}
	if o.Port, err = strconv.Atoi(c.String("port")); err != nil || o.Port < 1 || o.Port > 65535 {
		from := "--port"
		if !c.IsSet("port") {
			from = "FORSUN_PORT" // the default is right
		}
		return fmt.Errorf("%s %q is not allowed; allowed: 1 to 65535", from, c.String("port"))
	}
	o.Output = output(c.String("output"))
	if !slices.Contains([]output{outputTable, outputText, outputJSON}, o.Output) {
		return fmt.Errorf("--output %q is not allowed; allowed: table, json, text", o.Output)
	}
	o.Timeout, err = time.ParseDuration(c.String("timeout"))
	if seconds, numeric := strconv.Atoi(c.String("timeout")); numeric == nil && seconds <= 3600 {
		o.Timeout, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || o.Timeout < 10*time.Millisecond || o.Timeout > time.Hour {
		return fmt.Errorf("--timeout %q is not allowed; allowed: 10ms to 1h, such as 500ms, 10s or 10", c.String("timeout"))
	}
	return nil
}

// setAccess reads the files of the options by which the program shows who it is,
// and has the server show that. envTLS is FORSUN_TLS.
func (o *Options) setAccess(c *cli.Context, envTLS string) (err error) {
	named := func(option string) string {
		if c.IsSet(option) {
			return "--" + option
		}
		return "FORSUN_" + strings.ToUpper(strings.ReplaceAll(option, "-", "_"))
	}
	if path := c.String("token-file"); path != "" {
		if o.Token, err = access.LoadToken(path); err != nil {
			return fmt.Errorf("%s: %w", named("token-file"), err)
		}
	}
	files := access.ClientFiles{CA: c.String("tls-ca"), Cert: c.String("tls-cert"), Key: c.String("tls-key"), ServerName: c.String("tls-server-name")}
	on := files != access.ClientFiles{} // who names a certificate wants TLS
	switch {
	case c.IsSet("tls"):
		on = c.Bool("tls")
	case envTLS != "":
		if on, err = strconv.ParseBool(envTLS); err != nil {
			return fmt.Errorf("FORSUN_TLS %q is not allowed; allowed: true, false", envTLS)
		}
	}
	if !on {
		return nil
	}
	if o.TLS, err = files.Config(); err != nil {
		return fmt.Errorf("TLS (--tls-ca, --tls-cert, --tls-key, or FORSUN_TLS_…): %w", err)
	}
	return nil
}

// envOr returns a variable's value. What Kubernetes puts into containers beside
// a service named forsun, FORSUN_PORT=tcp://10.0.0.1:6458, is not meant for us.
func envOr(env func(string) (string, bool), name, otherwise string) string {
	if v, ok := env(name); ok && v != "" && !strings.Contains(v, "://") {
		return v
	}
	return otherwise
}

// splitOptions parts the program's options, wherever they stand, from the words.
// What looks like an option and is none of the program's belongs to a command
// if one stands before it. lenient, for a line that is being written, refuses
// nothing.
func splitOptions(args []string, lenient bool) (options, words []string, err error) {
	names := optionNames()
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" && !lenient {
			if len(words) > 0 {
				if c, ok := find(words[0]); ok && c.dashes {
					words = append(words, arg) // it ends that command's options, too
				}
			}
			return options, append(words, args[i+1:]...), nil
		}
		name, _, joined := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		takesValue, known := names[name]
		dashed := strings.HasPrefix(arg, "--") && len(name) > 1 || strings.HasPrefix(arg, "-") && !strings.HasPrefix(arg, "--") && len(name) == 1
		switch {
		case dashed && known && !takesValue && lenient:
			words = append(words, arg)
		case dashed && known && (joined || !takesValue):
			options = append(options, arg)
		case dashed && known && i+1 < len(args):
			i++
			options = append(options, arg, args[i])
		case dashed && known:
			if !lenient {
				return nil, nil, fmt.Errorf("%s needs a value (forsun -h lists the options)", arg)
			}
			words = append(words, arg)
		case strings.HasPrefix(arg, "-o") && !strings.HasPrefix(arg, "--") && slices.Contains([]string{"table", "json", "text"}, arg[2:]):
			options = append(options, "-o", arg[2:]) // -ojson, as argparse takes it
		case len(words) == 0 && len(arg) > 1 && arg[0] == '-' && !lenient:
			return nil, nil, fmt.Errorf("no such option: %s (forsun -h lists them)", scheduler.Shorten(arg, 64))
		default:
			words = append(words, arg)
		}
	}
	return options, words, nil
}

// helpText is the answer to -h, as users of Python's argparse know it.
func helpText() string {
	var b strings.Builder
	b.WriteString(`usage: forsun [-h] [--version] [--host HOST] [--port PORT] [--exe EXECUTE]
              [-o {table,json,text}] [--timeout TIME] [--token-file FILE]
              [--tls] [--tls-ca FILE] [--tls-cert FILE] [--tls-key FILE]
              [--tls-server-name NAME]
              [cmd ...]

High-performance timing scheduling service

positional arguments:
  cmd                   execute cmd: one argument is a line of commands with ;
                        between, several are the words of one command
                        (default: a prompt, or the lines of standard input)

optional arguments:
  -h, --help            show this help message and exit
  --version             show the version and exit
  --host HOST           host (default: 127.0.0.1)
  --port PORT           port (default: 6458)
  --exe EXECUTE         execute cmd (default: )
  -o, --output {table,json,text}
                        form of what is printed; json: one document a command,
                        one a line for lists (default: table)
  --timeout TIME        bound on one request to the server: 500ms, 10s, 10
                        (default: 10s)
  --token-file FILE     file that holds a token, to show to the server
  --tls                 speak TLS; so does each of the options below
  --tls-ca FILE         certificates of the authorities to trust, PEM (default:
                        those of the system)
  --tls-cert FILE       certificate to show, PEM
  --tls-key FILE        its key, PEM
  --tls-server-name NAME
                        name that the server's certificate is for (default:
                        HOST)

commands ("forsun help CMD" says more):
`)
	writeCommands(&b)
	b.WriteString(`
FORSUN_HOST, FORSUN_PORT, FORSUN_TOKEN_FILE, FORSUN_TLS, FORSUN_TLS_CA and so on
stand for the options. The exit status is 0 for success, 1 if a command failed,
2 if forsun was not called right. The prompt keeps its history in
~/.local/state/forsun/history, without lines that hold a password or begin with
a blank.

examples:
  forsun "set redis */5/1 * * * * * redis 'host=127.0.0.1;command=\'SET b 1 EX 300\''"
  forsun "set hello */2/5 * * * * * shell 'date >> /tmp/hello.txt'; ls"
  forsun get 'my key'
  forsun export > plans.txt; forsun --host other import plans.txt
`)
	return b.String()
}
