package app

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/snower/forsun/actions"
	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/line"
)

// pages are the pages whose tables are compared with the programs.
func pages() []string { return []string{"README.md", "README.zh-CN.md"} }

// table returns the cells of the table that has a row beginning with head,
// without the rows above it; the first such table behind the heading, if one is
// given.
func table(t *testing.T, page, heading, head string) (rows [][]string) {
	t.Helper()
	text := readPage(t, page)
	if heading != "" {
		_, below, ok := strings.Cut(text, "\n"+heading+"\n")
		if !ok {
			t.Fatalf("%s: no heading %s", page, heading)
		}
		text = below
	}
	for row := range strings.Lines(text) {
		if len(rows) == 0 && !strings.HasPrefix(row, head) {
			continue
		}
		if !strings.HasPrefix(row, "|") {
			break
		}
		cells := strings.Split(strings.Trim(row, "|\n "), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	if len(rows) == 0 {
		t.Fatalf("%s: no table with a row that begins with %q", page, head)
	}
	return rows
}

// plain returns a cell without backticks.
func plain(cell string) string { return strings.ReplaceAll(cell, "`", "") }

// named returns what stands in backticks in the first cells of rows.
func named(rows [][]string) (names []string) {
	for _, row := range rows {
		for i, part := range strings.Split(row[0], "`") {
			if i%2 == 1 {
				names = append(names, part)
			}
		}
	}
	return names
}

// wantNames compares the names of a table with what there is, in any order.
func wantNames(t *testing.T, page, what string, got, want []string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("%s, %s: the page has\n  %q\nthe program\n  %q", page, what, got, want)
	}
}

// TestReadmeFlags: the table of forsund's flags has every flag, with its default.
func TestReadmeFlags(t *testing.T) {
	t.Parallel()
	for _, page := range pages() {
		rows := table(t, page, "", "| `--help`")
		var names []string
		for _, g := range flags() {
			for _, f := range g.flags {
				names = append(names, "--"+f.name)
				i := slices.IndexFunc(rows, func(row []string) bool { return plain(row[0]) == "--"+f.name })
				// Defaults in words are the page's own; so are the slots, in order.
				want := f.fallback
				if f.name == "slots" {
					want = f.showing
				}
				if i >= 0 && want != "" && plain(rows[i][1]) != want {
					t.Errorf("%s: default of --%s: got %q, want %q", page, f.name, rows[i][1], want)
				}
			}
		}
		wantNames(t, page, "flags", named(rows), names)
	}
}

// actionParams are the parameters that actions document, from the comments of
// their parameter types: name → what is said of it.
func actionParams(t *testing.T) map[string][][2]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "actions", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	of := regexp.MustCompile(`^\w+Params are the parameters of an? (\w+) plan\.`)
	parameter := regexp.MustCompile(`^\t(\w+)  +(.*)`)
	all := make(map[string][][2]string)
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			types, ok := decl.(*ast.GenDecl)
			if !ok || types.Doc == nil {
				continue
			}
			m := of.FindStringSubmatch(types.Doc.Text())
			if m == nil {
				continue
			}
			for text := range strings.Lines(types.Doc.Text()) {
				if p := parameter.FindStringSubmatch(text); p != nil {
					all[m[1]] = append(all[m[1]], [2]string{p[1], strings.TrimSpace(p[2])})
				}
			}
		}
	}
	return all
}

// TestReadmeParameters: each action has a table of all its parameters, with
// their defaults, and the plan options have one.
func TestReadmeParameters(t *testing.T) {
	t.Parallel()
	documented := actionParams(t)
	said := regexp.MustCompile(`default ([^\s,;()]+)`)
	connections := map[string]int{
		"redis": actions.DefaultRedisOptions().MaxConnections, "mysql": actions.DefaultMySQLOptions().MaxConnections,
		"thrift": actions.DefaultThriftOptions().MaxConnections,
	}
	for _, page := range pages() {
		for _, action := range actions.Names() {
			var names []string
			for _, p := range documented[action] {
				names = append(names, p[0])
			}
			rows := table(t, page, "### "+action, "| `")
			wantNames(t, page, action, named(rows), names)
			for _, p := range documented[action] {
				want := ""
				if m := said.FindStringSubmatch(p[1]); m != nil {
					want = strings.Trim(m[1], `":`)
				}
				if p[0] == "max_connections" {
					want = fmt.Sprint(connections[action])
				}
				if want == "" || want == "none" || want == "empty" || strings.Contains(want, "<") {
					continue // words, which are the page's own
				}
				i := slices.IndexFunc(rows, func(row []string) bool { return plain(row[0]) == p[0] })
				if i >= 0 && plain(rows[i][1]) != want {
					t.Errorf("%s: default of %s of %s: got %q, want %q", page, p[0], action, rows[i][1], want)
				}
			}
		}
		wantNames(t, page, "plan options", named(table(t, page, "", "| `forsun.timeout`")), []string{
			scheduler.OptionTimeout, scheduler.OptionRetries, scheduler.OptionRetryDelay, scheduler.OptionTimezone,
		})
	}
}

