package line

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/snower/forsun/scheduler"
)

const blanks = " \t\r\n"

// ParseParams reads parameters: name=value pairs between ';'. The first '='
// splits name and value; blanks around both are dropped. A value that begins
// with a quote is that string, by the rules of Words, closed by the end of s if
// need be, and nothing but backslashes that belong to it may follow its closing
// quote (Quote writes them so). Any other value runs to the next ';'. Errors are
// *scheduler.FieldError of kind ErrParams and repeat no value: it may be a
// secret.
func ParseParams(s string) (map[string]string, error) {
	params := make(map[string]string)
	place := "at the beginning"
	for {
		s = strings.TrimLeft(s, blanks+";")
		if s == "" {
			return params, nil
		}
		end := strings.IndexAny(s, "=;")
		if end < 0 || s[end] == ';' {
			allowed := "name=value pairs between ';', a value with ';' in quotes: name='a;b'"
			if len(params) == 0 {
				allowed += "; shell and http alone take a bare command or URL"
			}
			return nil, paramsError("params", "text without '=' "+place, allowed)
		}
		name := strings.Trim(s[:end], blanks)
		if name == "" {
			return nil, paramsError("params", "'=' without a name "+place, "name=value pairs")
		}
		if _, twice := params[name]; twice {
			return nil, paramsError("params."+name, "given twice", "each name once")
		}
		place = "after " + name
		var err error
		if params[name], s, err = cutValue(name, strings.TrimLeft(s[end+1:], blanks)); err != nil {
			return nil, err
		}
	}
}

// cutValue reads the value s begins with and returns what comes after it.
func cutValue(name, s string) (value, rest string, err error) {
	if s == "" || (s[0] != '\'' && s[0] != '"') {
		value, rest, _ = strings.Cut(s, ";")
		return strings.TrimRight(value, blanks), rest, nil
	}
	text, after, _ := cutString(s)
	rest = strings.TrimLeft(after, `\`)
	text += after[:len(after)-len(rest)]
	rest = strings.TrimLeft(rest, blanks)
	if rest != "" && rest[0] != ';' {
		return "", "", paramsError("params."+name, "text after the closing quote",
			fmt.Sprintf(`%[1]s='…' with each ' inside written as \', or %[1]s="…" with each " inside written as \"`, scheduler.Shorten(name, 64)))
	}
	return text, rest, nil
}

// FormatParams writes params in one word, by name, each value in quotes.
// ParseParams reads it back, if no name holds '=' or ';' or has blanks around
// it: the grammar has no way to write such a name.
func FormatParams(params map[string]string) string {
	return formatParams(params, slices.Sorted(maps.Keys(params)))
}

// FormatActionParams is FormatParams for the parameters of an action, which
// ActionParams reads back: where the text must begin with a parameter the
// action has, those come first.
func FormatActionParams(action string, params map[string]string) string {
	names := slices.Sorted(maps.Keys(params))
	if short, ok := shorthandOf(action); ok {
		slices.SortStableFunc(names, func(a, b string) int {
			switch known := short.has(a); {
			case known == short.has(b):
				return 0
			case known:
				return -1
			}
			return 1
		})
	}
	return formatParams(params, names)
}

func formatParams(params map[string]string, names []string) string {
	var b strings.Builder
	for i, name := range names {
		if i > 0 {
			b.WriteByte(';')
		}
		b.WriteString(name)
		b.WriteByte('=')
		b.WriteString(quoteString(params[name]))
	}
	return b.String()
}

// shorthand says, for an action whose parameters may be given as the one text
// that matters, which parameter that is and which other names it has: only with
// one of them and '=' in front are they parameters.
type shorthand struct {
	param    string
	names    []string
	prefixes []string
}

func shorthandOf(action string) (shorthand, bool) {
	switch action {
	case "shell":
		return shorthand{
			param:    "cmd",
			names:    []string{"cmd", "cwd", "env"},
			prefixes: []string{scheduler.OptionPrefix},
		}, true
	case "http":
		return shorthand{
			param: "url",
			names: []string{
				"url", "method", "body", "auth_username", "auth_password", "auth_mode",
				"user_agent", "connect_timeout", "request_timeout",
			},
			prefixes: []string{"header_", scheduler.OptionPrefix},
		}, true
	}
	return shorthand{}, false
}

// has reports whether the action has a parameter of this name.
func (s shorthand) has(name string) bool {
	if slices.Contains(s.names, name) {
		return true
	}
	hasPrefix := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
	return slices.ContainsFunc(s.prefixes, hasPrefix) && !strings.ContainsAny(name, blanks+";'\"")
}

// ActionParams reads the PARAMS word of an action's plan: parameters as
// ParseParams reads them; for shell and http also the command or the URL
// itself, which is what a text is that does not begin with the name of a
// parameter and '='.
func ActionParams(action, word string) (map[string]string, error) {
	short, ok := shorthandOf(action)
	if !ok || strings.Trim(word, blanks) == "" {
		return ParseParams(word)
	}
	if name, _, ok := strings.Cut(word, "="); ok && short.has(strings.Trim(name, blanks)) {
		return ParseParams(word)
	}
	return map[string]string{short.param: strings.Trim(word, blanks)}, nil
}

func paramsError(field, value, allowed string) error {
	return &scheduler.FieldError{
		Kind: scheduler.ErrParams, Field: scheduler.Shorten(field, 64), Value: scheduler.Shorten(value, 64), Allowed: allowed,
	}
}
