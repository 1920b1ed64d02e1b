package access

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snower/forsun/scheduler"
)

// secretToken is what must not be seen anywhere.
const secretToken = "planted-9b1deb4d3b7d4bad9bdd2b0d7b3dcb6d"

func actionNames() []string { return []string{"http", "redis", "shell"} }

// tokenFile writes a file of tokens.
func tokenFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTokens(t *testing.T) {
	t.Parallel()
	digest := sha256.Sum256([]byte("the-dashboard-token"))
	path := tokenFile(t, "\n  # a comment\nops admin "+secretToken+"\r\n\tbilling\twrite another-long-token-0 keys=billing:,invoice: actions=http keys=x\n"+
		"dashboard read sha256:"+hex.EncodeToString(digest[:])+"\nlast read no-end-of-line-here actions=redis,http")
	tokens, err := LoadTokens(path, actionNames())
	if err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		token, name string
		right       Right
		scope       *scheduler.Scope
	}{
		{secretToken, "ops", Admin, nil},
		{"another-long-token-0", "billing", Write, &scheduler.Scope{Prefixes: []string{"billing:", "invoice:", "x"}, Actions: []string{"http"}}},
		{"the-dashboard-token", "dashboard", Read, nil},
		{"no-end-of-line-here", "last", Read, &scheduler.Scope{Actions: []string{"redis", "http"}}},
	}
	for _, row := range rows {
		got := tokens.Find(row.token)
		if got == nil || got.Name != row.name || got.Right != row.right || (got.Scope == nil) != (row.scope == nil) {
			t.Errorf("%s: got %+v", row.name, got)
			continue
		}
		if row.scope != nil && (!slices.Equal(got.Scope.Prefixes, row.scope.Prefixes) || !slices.Equal(got.Scope.Actions, row.scope.Actions)) {
			t.Errorf("%s: got scope %+v, want %+v", row.name, got.Scope, row.scope)
		}
	}
	for _, wrong := range []string{"", " ", secretToken[1:], secretToken + " ", strings.ToUpper(secretToken), "sha256:" + hex.EncodeToString(digest[:]), hex.EncodeToString(digest[:]), strings.Repeat("x", 1<<20)} {
		if got := tokens.Find(wrong); got != nil {
			t.Errorf("%q is taken for %s", scheduler.Shorten(wrong, 64), got.Name)
		}
	}
	if tokens.Count() != 4 {
		t.Errorf("Count: %d", tokens.Count())
	}
}

// TestTokenFaults: a fault is reported with its line, and nothing of what stands
// there, wherever a token was put.
func TestTokenFaults(t *testing.T) {
	t.Parallel()
	good := "ok read 0123456789abcdef\n"
	rows := []struct{ text, want string }{
		{"", "no token in it"},
		{"# nothing\n\n", "no token in it"},
		{good + "a read\n", "line 2: 2 words; allowed: NAME RIGHT TOKEN"},
		{secretToken + "\n", "line 1: 1 words"},
		{"\n\na/b read 0123456789abcdef\n", "line 3: name (the first word): allowed: up to 64 letters"},
		{strings.Repeat("n", 65) + " read 0123456789abcdef\n", "line 1: name"},
		{"a " + secretToken + " read\n", "line 1: right (the second word): allowed: read, write, admin"},
		{"a Read 0123456789abcdef\n", "line 1: right"},
		{"a read short\n", "line 1: token (the third word): it has 5 characters; allowed: 16 to 512"},
		{"a read " + strings.Repeat("x", 513) + "\n", "it has 513 characters"},
		{"a read 0123456789abcdéf\n", "it has 16 characters; allowed: 16 to 512 printable ASCII"},
		{"a read sha256:" + secretToken + "\n", "line 1: token (the third word): allowed behind sha256: 64 hexadecimal digits"},
		{"a read sha256:00\n", "64 hexadecimal digits"},
		{"a read sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n", "line 1: token (the third word): it is the SHA-256 of nothing"},
		{"a read 0123456789abcdef " + secretToken + "\n", "line 1: word 4: allowed: keys=PREFIX,… and actions=NAME,…"},
		{"a read 0123456789abcdef keys=a key=b\n", "line 1: word 5"},
		{"a read 0123456789abcdef keys=\n", "line 1: keys= needs something behind it"},
		{"a read 0123456789abcdef actions=,\n", "line 1: actions= needs something"},
		{"a read 0123456789abcdef actions=http," + secretToken + "\n", "line 1: actions=: name 2 is not one of http, redis, shell"},
		{good + "# x\nok read other-long-token-1\n", "line 3: the same name as in line 1"},
		{good + "b write 0123456789abcdef\n", "line 2: the same token as in line 1"},
		{good + "b write \xff\xfe0123456789abcdef\n", "line 2: not UTF-8"},
	}
	for _, row := range rows {
		_, err := LoadTokens(tokenFile(t, row.text), actionNames())
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%q: got %v, want %q", row.text, err, row.want)
		}
		if err != nil && (strings.Contains(err.Error(), secretToken) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%q: the error shows a token, or has more than a line: %v", row.text, err)
		}
	}
	many := make([]string, maxTokens+1)
	for i := range many {
		many[i] = "n" + hex.EncodeToString([]byte{byte(i >> 8), byte(i)}) + " read token-number-" + hex.EncodeToString([]byte{byte(i >> 8), byte(i)})
	}
	if _, err := LoadTokens(tokenFile(t, strings.Join(many, "\n")), nil); err == nil || !strings.Contains(err.Error(), "more than 1000") {
		t.Errorf("too many: %v", err)
	}
	if _, err := LoadTokens(tokenFile(t, strings.Join(many[1:], "\n")), nil); err != nil {
		t.Errorf("as many as may be: %v", err)
	}
	if _, err := LoadTokens(tokenFile(t, strings.Repeat("#\n", maxTokenFile)), nil); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("too large: %v", err)
	}
	if _, err := LoadTokens(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
}

