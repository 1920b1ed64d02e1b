package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

// command is something to do.
type command struct {
	name    string
	aliases []string
	args    string // as help shows them
	summary string // on one line of 55 columns
	help    string // beyond that
	options []string
	dashes  bool // its words that begin with - are options, up to --
	keys    bool // its first word is a key
	run     func(ctx context.Context, s *session, args []string) error

	interruptsItself bool // it asks for Process.Interrupt where that makes sense
}

// commands is every command, in the order of the help.
func commands() []command {
	return []command{
		{
			name: "ls", args: "[PREFIX]", summary: "list the plans, or those whose key begins with PREFIX",
			help: "A plan a line, by key: next due time, key, second minute hour day month week,\n" +
				"action, parameters; secrets are masked (-o json shows them). A * at the end of\n" +
				"PREFIX means nothing.",
			dashes: true, keys: true, run: runLs,
		},
		{
			name: "current", summary: "list the plans due in this second of the server's clock",
			run: runCurrent,
		},
		{
			name: "time", args: "[TIME]", summary: "list the plans due at TIME, default now",
			help: "TIME is a Unix time or 'YYYY-MM-DD HH:MM:SS' UTC.", run: runTime,
		},
		{name: "get", args: "KEY", summary: "show a plan", keys: true, run: runGet},
		{
			name: "set", args: "KEY s m h D M W ACTION PARAMS", summary: "store a plan, replacing the one with its key",
			help: `second minute hour day month week, each * or
  a number         a calendar: "0 32 16 * * *" is every day at 16:32:00
  */n[/count]      an interval, the sum of all given, count times (default 1,
                   0: without end): "*/5/1 * * * * *" is once, 5 seconds from now
ACTION is shell (sh, bash), http, redis, mysql, beanstalk, thrift, or another the
server has. PARAMS is one word: name=value pairs with ; between, a value with ; or
blanks at its ends in quotes. For shell and http it may be the command or the URL.

  set backup 0 30 2 * * * shell '/usr/local/bin/backup --all'
  set ping */10/0 * * * * * http http://127.0.0.1/ping
  set cache */5/1 * * * * * redis 'host=127.0.0.1;command=\'SET b 1 EX 300\''`,
			keys: true, run: runSet,
		},
		{name: "rm", args: "KEY", summary: "remove a plan and its pending retries", keys: true, run: runRm},
		{
			name: "next", args: "KEY [N]", summary: "show the next N (1 to 1000, default 10) due times",
			keys: true, run: runNext,
		},
		{
			name: "history", args: "[KEY] [-n N]", summary: "list finished attempts, newest first",
			help: "The newest N, default 100; -n all: every one.", options: []string{"-n"}, dashes: true, keys: true, run: runHistory,
		},
		{
			name: "dead", args: "[KEY] [-n N]", summary: "list dead letters: firings that failed for good",
			help:    "The newest N, default 100; -n all: every one. See redrive and purge.",
			options: []string{"-n"}, dashes: true, keys: true, run: runDead,
		},
		{
			name: "redrive", args: "ID… | --key KEY | --all", summary: "queue dead letters again",
			options: []string{"--key", "--all"}, dashes: true, run: runRedrive,
		},
		{
			name: "purge", args: "ID… | --key KEY | --all", summary: "forget dead letters",
			options: []string{"--key", "--all"}, dashes: true, run: runPurge,
		},
		{
			name: "import", args: "[--replace] FILE", summary: "store the plans of a file, - for standard input",
			help: `A plan a line, as set takes it, without "set":
  key second minute hour day month week action params
or as a JSON object with these names (and is_time_out, count). Empty lines and
lines that begin with # are nothing. Lines that cannot be stored are reported by
number; the others are stored. They replace plans of their keys.

Lines of export --ndjson are stored with their next times and counters; where
there is a plan of the key it stays, but with --replace. So such an import can be
run again; what was fired meanwhile is not fired again, as far as the history goes.`,
			options: []string{"--replace"}, dashes: true, run: runImport, interruptsItself: true,
		},
		{
			name: "export", args: "[--ndjson] [PREFIX]", summary: "write the plans as lines that import reads",
			help: `Secrets are written as they are. Of a plan with a count, what is left is written:
the firings still to come and, if that is one, the time left until it; imported,
its time runs from then. A calendar stays as it is. A plan that a line cannot hold
(a parameter has a line break) is written as a JSON object, with -o json all are.

--ndjson writes plans as they are, one JSON object a line, with their next times
and counters: to move plans between stores, or to keep them. It is no snapshot:
plans that fire meanwhile are written before or after it.`,
			options: []string{"--ndjson"}, dashes: true, keys: true, run: runExport,
		},
		{
			name: "migrate", args: "FILE | --redis-host HOST …", summary: "take over the plans of a Python forsun",
			help: `Reads its dump file, or its Redis, which it does not change, and shows what would
be stored here: samples, what is odd, what is left out and why. Nothing is stored
before --apply is given, or yes is typed.

  --apply                store the plans
  --host-timezone ZONE   of the host the Python forsun ran on (default UTC): it
                         stored times that are wrong by the zone's offset
  --past-due fire|skip   missed times: fire at once (default), or go on with the next
  --replace              replace plans of the same keys, rather than leave them
  --samples N            how many samples are shown, 0 to 100 (default 5)
  --while-running        store, although the Python forsun still runs
  --accept-damage        store what can be read of a damaged dump file
  --redis-host, -port, -db, -user, -password, -password-file, -prefix (forsun),
  -server-id (0), -tls, -tls-ca, -tls-cert, -tls-key, -tls-server-name

It may be run again: plans that are there stay, and what was fired meanwhile is not
fired again, as far as the history goes back.`,
			options: []string{"--apply", "--host-timezone", "--past-due", "--replace", "--samples", "--redis-host", "--redis-server-id"},
			dashes:  true, run: runMigrate,
		},
		{
			name: "backup", args: "DIR", summary: "have forsund write a backup of its embedded store",
			help: `forsund writes it, on its own machine, while it goes on. DIR must not be there yet, or be
empty. The backup holds all that was answered before it began. "forsund restore DIR"
makes a store of it.`,
			run: runBackup,
		},
		{name: "info", summary: "show what the server says about itself", run: runInfo},
		{
			name: "shards", summary: "show leader, plans, queues and debts of every shard",
			help: "backlog is what is claimed and has not ended: queued, running, and retries, which\nwait for their time. overdue is what is due and not claimed.", run: runShards,
		},
		{
			name: "replicas", summary: "show every forsund of the deployment",
			help: "leads: the shards it leads. clock: by how much its clock differs from the store's.\nseen: when it last announced itself, by the store's clock.", run: runReplicas,
		},
		{
			name: "doctor", summary: "look for what is wrong, and say what to do",
			help: "It looks through all that is stored, at the store's settings, the shards, the\nreplicas and their clocks; that may take a minute. The exit status is 1 if it finds\nan error, 0 if it finds nothing or only warnings.", run: runDoctor,
		},
		{name: "version", summary: "show the versions of forsun and of the server", run: runVersion},
		{name: "completion", args: "bash|zsh|fish", summary: "print a completion script for a shell", run: runCompletion},
		{name: "help", args: "[CMD]", summary: "show this list, or what a command does", run: runHelp},
		{name: "exit", aliases: []string{"quit"}, summary: "end", run: runExit},
	}
}

