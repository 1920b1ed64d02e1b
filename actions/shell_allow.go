package actions

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/snower/forsun/scheduler"
)

// ShellAllow is a list of the commands that shell plans may run. Where there is one
// (Commands is not nil), a plan
//
//   - has a cmd that is an entry, byte for byte; or that begins with what an entry that ends in
//     " *" has before the star, and goes on in plain characters only: letters, digits, blanks and
//     _ - + = . , : / @ %. To a shell these are arguments and nothing else: no second command, no
//     redirection, no expansion, no quotes.
//   - gives no cwd, since programs read what lies in the directory they run in;
//   - sets no variable in env but those of Env: PATH, LD_PRELOAD and their like would make
//     another program of the one that is allowed.
//
// It bounds which programs run, with which arguments. It does not judge what a program
// does with arguments that " *" lets in: one that runs others (env, find, tar, ssh, an
// interpreter) is no program to be listed with " *".
type ShellAllow struct {
	Commands []string // entries; nil: any command
	Env      []string // names of variables that plans may set
}

// argumentsFollow is the end of an entry after which a plan may have arguments of
// its own.
const argumentsFollow = " *"

// Validate says which entries cannot be meant, all of them joined.
func (l ShellAllow) Validate() error {
	var errs []error
	if l.Commands != nil && len(l.Commands) == 0 {
		errs = append(errs, errors.New("shell action: Allow.Commands: an empty list is not allowed; allowed: nil for any command, or at least one entry"))
	}
	for _, entry := range l.Commands {
		prefix, open := strings.CutSuffix(entry, argumentsFollow)
		// Where the prefix ends within quotes, behind an operator or with no program yet,
		// what follows would not be arguments.
		if entry != strings.TrimSpace(entry) || prefix == "" || entry == "*" || strings.ContainsAny(entry, "\x00\n\r") ||
			open && !(plainArguments(prefix) && namesProgram(prefix)) {
			errs = append(errs, fmt.Errorf("shell action: Allow.Commands: %s is not allowed; allowed: a command, or one in plain characters (letters, digits, blanks, _-+=.,:/@%%) with %q behind it", strconv.Quote(entry), argumentsFollow))
		}
	}
	for _, name := range l.Env {
		if !variableName(name) || strings.HasPrefix(name, "FORSUN_") {
			errs = append(errs, fmt.Errorf("shell action: Allow.Env: %s is not allowed; allowed: names of variables, not beginning with FORSUN_", strconv.Quote(name)))
		}
	}
	if l.Commands == nil && l.Env != nil {
		errs = append(errs, errors.New("shell action: Allow.Env: not allowed without Allow.Commands, without which plans may set any variable"))
	}
	return errors.Join(errs...)
}

// namesProgram says whether a command in plain characters has a word that is no
// assignment.
func namesProgram(s string) bool {
	return slices.ContainsFunc(strings.Fields(s), func(word string) bool { return !strings.Contains(word, "=") })
}

// variableName says whether a shell can name a variable so.
func variableName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || i > 0 && '0' <= c && c <= '9') {
			return false
		}
	}
	return s != ""
}

// plainArguments says whether s has only characters that no shell gives a meaning
// to between words.
func plainArguments(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte(" _-+=.,:/@%", c) >= 0) {
			return false
		}
	}
	return true
}

// permits says whether cmd is on the list.
func (l ShellAllow) permits(cmd string) bool {
	for _, entry := range l.Commands {
		// Of an entry that is open the star itself is not for the shell: it would name
		// files.
		prefix, open := strings.CutSuffix(entry, argumentsFollow)
		if cmd == prefix {
			return true
		}
		if !open {
			continue
		}
		if arguments, ok := strings.CutPrefix(cmd, prefix+" "); ok && plainArguments(arguments) {
			return true
		}
	}
	return l.Commands == nil
}

// refuse refuses what a plan's parameters have beyond the list. The list itself
// is not shown: it is the operator's.
func (l ShellAllow) refuse(r *reader, p shellParams) {
	if l.Commands == nil || r.refused != nil {
		return
	}
	no := func(name, value, allowed string) {
		if r.refused == nil {
			shown := scheduler.Shorten(scheduler.MaskText(value, scheduler.Secrets(r.params)...), 64)
			r.refused = &scheduler.FieldError{Kind: scheduler.ErrNotAllowed, Field: "params." + name, Value: shown, Allowed: allowed}
		}
	}
	if !l.permits(p.cmd) {
		no("cmd", p.cmd, "commands on the server's list (--shell-allow), as they stand there; where the list has * for arguments, letters, digits, blanks and _-+=.,:/@%")
	}
	if r.params["cwd"] != "" {
		no("cwd", r.params["cwd"], "none, since the server has a list of commands (--shell-allow)")
	}
	for _, pair := range p.env {
		if name, _, _ := strings.Cut(pair, "="); !slices.Contains(l.Env, name) {
			allowed := "none"
			if len(l.Env) > 0 {
				allowed = strings.Join(l.Env, ", ")
			}
			no("env", name, "the variables that the server lets plans set (--shell-allow-env): "+allowed)
		}
	}
}
