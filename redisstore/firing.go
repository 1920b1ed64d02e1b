package redisstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/snower/forsun/scheduler"
)

// A firing is stored as one JSON object, made by claim.lua:
//
//	{"due":1764192000,"missed":0,"attempt":1,"delivery":1,"changes":7,"key":"k","plan":{…}}
//
// with the plan as it was claimed. The scripts rewrite its beginning up to the key
// and never look behind it. changes is the shard's counter at the claim: a change
// of the plan since then has a greater number (see changed); -1 stands for a
// firing that was redriven and belongs to no plan any more.

var errFiring = errors.New("not a firing")

// decodeFiring reads a stored firing of a shard.
func decodeFiring(stored string, shard int, receipt string) (*scheduler.Firing, error) {
	f := &scheduler.Firing{Shard: shard, Receipt: receipt}
	rest := stored
	var changes, missed, attempt, delivery int64
	for _, field := range []struct {
		name string
		to   *int64
	}{{`{"due":`, &f.Due}, {`,"missed":`, &missed}, {`,"attempt":`, &attempt}, {`,"delivery":`, &delivery}, {`,"changes":`, &changes}} {
		var ok bool
		if rest, ok = strings.CutPrefix(rest, field.name); !ok {
			return nil, fmt.Errorf("%w: no %s where it should stand", errFiring, field.name)
		}
		end := strings.IndexByte(rest, ',')
		if end < 0 {
			return nil, fmt.Errorf("%w: it ends after %s", errFiring, field.name)
		}
		n, err := strconv.ParseInt(rest[:end], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: %s%s", errFiring, field.name, scheduler.Shorten(rest[:end], 64))
		}
		*field.to, rest = n, rest[end:]
	}
	f.Missed, f.Attempt, f.Delivery = int(missed), int(attempt), int(delivery)
	rest, ok := strings.CutPrefix(rest, `,"key":`)
	if !ok {
		return nil, fmt.Errorf("%w: no key where it should stand", errFiring)
	}
	key, rest, ok := cutString(rest)
	if !ok {
		return nil, fmt.Errorf("%w: its key is no JSON string", errFiring)
	}
	rest, ok = strings.CutPrefix(rest, `,"plan":`)
	if !ok || !strings.HasSuffix(rest, "}") {
		return nil, fmt.Errorf("%w: no plan where it should stand", errFiring)
	}
	var err error
	f.Plan, err = decodePlan(key, rest[:len(rest)-1])
	return f, err
}

// cutString reads the JSON string that s begins with.
func cutString(s string) (value, rest string, ok bool) {
	if len(s) < 2 || s[0] != '"' {
		return "", s, false
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return s[1:i], s[i+1:], true // nothing in it is escaped
		case '\\':
			for ; i < len(s) && s[i] != '"'; i++ {
				if s[i] == '\\' {
					i++
				}
			}
			if i >= len(s) || json.Unmarshal([]byte(s[:i+1]), &value) != nil {
				return "", s, false
			}
			return value, s[i+1:], true
		}
	}
	return "", s, false
}

// takenAction returns the action that a receipt is of: <action>/<take>-<n>.
func takenAction(receipt string) (action, field string, ok bool) {
	name, field, ok := strings.Cut(receipt, "/")
	return actionNamed(name), field, ok
}
