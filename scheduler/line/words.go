// Package line is the text grammar of forsun: how a command line, a crontab
// line or a redis command is split into words, how an action's parameters are
// written in one word, and how a plan is written in one line.
//
// It guarantees that what it writes (Quote, FormatParams, FormatUnits,
// Plan.String) reads back as the same; FormatParams names the one exception. It does not know which commands, actions
// or parameters exist, but for the names of shell's and http's parameters: see
// ActionParams.
package line

import "strings"

// Words splits s into commands, and each command into words.
//
// Blanks separate words, ';' separates commands, empty commands are dropped.
// ' or " opens a string, which lasts to the next quote of its kind; inside it
// everything is literal, but a backslash right before that kind of quote gives
// the quote, whatever stood before the backslash. A string is part of the word
// it stands in; two quotes with nothing between are an empty word. A string left open is closed by the end of
// s. Outside of a string a backslash is itself.
func Words(s string) [][]string {
	var (
		commands [][]string
		command  []string
		word     []byte
		isWord   bool // also an empty string makes a word, once it is closed
	)
	endWord := func() {
		if isWord || len(word) > 0 {
			command = append(command, string(word))
		}
		word, isWord = word[:0], false
	}
	endCommand := func() {
		endWord()
		if len(command) > 0 {
			commands = append(commands, command)
		}
		command = nil
	}
	for i := 0; i < len(s); {
		switch c := s[i]; c {
		case ' ', '\t', '\n', '\r':
			endWord()
			i++
		case ';':
			endCommand()
			i++
		case '\'', '"':
			text, rest, closed := cutString(s[i:])
			word = append(word, text...)
			isWord = isWord || closed
			i = len(s) - len(rest)
		default:
			word = append(word, c)
			i++
		}
	}
	endCommand()
	return commands
}

// cutString reads the string that s begins with a quote of, and returns what
// comes after it. closed is false if the end of s closed it.
func cutString(s string) (text, rest string, closed bool) {
	quote := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == quote:
			return b.String(), s[i+1:], true
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == quote:
			i++
			b.WriteByte(quote)
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), "", false
}

// Quote writes a word so that Words reads it back, in quotes only where it needs
// them.
func Quote(word string) string {
	if word != "" && !strings.ContainsAny(word, " \t\n\r;'\"") {
		return word
	}
	return quoteString(word)
}

// quoteString puts s in quotes. Backslashes at its end stand after the closing
// quote, which they would escape.
func quoteString(s string) string {
	quote := "'"
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = `"`
	}
	inside := strings.TrimRight(s, `\`)
	return quote + strings.ReplaceAll(inside, quote, `\`+quote) + quote + s[len(inside):]
}