// find returns the command of a name.
func find(name string) (*command, bool) {
	for _, c := range commands() {
		if c.name == name || slices.Contains(c.aliases, name) {
			return &c, true
		}
	}
	return nil, false
}

// writeCommands writes the list of commands.
func writeCommands(w io.Writer) {
	const column = 24
	for _, c := range commands() {
		head := "  " + strings.TrimSpace(c.name+" "+c.args)
		if len([]rune(head)) > column-2 {
			fmt.Fprintf(w, "%s\n%*s%s\n", head, column, "", c.summary)
			continue
		}
		fmt.Fprintf(w, "%s%s%s\n", head, strings.Repeat(" ", column-len([]rune(head))), c.summary)
	}
}

func runHelp(_ context.Context, s *session, args []string) error {
	if len(args) > 1 {
		return wrongArgs("help", "%d words, at most one is allowed", len(args))
	}
	if len(args) == 0 {
		writeCommands(s.out)
		return nil
	}
	c, ok := find(args[0])
	if !ok {
		return &unknownError{args[0]}
	}
	fmt.Fprintf(s.out, "%s\n  %s\n", strings.TrimSpace(c.name+" "+c.args), c.summary)
	if c.help != "" {
		fmt.Fprintln(s.out, c.help)
	}
	return nil
}

func runExit(_ context.Context, _ *session, args []string) error {
	if len(args) > 0 {
		return wrongArgs("exit", "it takes no arguments")
	}
	return errExit
}

// only returns the one argument of a command.
func only(args []string, name, what string) (string, error) {
	switch {
	case len(args) == 0:
		return "", wrongArgs(name, "%s is missing", what)
	case len(args) > 1:
		return "", wrongArgs(name, "%d words after it, one is allowed; one with blanks goes in quotes", len(args))
	}
	return args[0], nil
}

// none refuses arguments.
func none(args []string, name string) error {
	if len(args) > 0 {
		return wrongArgs(name, "it takes no arguments")
	}
	return nil
}

// options parts a command's options from its other words. with is what they
// are, "name" for one alone and "name=" for one with a value; after "--" nothing
// is an option.
func options(name string, args []string, with ...string) (values map[string]string, words []string, err error) {
	values = make(map[string]string)
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return values, append(words, args[i+1:]...), nil
		}
		option, value, joined := strings.Cut(arg, "=")
		switch {
		case len(arg) < 2 || arg[0] != '-':
			words = append(words, arg)
		case slices.Contains(with, option) && !joined:
			values[option] = "true"
		case slices.Contains(with, option+"="):
			if !joined {
				if i++; i == len(args) {
					return nil, nil, wrongArgs(name, "%s needs a value", option)
				}
				value = args[i]
			}
			values[option] = value
		default:
			return nil, nil, wrongArgs(name, "no such option: %s; a word that begins with - goes after --", arg)
		}
	}
	return values, words, nil
}
