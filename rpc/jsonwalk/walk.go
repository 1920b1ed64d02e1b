// Package jsonwalk takes apart what is known to be JSON, in UTF-8, without checking it again:
// json.Valid and utf8.Valid are to come before. encoding/json checks a text anew at each level
// that it is taken apart at, and makes a map of each object: that was half of what a
// bulk create cost. Of what is no JSON its functions may panic.
package jsonwalk

import (
	"bytes"
	"encoding/json"
	"iter"
)

// Members are the names and values of a JSON object, names as they are written.
func Members(object []byte) iter.Seq2[json.RawMessage, json.RawMessage] {
	return func(yield func(name, value json.RawMessage) bool) {
		for i := Next(object, 1); object[i] != '}'; {
			named := StringEnd(object, i)
			value := Next(object, named)
			end := ValueEnd(object, value)
			if !yield(object[i:named], object[value:end]) {
				return
			}
			i = Next(object, end)
		}
	}
}

// Next is where the next value begins, or the list or object ends, from i on.
func Next(text []byte, i int) int {
	for ; i < len(text); i++ {
		switch text[i] {
		case ' ', '\t', '\r', '\n', ',', ':':
		default:
			return i
		}
	}
	return i
}

// ValueEnd is where the value ends that begins at i.
func ValueEnd(text []byte, i int) int {
	switch text[i] {
	case '"':
		return StringEnd(text, i)
	case '{', '[':
		for depth := 0; ; {
			switch text[i] {
			case '"':
				i = StringEnd(text, i)
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

// StringEnd is where the string ends that begins at i.
func StringEnd(text []byte, i int) int {
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

// Unquote is the string that a JSON string is; ok: it is one.
func Unquote(raw json.RawMessage) (s string, ok bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	return unescape(raw)
}

// unescape is Unquote where that is not what stands there. (In one function, what
// json.Unmarshal sets would be on the heap for all.)
func unescape(raw json.RawMessage) (s string, ok bool) {
	return s, json.Unmarshal(raw, &s) == nil
}
