package redisstore

import (
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Every script has a header that says what it is for, takes and returns, and that
// knows every key and argument which the script reads by number.
func TestScriptHeaders(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(luaFiles, "lua/*.lua")
	if err != nil || len(files) == 0 {
		t.Fatalf("scripts: %v, %v", files, err)
	}
	for _, file := range files {
		text, err := luaFiles.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		if !regexp.MustCompile(`^#!lua( flags=[a-z,-]+)?$`).MatchString(lines[0]) {
			t.Errorf("%s begins with %q, want #!lua and its flags", file, lines[0])
		}
		header, body := headerOf(lines[1:])
		for _, part := range []string{"-- KEYS", "-- Returns", "O("} {
			if !strings.Contains(header, part) {
				t.Errorf("%s: its header lacks %s", file, part)
			}
		}
		for _, array := range []string{"KEYS", "ARGV"} {
			_, section, _ := strings.Cut(header, "-- "+array)
			section, _, _ = strings.Cut(section, "\n-- ARGV")
			section, _, _ = strings.Cut(section, "\n-- Returns")
			for _, m := range regexp.MustCompile(array+`\[(\d+)\]`).FindAllStringSubmatch(body, -1) {
				n, _ := strconv.Atoi(m[1])
				if !regexp.MustCompile(`(^|\s)` + strconv.Itoa(n) + `[\s,]`).MatchString(section) {
					t.Errorf("%s reads %s, which its header does not name", file, m[0])
				}
			}
		}
	}
}

// headerOf splits a script behind its leading comment.
func headerOf(lines []string) (header, body string) {
	for i, line := range lines {
		if !strings.HasPrefix(line, "--") {
			return strings.Join(lines[:i], "\n"), strings.Join(lines[i:], "\n")
		}
	}
	return strings.Join(lines, "\n"), ""
}
