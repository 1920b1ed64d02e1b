package app

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxConf bounds a configuration file: a wrong path must not fill the memory.
const maxConf = 1 << 20

// iniLine is one setting of an INI file.
type iniLine struct {
	number  int    // of the line, from 1
	section string // "" before the first section
	name    string // as written
	value   string // without blanks around it
}

// lineError says what is wrong with a line of a file.
type lineError struct {
	line   int
	reason string
}

func (e *lineError) Error() string { return e.reason }

// sectionLine is a line that begins a section.
var sectionLine = regexp.MustCompile(`^\[([^][]*)\]$`)

// readINI reads a file as Python's configparser writes and reads them: sections in
// brackets; "name = value" or "name: value"; comments are whole lines that begin
// with # or ;. A value stands on one line, is not quoted, and "%" in it is itself.
func readINI(path string) ([]iniLine, error) {
	// Before it is opened: a pipe that nobody writes to would hold up the start. What a
	// shell hands over as <(…) is under /dev.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !strings.HasPrefix(path, "/dev/") {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxConf+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxConf {
		return nil, fmt.Errorf("%s is larger than a configuration file may be: %d KiB", path, maxConf>>10)
	}
	lines, err := parseINI(string(data))
	if bad := (*lineError)(nil); errors.As(err, &bad) {
		return nil, fmt.Errorf("%s:%d: %s", path, bad.line, bad.reason)
	}
	return lines, err
}

// parseINI is readINI for a text. Its errors are *lineError.
func parseINI(text string) (lines []iniLine, err error) {
	section, number := "", 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		number++
		bad := func(reason string) error { return &lineError{number, reason} }
		if !utf8.ValidString(line) || strings.ContainsRune(line, 0) {
			return nil, bad("not a line of UTF-8 text")
		}
		indented := strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
			continue
		case line[0] == '[':
			m := sectionLine.FindStringSubmatch(line)
			if m == nil {
				return nil, bad(fmt.Sprintf("%q is not allowed; allowed: [NAME], to begin a section", line))
			}
			section = strings.ToLower(strings.TrimSpace(m[1]))
			if section == "" {
				return nil, bad("a section needs a name")
			}
			continue
		case indented:
			return nil, bad("begins with a blank, which would continue the line before; a value stands on one line")
		}
		i := strings.IndexAny(line, "=:")
		if i <= 0 {
			// It is not shown: it may be the rest of a password.
			return nil, bad("what stands there is not allowed; allowed: name = value, [SECTION], or a comment that begins with #")
		}
		lines = append(lines, iniLine{number, section, strings.TrimSpace(line[:i]), strings.TrimSpace(line[i+1:])})
	}
	return lines, nil
}