// TestTokenFileModes: what every user may write is refused, what they may read is
// warned of.
func TestTokenFileModes(t *testing.T) {
	t.Parallel()
	path := tokenFile(t, "ops admin "+secretToken+"\n")
	tokens, err := LoadTokens(path, nil)
	if err != nil || tokens.Exposed() != "" {
		t.Errorf("mode 600: %v, %q", err, tokens.Exposed())
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := tokens.Reload(); err != nil || !strings.Contains(tokens.Exposed(), "every user may read it (mode -rw-r--r--); chmod 600 it") {
		t.Errorf("mode 644: %v, %q", err, tokens.Exposed())
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := tokens.Reload(); err == nil || !strings.Contains(err.Error(), "every user may write it") {
		t.Errorf("mode 666: %v", err)
	}
	if tokens.Find(secretToken) == nil {
		t.Error("after a Reload that failed the tokens are gone")
	}
}

// TestTokensReload: a bad file keeps the old tokens; a token that was found is
// followed to what it is now.
func TestTokensReload(t *testing.T) {
	t.Parallel()
	path := tokenFile(t, "ops admin "+secretToken+"\nother read another-long-token-0\n")
	tokens, err := LoadTokens(path, actionNames())
	if err != nil {
		t.Fatal(err)
	}
	found, other := tokens.Find(secretToken), tokens.Find("another-long-token-0")
	if tokens.Now(found) != found || tokens.Now(nil) != nil {
		t.Error("Now changes what has not changed")
	}
	rewrite := func(text string) error {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return tokens.Reload()
	}
	if err := rewrite("ops admin\n"); err == nil || !strings.Contains(err.Error(), "line 1") || tokens.Now(found) != found {
		t.Errorf("bad file: %v", err)
	}
	if err := rewrite("renamed read " + secretToken + " keys=a\n"); err != nil {
		t.Fatal(err)
	}
	if now := tokens.Now(found); now == nil || now.Name != "renamed" || now.Right != Read || now.Scope == nil {
		t.Errorf("changed: %+v", now)
	}
	if now := tokens.Now(other); now != nil {
		t.Errorf("removed: %+v", now)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := tokens.Reload(); err == nil || tokens.Find(secretToken) == nil {
		t.Errorf("file gone: %v", err)
	}
}

func TestLoadToken(t *testing.T) {
	t.Parallel()
	rows := []struct{ text, want, fault string }{
		{"abc\n", "abc", ""},
		{"# mine\r\n\r\n  abc  \r\n", "abc", ""},
		{"", "", "no token in it"},
		{secretToken + "\n" + secretToken + "\n", "", "more than one line"},
		{"ops admin " + secretToken + "\n", "", "the token alone"},
		{strings.Repeat("x", 513), "", "the token alone"},
	}
	for _, row := range rows {
		got, err := LoadToken(tokenFile(t, row.text))
		if got != row.want || (err == nil) != (row.fault == "") || err != nil && (!strings.Contains(err.Error(), row.fault) || strings.Contains(err.Error(), secretToken)) {
			t.Errorf("%q: got %q, %v, want %q, %q", row.text, got, err, row.want, row.fault)
		}
	}
}

// TestReadmeTokens: the example of both pages is a file of tokens.
func TestReadmeTokens(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"../../README.md", "../../README.zh-CN.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		_, example, ok := strings.Cut(string(text), "<!-- file tokens -->\n```text\n")
		example, _, end := strings.Cut(example, "```")
		if !ok || !end {
			t.Fatalf("%s: no example", page)
		}
		tokens, err := LoadTokens(tokenFile(t, example), actionNames())
		if err != nil {
			t.Errorf("%s: %v", page, err)
			continue
		}
		_, first, _ := strings.Cut(strings.TrimSpace(example), "\n") // behind the comment
		words := strings.Fields(first)
		if found := tokens.Find(words[2]); tokens.Count() != 3 || found == nil || found.Name != words[0] {
			t.Errorf("%s: %d tokens, of %s: %+v", page, tokens.Count(), words[0], found)
		}
		// Nobody is let in by what stands in a README for an example.
		for _, guess := range []string{"password", "dashboard", "token", "secret"} {
			if found := tokens.Find(guess); found != nil {
				t.Errorf("%s: %q is the token of %s", page, guess, found.Name)
			}
		}
	}
}
