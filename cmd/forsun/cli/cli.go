// Package cli is the forsun program without its process: the options, the
// commands, the prompt, and what is printed.
//
// A command line reaches a command in one of two ways. One argument is a line in
// the words grammar of package line: "ls; get 'my key'". Several arguments are
// one command, each argument a word taken as it is: get 'my key'. Without
// arguments the lines come from the prompt or, if standard input is not a
// terminal, from there.
//
// What a command was asked for goes to standard output, as text, tables or JSON;
// errors, hints and progress go to standard error. Plans are shown with their
// secrets masked, but for JSON and export. Lists are read and printed page by
// page, however long they are.
package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/snower/forsun/rpc/client"
	"github.com/snower/forsun/scheduler/line"
)

// The exit status of Run.
const (
	exitOK          = 0
	exitFailed      = 1   // a command failed
	exitUsage       = 2   // not called right
	exitInterrupted = 130 // by the user
)

// Process is what the program needs of the process it is in.
type Process struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Env            func(string) (string, bool) // nil: an empty environment
	Version        string                      // stamped by the linker; "": what the Go tool recorded
	Zone           *time.Location              // in which times are shown; nil: the system's

	// Interrupt returns a context that also ends when the user interrupts, until
	// the function is called. nil: the user cannot.
	Interrupt func(context.Context) (context.Context, context.CancelFunc)
}

// Run runs the program with its arguments and returns its exit status.
func Run(ctx context.Context, args []string, p Process) int {
	if p.Env == nil {
		p.Env = func(string) (string, bool) { return "", false }
	}
	if p.Interrupt == nil {
		p.Interrupt = func(ctx context.Context) (context.Context, context.CancelFunc) { return ctx, func() {} }
	}
	if p.Zone == nil {
		p.Zone = time.Local
	}
	o, err := parse(args, p.Env)
	if err != nil {
		fmt.Fprintln(p.Stderr, "forsun:", err)
		return exitUsage
	}
	switch {
	case o.Help:
		fmt.Fprint(p.Stdout, helpText())
		return exitOK
	case o.Version:
		fmt.Fprintln(p.Stdout, "forsun", version(p.Version))
		return exitOK
	}

	s := newSession(o, p)
	defer s.client.Close()
	var code int
	switch {
	case o.completing:
		s.printCandidates(ctx, o.Words)
	case len(o.Words) == 1:
		code = s.line(ctx, o.Words[0])
	case len(o.Words) > 1:
		code = s.commands(ctx, [][]string{o.Words})
	case s.onTerminal:
		code = s.prompt(ctx)
	default:
		code = s.script(ctx)
	}
	if err := s.out.Flush(); err != nil && code == exitOK {
		fmt.Fprintln(p.Stderr, "forsun: standard output:", err)
		code = exitFailed
	}
	return code
}

// session is one run of the program: what its commands work with.
type session struct {
	opts    *Options
	client  *client.Client
	dialing client.Options // of client, for more of them
	process Process

	in         *bufio.Reader // standard input
	onTerminal bool          // which is a terminal with somebody at it
	out        *bufio.Writer
	err        io.Writer
	color      bool // standard output shows colours

	actions []string      // the server's, once they were needed
	wait    time.Duration // how long the command waits for an answer
}

func newSession(o *Options, p Process) *session {
	copts := client.DefaultOptions(o.Address())
	copts.Timeout, copts.DialTimeout = o.Timeout, o.Timeout
	copts.Token, copts.TLS = o.Token, o.TLS
	_, noColor := p.Env("NO_COLOR")
	dumb, _ := p.Env("TERM")
	return &session{
		opts:       o,
		client:     client.New(copts),
		dialing:    copts,
		process:    p,
		in:         bufio.NewReaderSize(p.Stdin, 64<<10),
		onTerminal: isTerminal(p.Stdin) && isTerminal(p.Stdout),
		out:        bufio.NewWriterSize(p.Stdout, 64<<10),
		err:        p.Stderr,
		wait:       o.Timeout,
		color:      isTerminal(p.Stdout) && !noColor && dumb != "dumb",
	}
}

// isTerminal says whether a standard stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// errExit is what the command exit ends with.
var errExit = errors.New("exit")

// line runs the commands of one line.
func (s *session) line(ctx context.Context, text string) int {
	return s.commands(ctx, line.Words(text))
}

// commands runs commands up to the first that fails.
func (s *session) commands(ctx context.Context, commands [][]string) int {
	for _, words := range commands {
		switch err := s.command(ctx, words); {
		case errors.Is(err, errExit):
			return exitOK
		case err != nil:
			return s.report(err)
		}
	}
	return exitOK
}

// command runs one command and prints what it has to say.
func (s *session) command(ctx context.Context, words []string) error {
	c, ok := find(words[0])
	if !ok {
		return &unknownError{words[0]}
	}
	if !c.interruptsItself {
		var stop context.CancelFunc
		ctx, stop = s.process.Interrupt(ctx)
		defer stop()
	}
	s.wait = s.opts.Timeout
	err := c.run(ctx, s, words[1:])
	if flushed := s.out.Flush(); err == nil {
		err = flushed
	}
	return err
}

// maxLine is how many bytes a line of input may have: room for the parameters of
// the largest plan, all of it quoted.
const maxLine = 1 << 20

var errLineTooLong = fmt.Errorf("longer than %d bytes", maxLine)

// readLine reads the next line, without its end. A line that is too long is
// skipped, with errLineTooLong. At the end of the input the error is io.EOF.
func readLine(r *bufio.Reader) (string, error) {
	b, err := readBytes(r)
	return string(b), err
}

// readBytes is readLine, for a line that is needed only until the next is read.
func readBytes(r *bufio.Reader) ([]byte, error) {
	var b []byte
	for tooLong := false; ; {
		part, err := r.ReadSlice('\n')
		if err == nil && len(b) == 0 && !tooLong {
			return bytes.TrimRight(part, "\r\n"), nil
		}
		if len(b)+len(part) > maxLine {
			tooLong, b = true, nil
		}
		if !tooLong {
			b = append(b, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(b) == 0 && !tooLong:
			return nil, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		case tooLong:
			return nil, errLineTooLong
		default:
			return bytes.TrimRight(b, "\r\n"), nil
		}
	}
}

// script runs the lines of standard input up to the first that fails. Empty
// lines and those that begin with # are nothing.
func (s *session) script(ctx context.Context) int {
	for n := 1; ; n++ {
		text, err := readLine(s.in)
		switch {
		case errors.Is(err, io.EOF):
			return exitOK
		case err != nil:
			fmt.Fprintf(s.err, "forsun: standard input, line %d: %v\n", n, err)
			return exitFailed
		case strings.HasPrefix(strings.TrimSpace(text), "#"):
			continue
		}
		for _, words := range line.Words(text) {
			err := s.command(ctx, words)
			if errors.Is(err, errExit) {
				return exitOK
			}
			if err != nil {
				code := s.report(err)
				if s.opts.Output != outputJSON {
					fmt.Fprintf(s.err, "forsun: stopped at line %d\n", n)
				}
				return code
			}
		}
	}
}

// version returns the version of this build: what the linker was told, else what
// the Go tool recorded, else "devel".
func version(stamped string) string {
	if stamped != "" {
		return stamped
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}