// TestReadmeInterfaces: the commands of forsun, the paths of the HTTP interface
// and the error codes are all there.
func TestReadmeInterfaces(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	help, err := exec.CommandContext(ctx, "go", "run", "../../forsun", "help").Output()
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, m := range regexp.MustCompile(`(?m)^  (\w+)`).FindAllStringSubmatch(string(help), -1) {
		commands = append(commands, m[1])
	}
	source, err := os.ReadFile(filepath.Join(root, "rpc", "http.go"))
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, m := range regexp.MustCompile(`(?m)^//\t(GET|POST|PUT|DELETE) +(/v1/\S+)`).FindAllStringSubmatch(string(source), -1) {
		paths = append(paths, m[1]+" "+m[2])
	}
	var codes []string
	for c := wire.Unknown; c.Meaning() != "error"; c++ {
		codes = append(codes, fmt.Sprint(c))
	}
	for _, page := range pages() {
		var got []string
		for _, name := range named(table(t, page, "", "| `set ")) {
			// Of redrive and purge the arguments have a cell of their own.
			word, _, _ := strings.Cut(name, " ")
			got = append(got, word)
		}
		wantNames(t, page, "commands", got, commands)

		got = nil
		for _, name := range named(table(t, page, "", "| `GET /v1/ping`")) {
			path, _, _ := strings.Cut(name, "?")
			got = append(got, path)
		}
		wantNames(t, page, "paths", got, paths)

		got = nil
		for _, row := range table(t, page, "", "| 1001 ") {
			got = append(got, row[0])
		}
		wantNames(t, page, "codes", got, codes)
	}
}

// TestReadmeCommands: what the pages have people type, and is not run by
// TestReadme, is at least accepted: forsund's command lines, targets of make.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	makefile := readPage(t, "Makefile")
	home := func(name string) (string, bool) { return "/home/forsun", name == "HOME" }
	for _, page := range pages() {
		lines := 0
		for _, b := range blocks(t, page) {
			for text := range strings.Lines(b.text) {
				commands := line.Words(text)
				if b.lang != "sh" || b.marker != "" || len(commands) == 0 || commands[0][0] != "forsund" {
					continue
				}
				lines++
				if _, err := Parse(commands[0][1:], home); err != nil {
					t.Errorf("%s:%d: %s: %v", page, b.line, text, err)
				}
			}
		}
		if lines == 0 {
			t.Errorf("%s: no command line of forsund", page)
		}
		for _, m := range regexp.MustCompile("(?m)(?:^|`)make (\\w+)").FindAllStringSubmatch(readPage(t, page), -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s: there is no make %s", page, m[1])
			}
		}
	}
}

// TestReadmeLinks: links within the project lead somewhere, and so does the list
// of directories.
func TestReadmeLinks(t *testing.T) {
	t.Parallel()
	for _, page := range append(pages(), "CHANGELOG.md", "CONTRIBUTING.md") {
		text := readPage(t, page)
		anchors := make(map[string]bool)
		for _, m := range regexp.MustCompile(`(?m)^#+ (.*)`).FindAllStringSubmatch(text, -1) {
			anchors[anchor(m[1])] = true
		}
		for _, m := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(text, -1) {
			switch target := m[1]; {
			case strings.HasPrefix(target, "#"):
				if !anchors[target[1:]] {
					t.Errorf("%s: no heading for the link %s", page, target)
				}
			case !strings.Contains(target, "://"):
				if !exists(filepath.Join(root, target)) {
					t.Errorf("%s: no file for the link %s", page, target)
				}
			}
		}
	}
	for _, page := range pages() {
		for _, dir := range named(table(t, page, "", "| `scheduler/`")) {
			if strings.HasSuffix(dir, "/") && !exists(filepath.Join(root, dir)) {
				t.Errorf("%s: no directory %s", page, dir)
			}
		}
	}
}

// anchor is how a heading is linked to: small letters, - for blanks, no
// punctuation.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}
