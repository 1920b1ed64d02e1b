package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/peterh/liner"

	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/line"
)

// prompt runs the lines that are typed at the terminal until exit or Ctrl-D. A
// command that fails ends its line only.
func (s *session) prompt(ctx context.Context) int {
	if s.opts.Output != outputJSON {
		fmt.Fprintf(s.out, "forsun %s, server at %s; help lists the commands, Tab completes, exit or Ctrl-D ends\n",
			version(s.process.Version), s.client.Address())
		s.out.Flush()
	}
	if err := s.client.Ping(ctx); err != nil {
		s.report(err)
	}
	state := liner.NewLiner()
	defer state.Close()
	state.SetCtrlCAborts(true)
	state.SetTabCompletionStyle(liner.TabPrints)
	state.SetWordCompleter(s.completer(ctx))
	past := openHistory(s.process.Env)
	past.load(state)

	for {
		text, err := state.Prompt("forsun> ")
		switch {
		case errors.Is(err, liner.ErrPromptAborted): // Ctrl-C gives up the line
			continue
		case errors.Is(err, io.EOF):
			fmt.Fprintln(s.out)
			return exitOK
		case err != nil:
			fmt.Fprintln(s.err, "forsun: terminal:", err)
			return exitFailed
		}
		if strings.TrimSpace(text) == "" {
			continue
		}
		commands := line.Words(text)
		state.AppendHistory(text)
		if !strings.HasPrefix(text, " ") && !holdsSecret(commands) {
			past.add(text)
		}
		for _, words := range commands {
			err := s.command(ctx, words)
			if errors.Is(err, errExit) {
				return exitOK
			}
			if err != nil {
				s.report(err)
				break
			}
		}
	}
}

// holdsSecret says whether a line has a password in it, which is not to be
// written to a file.
func holdsSecret(commands [][]string) bool {
	for _, words := range commands {
		if words[0] != "set" {
			continue
		}
		if p, err := line.ParsePlan(words[1:]); err != nil || len(scheduler.Secrets(p.Params)) > 0 {
			return true // of what cannot be read, nobody knows
		}
	}
	return false
}
