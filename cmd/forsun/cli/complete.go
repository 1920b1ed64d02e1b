package cli

import (
	"context"
	"embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/snower/forsun/scheduler/line"
)

const (
	completeKeys    = 100                    // keys offered at most
	completeTimeout = 800 * time.Millisecond // for the server to name them
)

// candidates returns what the last of a command's words may become. The words
// are those before it, the command's name first.
func (s *session) candidates(ctx context.Context, words []string, partial string) []string {
	var all []string
	if len(words) == 0 {
		for _, c := range commands() {
			all = append(append(all, c.name), c.aliases...)
		}
		return withPrefix(all, partial)
	}
	c, ok := find(words[0])
	if !ok {
		return nil
	}
	at := len(words) // of the word to complete, 1 for the first after the name
	switch {
	case strings.HasPrefix(partial, "-") && len(c.options) > 0:
		return withPrefix(c.options, partial)
	case c.name == "help" && at == 1:
		return s.candidates(ctx, nil, partial)
	case c.name == "completion" && at == 1:
		return withPrefix([]string{"bash", "zsh", "fish"}, partial)
	case c.name == "set" && at >= 2 && at <= 7:
		return withPrefix([]string{"*", "*/"}, partial)
	case c.name == "set" && at == 8:
		return withPrefix(s.actionNames(ctx), partial)
	case c.keys && at == 1, words[at-1] == "--key" && slices.Contains(c.options, "--key"):
		return s.keys(ctx, partial)
	}
	return nil
}

func withPrefix(words []string, prefix string) (some []string) {
	for _, w := range words {
		if strings.HasPrefix(w, prefix) {
			some = append(some, w)
		}
	}
	return some
}

// keys returns the first keys with a prefix, or none if the server cannot be
// asked quickly.
func (s *session) keys(ctx context.Context, prefix string) (keys []string) {
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	page, err := s.client.List(ctx, prefix, "", completeKeys)
	if err != nil {
		return nil
	}
	for _, p := range page.Items {
		keys = append(keys, p.Key)
	}
	return keys
}

// completer completes the word before the cursor at the prompt.
func (s *session) completer(ctx context.Context) func(text string, pos int) (string, []string, string) {
	return func(text string, pos int) (head string, completions []string, tail string) {
		runes := []rune(text)
		before, tail := string(runes[:pos]), string(runes[pos:])
		start := strings.LastIndexAny(before, " \t;") + 1
		head, partial := before[:start], before[start:]
		if openQuote(head) || strings.ContainsAny(partial, `'"`) {
			return before, nil, tail
		}
		var words []string
		if commands := line.Words(head + "\x00"); len(commands) > 0 { // the NUL stands for the word itself
			words = commands[len(commands)-1]
			words = words[:len(words)-1]
		}
		for _, c := range s.candidates(ctx, words, partial) {
			completions = append(completions, line.Quote(c))
		}
		return head, completions, tail
	}
}

// openQuote says whether a string is open at the end of text: then a blank after
// it is no end of a word.
func openQuote(text string) bool {
	commands := line.Words(text + " \x00")
	if len(commands) == 0 {
		return false
	}
	last := commands[len(commands)-1]
	return last[len(last)-1] != "\x00"
}

// printCandidates answers a completion script: the words of a command line that
// is being written, the last of them to be completed.
func (s *session) printCandidates(ctx context.Context, words []string) {
	if len(words) == 0 {
		words = []string{""}
	}
	last := len(words) - 1
	partial, before := words[last], words[:last]
	if last > 0 {
		switch strings.TrimLeft(before[last-1], "-") {
		case "o", "output":
			s.printWords(withPrefix([]string{"table", "json", "text"}, partial))
			return
		case "host", "port", "timeout", "exe", "token-file", "tls-ca", "tls-cert", "tls-key", "tls-server-name":
			if strings.HasPrefix(before[last-1], "--") {
				return
			}
		}
	}
	if strings.HasPrefix(partial, "-") && len(before) == 0 {
		var names []string
		for name := range optionNames() {
			if len(name) > 1 {
				names = append(names, "--"+name)
			}
		}
		slices.Sort(names)
		s.printWords(withPrefix(names, partial))
		return
	}
	s.printWords(s.candidates(ctx, before, partial))
}

// printWords prints words that a completion script can take, one a line.
func (s *session) printWords(words []string) {
	for _, w := range words {
		if printable(w) == w {
			fmt.Fprintln(s.out, w)
		}
	}
}

//go:embed completion
var scripts embed.FS

func runCompletion(_ context.Context, s *session, args []string) error {
	shell, err := only(args, "completion", "the shell")
	if err != nil {
		return err
	}
	if !slices.Contains([]string{"bash", "zsh", "fish"}, shell) {
		return wrongArgs("completion", "%s is not allowed; allowed: bash, zsh, fish", shell)
	}
	script, err := scripts.ReadFile("completion/forsun." + shell)
	if err != nil {
		return err
	}
	_, err = s.out.Write(script)
	return err
}
