package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/peterh/liner"
)

func TestHistoryFile(t *testing.T) {
	t.Parallel()
	env := func(vars map[string]string) func(string) (string, bool) {
		return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	}
	for _, row := range []struct {
		vars map[string]string
		want string
	}{
		{map[string]string{"XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/forsun/history"},
		{map[string]string{"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/forsun/history"},
		{map[string]string{"HOME": "/h"}, "/h/.local/state/forsun/history"},
		{nil, ""},
	} {
		if got := openHistory(env(row.vars)).file; got != row.want {
			t.Errorf("%v: %q, want %q", row.vars, got, row.want)
		}
	}
	past{}.add("nowhere") // and no failure

	// Of a file that has grown, the newest lines are kept, and only for the user.
	h := past{filepath.Join(t.TempDir(), "forsun", "history")}
	h.add("first")
	long := strings.Repeat("ls\n", 2*liner.HistoryLimit)
	if err := os.WriteFile(h.file, []byte("first\n"+long), 0o644); err != nil {
		t.Fatal(err)
	}
	h.add("a \xff byte")
	h.add(strings.Repeat("long ", 2000))
	h.add("ls")
	h.add("last")
	state := liner.NewLiner()
	defer state.Close()
	h.load(state)
	text, err := os.ReadFile(h.file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n > liner.HistoryLimit || !strings.HasSuffix(string(text), "ls\nlast\n") {
		t.Errorf("%d lines are left, the last %q", n, text[max(0, len(text)-10):])
	}
	info, err := os.Stat(h.file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: %v", info.Mode(), err)
	}
	var held strings.Builder
	want := "first\nls\n" + strings.Repeat("long ", 2000) + "\nls\nlast\n" // neighbours that are the same are one
	if _, err := state.WriteHistory(&held); err != nil || held.String() != want {
		t.Errorf("the prompt holds %.100q, want %.100q: %v", held.String(), want, err)
	}
}
