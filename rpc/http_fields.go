package rpc

import (
	"bytes"
	"encoding/json"
	"iter"
)

// What is known to be JSON, in UTF-8, is taken apart without being checked again. encoding/json
// checks a text anew at each level that it is taken apart at, and makes a map of each
// object: that was half of what a bulk create cost.

// elements are the elements of a JSON list.
func elements(list []byte) iter.Seq[json.RawMessage] {
	return func(yield func(json.RawMessage) bool) {
		for i := next(list, 1); list[i] != ']'; {
			end := valueEnd(list, i)
			if !yield(list[i:end]) {
				return
			}
			i = next(list, end)
		}
	}
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
	for i++; text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// unquote is the string that a JSON string is; ok: it is one.
func unquote(raw json.RawMessage) (s string, ok bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	return s, json.Unmarshal(raw, &s) == nil
}
