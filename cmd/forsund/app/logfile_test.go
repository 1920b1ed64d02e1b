package app

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// logDir returns what is in the directory of a log file: names and their lines.
func logDir(t *testing.T, path string) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(path), e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Name()+":"+strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", ","))
	}
	return strings.Join(slices.Sorted(slices.Values(all)), " ")
}

func openLogFile(t *testing.T, l *logFile) {
	t.Helper()
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.file.Close() })
}

func write(t *testing.T, l *logFile, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if _, err := l.Write([]byte(line + "\n")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRotateBySize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := &logFile{path: path, rotate: rotation{bytes: 8}, keep: 2, now: time.Now}
	for name, text := range map[string]string{"log": "old\n", "log.9": "x\n", "log.gz": "x\n", "log.02": "x\n", "logs.3": "x\n"} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openLogFile(t, l)
	write(t, l, "aaa") // fits beside what an earlier run left
	if got, want := logDir(t, path), "log.02:x log.9:x log.gz:x log:old,aaa logs.3:x"; got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	write(t, l, "b", "a line that is longer than a file may be", "c", "d", "e", "f")
	// log.9 was of a time when more were kept; what has other names is not forsund's.
	if got, want := logDir(t, path), "log.02:x log.1:a line that is longer than a file may be log.2:b log.gz:x log:c,d,e,f logs.3:x"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	write(t, l, "g")
	if got, want := logDir(t, path), "log.02:x log.1:c,d,e,f log.2:a line that is longer than a file may be log.gz:x log:g logs.3:x"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	// Someone else rotates, too.
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	write(t, l, "hh")
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	write(t, l, "i")
	if got, want := logDir(t, path), "log.02:x log.1:c,d,e,f log.2:a line that is longer than a file may be log.gz:x log.moved:g,hh log:i logs.3:x"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRotateByDay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	now := time.Date(2026, 11, 27, 23, 59, 59, 0, time.Local)
	l := &logFile{path: path, rotate: rotation{daily: true}, keep: 2, now: func() time.Time { return now }}
	if err := os.WriteFile(path, []byte("a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := now.AddDate(0, 0, -1)
	if err := os.Chtimes(path, before, before); err != nil {
		t.Fatal(err)
	}
	openLogFile(t, l)
	write(t, l, "b") // an earlier run wrote it yesterday
	now = now.Add(time.Second)
	write(t, l, "c")
	now = now.Add(-time.Second) // the clock is set back
	write(t, l, "d")
	if got, want := logDir(t, path), "log.2026-11-26:a log.2026-11-27:b log:c,d"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	now = now.AddDate(0, 0, 3)
	write(t, l, "e")
	if got, want := logDir(t, path), "log.2026-11-27:b log.2026-11-28:c,d log:e"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestRotateFails: a file that cannot be moved goes on, says why, and is tried
// again later; no line is lost.
func TestRotateFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := &logFile{path: path, rotate: rotation{bytes: 4}, keep: 1, now: time.Now}
	openLogFile(t, l)
	if err := os.MkdirAll(filepath.Join(path+".1", "full"), 0o700); err != nil { // nothing can be moved onto it
		t.Fatal(err)
	}
	write(t, l, "aaa", "b", "c")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 4 || lines[0] != "aaa" || !strings.Contains(lines[1], "cannot rotate the log file") || lines[2] != "b" || lines[3] != "c" {
		t.Errorf("got %q", lines)
	}
	if err := os.RemoveAll(path + ".1"); err != nil {
		t.Fatal(err)
	}
	l.size = l.again // as if so much had been written
	write(t, l, "d")
	if got, err := os.ReadFile(path); err != nil || string(got) != "d\n" {
		t.Errorf("after the way was free: got %q, %v", got, err)
	}
}

func TestParseRotation(t *testing.T) {
	rows := []struct {
		text string
		want string
	}{
		{"", "{false 0}"},
		{"DAY", "{true 0}"},
		{"day", "{true 0}"},
		{"100B", "{false 100}"},
		{"2K", "{false 2048}"},
		{"1.5m", "{false 1572864}"},
		{"3G", "{false 3221225472}"},
		{"0B", "error"},
		{"-1K", "error"},
		{"B", "error"},
		{"100", "error"},
		{"NaNK", "error"},
		{"1e30G", "error"},
		{"HOUR", "error"},
	}
	for _, row := range rows {
		r, err := parseRotation(row.text)
		got := fmt.Sprint(r)
		if err != nil {
			got = "error"
		}
		if got != row.want {
			t.Errorf("%q: got %s, want %s", row.text, got, row.want)
		}
	}
}
