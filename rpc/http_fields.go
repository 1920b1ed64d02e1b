package rpc

import (
	"bytes"
	"encoding/json"
	"iter"
)

// What is known to be JSON, in UTF-8, is taken apart without being checked again. encoding/json
// checks a text anew at each level that it is taken apart at, and makes a map of each
// object: that was half of what a bulk create cost.

// field is one of those that a plan has in JSON.
type field int

const (
	fieldKey field = iota
	fieldMethod
	fieldAction
	fieldParams
	fieldSecond
	fieldSeconds
	fieldMinute
	fieldHour
	fieldDay
	fieldMonth
	fieldWeek
	fieldCount
	fields
)

var fieldNames = [fields]string{"key", "method", "action", "params", "second", "seconds", "minute", "hour", "day", "month", "week", "count"}

// fieldNamed is the field of a name, or fields if there is none.
func fieldNamed(name []byte) field {
	for f, n := range fieldNames {
		if string(name) == n {
			return field(f)
		}
	}
	return fields
}

// object is the fields of a JSON object. Of fields given twice the last counts, those
// that nobody asks for are ignored, and null is as if not given: nil.
type object [fields]json.RawMessage

// read makes o the object that begins at i, and returns where that ends.
func (o *object) read(text []byte, i int) (end int) {
	*o = object{}
	for i = next(text, i+1); text[i] != '}'; {
		named := stringEnd(text, i)
		name := text[i+1 : named-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			plain, _ := unquote(text[i:named])
			name = []byte(plain)
		}
		value := next(text, named)
		end := valueEnd(text, value)
		if f := fieldNamed(name); f < fields {
			if o[f] = text[value:end]; text[value] == 'n' {
				o[f] = nil
			}
		}
		i = next(text, end)
	}
	return i + 1
}

// members are the names and values of a JSON object, names as they are written.
func members(object []byte) iter.Seq2[json.RawMessage, json.RawMessage] {
	return func(yield func(name, value json.RawMessage) bool) {
		for i := next(object, 1); object[i] != '}'; {
			named := valueEnd(object, i)
			value := next(object, named)
			end := valueEnd(object, value)
			if !yield(object[i:named], object[value:end]) {
				return
			}
			i = next(object, end)
		}
	}
}

// next is where the next value begins, or the list or object ends, from i on.
func next(text []byte, i int) int {
	for ; i < len(text); i++ {
		switch text[i] {
		case ' ', '\t', '\r', '\n', ',', ':':
		default:
			return i
		}
	}
	return i
}

// valueEnd is where the value ends that begins at i.
func valueEnd(text []byte, i int) int {
	switch text[i] {
	case '"':
		return stringEnd(text, i)
	case '{', '[':
		for depth := 0; ; {
			switch text[i] {
			case '"':
				i = stringEnd(text, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	for ; i < len(text); i++ {
		switch text[i] {
		case ' ', '\t', '\r', '\n', ',', ']', '}':
			return i
		}
	}
	return i
}

// stringEnd is where the string ends that begins at i.
func stringEnd(text []byte, i int) int {
	for {
		i++
		i += bytes.IndexByte(text[i:], '"')
		escapes := 0
		for text[i-1-escapes] == '\\' { // they end at the quote that the string begins with, or after
			escapes++
		}
		if escapes%2 == 0 {
			return i + 1
		}
	}
}

// unquote is the string that a JSON string is; ok: it is one.
func unquote(raw json.RawMessage) (s string, ok bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	return unescape(raw)
}

// unescape is unquote where that is not what stands there. (In one function, what
// json.Unmarshal sets would be on the heap for all.)
func unescape(raw json.RawMessage) (s string, ok bool) {
	return s, json.Unmarshal(raw, &s) == nil
}
