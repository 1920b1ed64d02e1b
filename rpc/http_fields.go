package rpc

import (
	"bytes"
	"encoding/json"

	"github.com/snower/forsun/rpc/jsonwalk"
)

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
	for i = jsonwalk.Next(text, i+1); text[i] != '}'; {
		named := jsonwalk.StringEnd(text, i)
		name := text[i+1 : named-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			plain, _ := jsonwalk.Unquote(text[i:named])
			name = []byte(plain)
		}
		value := jsonwalk.Next(text, named)
		end := jsonwalk.ValueEnd(text, value)
		if f := fieldNamed(name); f < fields {
			if o[f] = text[value:end]; text[value] == 'n' {
				o[f] = nil
			}
		}
		i = jsonwalk.Next(text, end)
	}
	return i + 1
}
