package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/google/renameio/v2"
	"github.com/peterh/liner"
)

// past is the file with the lines typed at prompts, which all prompts of a user
// share: each adds a line when it is typed. A file that cannot be used is no
// reason to have no prompt, so that its methods do what can be done.
type past struct{ file string } // "": nowhere

// openHistory finds the file: $XDG_STATE_HOME/forsun/history, by default below
// ~/.local/state.
func openHistory(env func(string) (string, bool)) past {
	dir, ok := env("XDG_STATE_HOME")
	if !ok || !filepath.IsAbs(dir) {
		home, ok := env("HOME")
		if !ok || !filepath.IsAbs(home) {
			return past{}
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return past{filepath.Join(dir, "forsun", "history")}
}

// load gives the lines to the prompt, and drops the oldest from the file when
// it has grown to twice of what a prompt holds.
func (h past) load(state *liner.State) {
	text, err := os.ReadFile(h.file)
	if err != nil {
		return
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	if len(lines) > 2*liner.HistoryLimit {
		kept := bytes.Join(lines[len(lines)-liner.HistoryLimit:], nil)
		_ = renameio.WriteFile(h.file, kept, 0o600) // else it stays long
	}
	for _, line := range lines {
		if line = bytes.TrimSuffix(line, []byte("\n")); len(line) > 0 && utf8.Valid(line) {
			state.AppendHistory(string(line))
		}
	}
}

// add appends a line to the file, which only the user may read.
func (h past) add(text string) {
	if h.file == "" || os.MkdirAll(filepath.Dir(h.file), 0o700) != nil {
		return
	}
	f, err := os.OpenFile(h.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	_ = f.Chmod(0o600) // whoever made it
	_, _ = f.WriteString(text + "\n")
}
