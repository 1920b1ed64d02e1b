package line

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// readLines decodes each line of a testdata file, and fails on an empty one.
func readLines[T any](t *testing.T, name string) []T {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var rows []T
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var row T
		if err := json.Unmarshal(scanner.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
	if len(rows) == 0 {
		t.Fatalf("%s: no rows", name)
	}
	return rows
}

func equalCommands(a, b [][]string) bool {
	return slices.EqualFunc(a, b, slices.Equal[[]string])
}

// TestWordsOfExistingClients replays what the Python parser made of lines.
func TestWordsOfExistingClients(t *testing.T) {
	type row struct {
		Line     string
		Commands [][]string
	}
	for _, r := range readLines[row](t, "line_grammar.jsonl") {
		if got := Words(r.Line); !equalCommands(got, r.Commands) {
			t.Errorf("Words(%q)\ngot  %q\nwant %q", r.Line, got, r.Commands)
		}
	}
}

// TestWordsOfLaravel: the queue element must be the JSON byte for byte.
func TestWordsOfLaravel(t *testing.T) {
	data, err := os.ReadFile("testdata/laravel_payloads.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct{ Command, Expect string }
	if err := json.Unmarshal(data, &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) == 0 {
		t.Fatal("no rows")
	}
	for i, r := range rows {
		got, want := Words(r.Command), [][]string{{"RPUSH", "queues:default", r.Expect}}
		if !equalCommands(got, want) {
			t.Errorf("row %d:\ngot  %q\nwant %q", i, got, want)
		}
	}
}

func TestWords(t *testing.T) {
	rows := []struct {
		why, line string
		want      [][]string
	}{
		{"closed empty strings are words", `a '' "" b`, [][]string{{"a", "", "", "b"}}},
		{"an open empty string is none", `a '`, [][]string{{"a"}}},
		{"blanks at the start of a string are kept", `'  a'`, [][]string{{"  a"}}},
		{"an open string keeps its end", `a 'b ; c `, [][]string{{"a", "b ; c "}}},
		{"a string goes on the word it stands in", `a'b c'd"e f"`, [][]string{{"ab cde f"}}},
		{"the other quote's escape is literal", `'a\"b'`, [][]string{{`a\"b`}}},
		{"the backslash before the quote always goes", `'a\\'b'`, [][]string{{`a\'b`}}},
		{"a newline in a string is literal", "'a\nb'", [][]string{{"a\nb"}}},
		{"empty commands are dropped", ";; a ;; b; ;", [][]string{{"a"}, {"b"}}},
		{"other control characters are no blanks", "a\x00b\vc", [][]string{{"a\x00b\vc"}}},
		{"bytes that are not UTF-8 stay", "a\xff\xfe b", [][]string{{"a\xff\xfe", "b"}}},
	}
	for _, r := range rows {
		if got := Words(r.line); !equalCommands(got, r.want) {
			t.Errorf("%s: Words(%q): got %q, want %q", r.why, r.line, got, r.want)
		}
	}
}

func TestQuote(t *testing.T) {
	rows := []struct{ why, word, want string }{
		{"plain", "abc", "abc"},
		{"a backslash outside of quotes is itself", `a\b\`, `a\b\`},
		{"= means nothing", "a=b", "a=b"},
		{"empty", "", "''"},
		{"blanks", "a b", "'a b'"},
		{"the other quote is nicer", "it's", `"it's"`},
		{"both quotes", `it's "x"`, `'it\'s "x"'`},
		{"a backslash at the end would escape the quote", `a b\`, `'a b'\`},
		{"a backslash before a quote", `a\' "b`, `'a\\' "b'`},
	}
	for _, r := range rows {
		if got := Quote(r.word); got != r.want {
			t.Errorf("%s: Quote(%q): got %s, want %s", r.why, r.word, got, r.want)
		}
	}
}

// checkQuote fails unless words come back from a line they were quoted into.
func checkQuote(t *testing.T, words ...string) {
	t.Helper()
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = Quote(word)
	}
	text := strings.Join(quoted, " ")
	if got := Words(text + "; next"); !equalCommands(got, [][]string{words, {"next"}}) {
		t.Fatalf("words %q quoted as %s come back as %q", words, text, got)
	}
}

func FuzzWords(f *testing.F) {
	for _, seed := range []string{"", "a b;c", `'it\'s' "q"`, `a\\'\`, `x='a`, "\xff\x00 '", `\`, `';`, "set k */5/1 * * * * * shell 'cmd=ls"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		checkQuote(t, a, b)
		for _, command := range Words(a) {
			checkQuote(t, command...)
		}
	})
}
