package scheduler

import (
	"path"
	"strings"
	"sync"
	"time"
)

// zones caches the time zones that were loaded, by name: reading one takes a
// file or an inflate, and a plan's zone is wanted at each of its firings. It is
// only a cache of pure results, bounded by the number of zones there are: names
// that do not load, or are not in their plain form, are not kept.
var zones sync.Map // string → *time.Location

// LoadZone returns the time zone of an IANA name, in the case of the tz
// database. "Local", and names that mean another zone on each machine, are
// refused: every replica must mean the same. The error is a *FieldError of kind
// ErrField for field.
func LoadZone(field, name string) (*time.Location, error) {
	if z, ok := zones.Load(name); ok {
		return z.(*time.Location), nil
	}
	if plainZone(name) {
		if z, err := time.LoadLocation(name); err == nil {
			zones.Store(strings.Clone(name), z)
			return z, nil
		}
	}
	return nil, fieldError(ErrField, field, name, "an IANA time zone name, such as UTC or Asia/Shanghai")
}

// plainZone keeps out what a zoneinfo directory answers to beside the names of
// the tz database: the machine's own zone, other spellings of a path, and the
// copies that count leap seconds.
func plainZone(name string) bool {
	if name == "" || len(name) > 64 || name == "Local" || name == "localtime" || name == "posixrules" {
		return false
	}
	return path.Clean(name) == name && !strings.HasPrefix(name, "right/") && !strings.HasPrefix(name, "posix/")
}
