package cli

import (
	"slices"
	"strings"
	"testing"
)

func TestCandidates(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, key := range []string{"app:one", "app:two", "my key", "x"} {
		s.must(t, "set", key, "*/60", "*", "*", "*", "*", "*", "shell", "ls")
	}
	for _, row := range []struct {
		why  string
		args []string
		want string // joined by |
	}{
		{"commands", []string{"re"}, "redrive|replicas"},
		{"all keys", []string{"get", ""}, "app:one|app:two|my key|x"},
		{"keys", []string{"rm", "app:"}, "app:one|app:two"},
		{"no second key", []string{"rm", "x", ""}, ""},
		{"a key behind --key", []string{"purge", "--key", "m"}, "my key"},
		{"options of a command", []string{"purge", "--"}, "--key|--all"},
		{"options", []string{"--p"}, "--port"},
		{"forms", []string{"-o", "j"}, "json"},
		{"hosts are not known", []string{"--host", ""}, ""},
		{"behind options", []string{"-o", "json", "get", "x"}, "x"},
		{"actions", []string{"set", "k", "*/1", "*", "*", "*", "*", "*", "s"}, "shell"},
		{"time fields", []string{"set", "k", "*"}, "*|*/"},
		{"help", []string{"help", "ex"}, "export|exit"},
		{"shells", []string{"completion", ""}, "bash|zsh|fish"},
		{"unknown", []string{"bogus", ""}, ""},
		{"files are the shell's", []string{"import", "x"}, ""},
	} {
		got := s.must(t, append([]string{completeWord}, row.args...)...)
		if got := strings.Join(strings.Fields(strings.ReplaceAll(strings.ReplaceAll(got, " ", "_"), "\n", " ")), "|"); got != strings.ReplaceAll(row.want, " ", "_") {
			t.Errorf("%s: %q: %s, want %s", row.why, row.args, got, row.want)
		}
	}

	// Without a server, what needs none.
	got := runWith(map[string]string{"FORSUN_PORT": "1"}, "", completeWord, "get", "")
	got.check(t, "no server", 0, "")
	got = runWith(map[string]string{"FORSUN_PORT": "1"}, "", completeWord, "ge")
	got.check(t, "no server", 0, "get\n")
}

// At the prompt the word before the cursor is completed, quoted where it must be.
func TestCompleter(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, key := range []string{"my", "plan;1", "plan 2"} {
		s.must(t, "set", key, "*/60", "*", "*", "*", "*", "*", "shell", "ls")
	}
	o, err := parse([]string{"--host", s.host, "--port", s.port}, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	session := newSession(o, Process{Stdin: strings.NewReader(""), Env: func(string) (string, bool) { return "", false }})
	defer session.client.Close()
	complete := session.completer(t.Context())
	for _, row := range []struct {
		text, rest string // the cursor stands between them
		head       string
		want       []string
	}{
		{"", "", "", nil}, // every command: see below
		{"ge", "", "", []string{"get"}},
		{"get m", " 键", "get ", []string{"my"}},
		{"键; get m", "", "键; get ", []string{"my"}},
		{"get plan", "", "get ", []string{"'plan 2'", "'plan;1'"}},
		{"ls;get m", "", "ls;", nil},
		{"ls;he", "", "ls;", []string{"help"}},
		{"set 'a key' */1 * * * * * be", "", "set 'a key' */1 * * * * * ", []string{"beanstalk"}},
		{"set k */1 * * * * * shell 'ls m", "", "set k */1 * * * * * shell 'ls m", nil},
	} {
		head, got, tail := complete(row.text+row.rest, len([]rune(row.text)))
		if row.text == "" {
			if !slices.Contains(got, "ls") || !slices.Contains(got, "quit") {
				t.Errorf("an empty line: %q", got)
			}
			continue
		}
		if row.text == "ls;get m" {
			row.head, row.want = "ls;get ", []string{"my"}
		}
		if head != row.head || tail != row.rest || !slices.Equal(got, row.want) {
			t.Errorf("%q: %q %q %q, want %q %q %q", row.text, head, got, tail, row.head, row.want, row.rest)
		}
	}
}

// The bash script completes in bash. zsh and fish are not everywhere; of their
// scripts it is known that they call the same.
func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, key := range []string{"app:one", "app:two", "my key"} {
		s.must(t, "set", key, "*/60", "*", "*", "*", "*", "*", "shell", "ls")
	}
	for _, row := range []struct{ line, want string }{
		{"forsun red", "<redrive>"},
		{"forsun get ", `<app:one><app:two><my\ key>`},
		{"forsun get app:t", "<two>"}, // bash keeps what stands before the colon
		{"forsun --port " + s.port + " get my", `<my\ key>`},
		{"forsun import fi", ""},
	} {
		got := s.shell(t, "bash", `source <(forsun completion bash)
COMP_LINE='`+row.line+`' COMP_POINT=${#COMP_LINE} COMP_WORDBREAKS=' :='
_forsun
printf '<%s>' "${COMPREPLY[@]}"
complete -p forsun >&2`)
		if row.want == "" {
			row.want = "<>" // printf without arguments
		}
		got.check(t, row.line, 0, row.want, "-F _forsun forsun")
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if got := s.must(t, "completion", shell); !strings.Contains(got, " "+completeWord+" ") {
			t.Errorf("%s: %s", shell, got)
		}
	}
	s.run("completion", "csh").check(t, "another shell", 1, "", "csh is not allowed; allowed: bash, zsh, fish")
}
