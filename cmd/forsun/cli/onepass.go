package cli

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"github.com/snower/forsun/rpc/jsonwalk"
)

// Nearly all lines of a file are as export writes them. These are read in one pass: by
// encoding/json, which is to be told for each what it is, that was most of what an import
// cost. What is in any way unusual is left to encoding/json, and with it what is wrong: what
// it says of a line is what is told.

// readPlain reads a line of JSON, a plan or the record of one, in one pass. ok is false for a
// line that may be something else: nothing is said about it.
func readPlain(text []byte) (r planRecord, ok bool) {
	if len(text) == 0 || text[0] != '{' || !utf8.Valid(text) || !json.Valid(text) {
		return r, false
	}
	r.jsonPlan = openPlan()
	counted := false
	for name, value := range jsonwalk.Members(text) {
		switch string(name) {
		case `"forsun"`:
			ok = plainText(value, &r.Forsun)
		case `"key"`:
			ok = plainText(value, &r.Key)
		case `"second"`:
			ok = plainNumber(value, &r.Second)
		case `"minute"`:
			ok = plainNumber(value, &r.Minute)
		case `"hour"`:
			ok = plainNumber(value, &r.Hour)
		case `"day"`:
			ok = plainNumber(value, &r.Day)
		case `"month"`:
			ok = plainNumber(value, &r.Month)
		case `"week"`:
			ok = plainNumber(value, &r.Week)
		case `"status"`:
			ok = plainNumber(value, &r.Status)
		case `"count"`:
			ok, counted = plainNumber(value, &r.Count), true
		case `"is_time_out"`:
			ok = plainBool(value, &r.IsTimeOut)
		case `"next_time"`:
			ok = plainNumber(value, &r.NextTime)
		case `"current_count"`:
			ok = plainNumber(value, &r.CurrentCount)
		case `"last_timeout"`:
			ok = plainNumber(value, &r.LastTimeout)
		case `"created_time"`:
			ok = plainFloat(value, &r.CreatedTime)
		case `"action"`:
			ok = plainText(value, &r.Action)
		case `"params"`:
			ok = plainTexts(value, &r.Params)
		case `"params_base64"`:
			ok = plainTexts(value, &r.ParamsBase64)
		default:
			ok = false
		}
		if !ok {
			return r, false
		}
	}
	switch r.Forsun {
	case recordPlan:
	case "":
		if !counted {
			r.Count = 1 // as parseJSONRequest has it
		}
	default:
		return r, false
	}
	return r, true
}

// request returns the request that r is if it is no record.
func (r *planRecord) request() jsonRequest {
	return jsonRequest{
		Key: r.Key, IsTimeOut: r.IsTimeOut, Second: r.Second, Minute: r.Minute, Hour: r.Hour, Day: r.Day, Month: r.Month, Week: r.Week,
		Count: r.Count, Action: r.Action, Params: r.Params,
	}
}

func plainText(value json.RawMessage, into *string) (ok bool) {
	*into, ok = jsonwalk.Unquote(value)
	return ok
}

func plainNumber[N int | int64](value json.RawMessage, into *N) bool {
	n, err := strconv.ParseInt(string(value), 10, 64)
	*into = N(n)
	return err == nil && int64(*into) == n
}

func plainFloat(value json.RawMessage, into *float) bool {
	f, err := strconv.ParseFloat(string(value), 64)
	*into = float(f)
	return err == nil
}

func plainBool(value json.RawMessage, into *bool) bool {
	*into = string(value) == "true"
	return *into || string(value) == "false"
}

// plainTexts reads an object of strings. One that is given twice is none of its business.
func plainTexts(value json.RawMessage, into *map[string]string) bool {
	if value[0] != '{' || *into != nil {
		return false
	}
	*into = make(map[string]string)
	for quoted, v := range jsonwalk.Members(value) {
		var name, text string
		if !plainText(quoted, &name) || !plainText(v, &text) {
			return false
		}
		(*into)[name] = text
	}
	return true
}
