package app

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/rpc/jsonwalk"
)

// plainText writes lines for people, one or several at once, as its zerolog.ConsoleWriter does, which has no
// colours. That decodes each line by reflection: with a line for each plan it was two fifths of
// what a bulk of plans cost forsund.
type plainText struct{ zerolog.ConsoleWriter }

// Write writes lines of JSON.
func (w plainText) Write(lines []byte) (n int, err error) {
	text := make([]byte, 0, max(512, len(lines)))
	for line := range bytes.Lines(lines) {
		if more, ok := appendPlainText(text, line, w.TimeFormat); ok {
			text = more
			continue
		}
		var other bytes.Buffer
		console := w.ConsoleWriter
		console.Out = &other
		if _, failed := console.Write(line); failed != nil {
			err = failed // and the others go on
		}
		text = append(text, other.Bytes()...)
	}
	if _, failed := w.Out.Write(text); failed != nil {
		err = failed
	}
	return len(lines), err
}

// appendPlainText appends a line as it is for people. ok is false for one that has anything else
// in it than strings and numbers beside its time, level and message.
func appendPlainText(b, line []byte, timeFormat string) (_ []byte, ok bool) {
	if len(line) == 0 || line[0] != '{' || !utf8.Valid(line) || !json.Valid(line) {
		return b, false
	}
	type member struct{ name, value []byte }
	var some [16]member // on the stack
	fields := some[:0]
	var at, level, message string
	for quoted, value := range jsonwalk.Members(line) {
		var part *string
		switch name := quoted[1 : len(quoted)-1]; string(name) {
		case zerolog.TimestampFieldName:
			part = &at
		case zerolog.LevelFieldName:
			part = &level
		case zerolog.MessageFieldName:
			part = &message
		case zerolog.CallerFieldName, "":
			return b, false
		default:
			number := value[0] == '-' || value[0] >= '0' && value[0] <= '9'
			if bytes.IndexByte(name, '\\') >= 0 || value[0] != '"' && !number {
				return b, false
			}
			fields = append(fields, member{name, value})
			continue
		}
		if *part != "" {
			return b, false
		}
		*part, _ = jsonwalk.Unquote(value)
	}
	t, err := time.ParseInLocation(zerolog.TimeFieldFormat, at, time.Local)
	known, _ := zerolog.ParseLevel(level)
	short := zerolog.FormattedLevels[known]
	if err != nil || short == "" || message == "" {
		return b, false
	}
	b = t.In(time.Local).AppendFormat(b, timeFormat)
	b = append(append(b, ' '), short...)
	b = append(append(b, ' '), message...)
	slices.SortFunc(fields, func(a, b member) int {
		switch {
		case bytes.Equal(a.name, b.name):
			return 0
		case string(a.name) == zerolog.ErrorFieldName:
			return -1
		case string(b.name) == zerolog.ErrorFieldName:
			return 1
		}
		return bytes.Compare(a.name, b.name)
	})
	for i, f := range fields {
		if i > 0 && bytes.Equal(f.name, fields[i-1].name) {
			return b, false
		}
		b = append(append(append(b, ' '), f.name...), '=')
		if f.value[0] != '"' {
			b = append(b, f.value...)
			continue
		}
		if raw := f.value[1 : len(f.value)-1]; !needsQuotes(raw) { // nor has it escapes
			b = append(b, raw...)
		} else if value, _ := jsonwalk.Unquote(f.value); needsQuotes(value) {
			b = strconv.AppendQuote(b, value)
		} else {
			b = append(b, value...)
		}
	}
	return append(b, '\n'), true
}

// needsQuotes says whether the ConsoleWriter puts a value into quotes.
func needsQuotes[T string | []byte](value T) bool {
	for i := range len(value) {
		if c := value[i]; c <= ' ' || c > '~' || c == '\\' || c == '"' {
			return true
		}
	}
	return false
}
