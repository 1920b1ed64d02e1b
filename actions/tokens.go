package actions

import (
	"strconv"
	"strings"

	"github.com/snower/forsun/scheduler"
)

// tokens returns what replaces the tokens of a firing in redis commands, SQL and
// beanstalk bodies, so that a receiver can tell a repeat of a firing from
// another one:
//
//	${firing.id}       the firing's stable id, 32 hexadecimal digits
//	${firing.due}      its due second, Unix
//	${firing.attempt}  1 for the first run; grows with every retry
//
// Only these exact tokens are replaced, once, wherever they stand; every other
// byte stays as it was stored. The values hold letters and digits only, so they
// are safe inside a quoted SQL string or a JSON string.
func tokens(f *scheduler.Firing) func(string) string {
	var r *strings.Replacer // made for the first string that may need it: most plans have no token
	return func(s string) string {
		if !strings.Contains(s, "${firing.") {
			return s
		}
		if r == nil {
			r = strings.NewReplacer(
				"${firing.id}", string(f.ID()),
				"${firing.due}", strconv.FormatInt(f.Due, 10),
				"${firing.attempt}", strconv.Itoa(f.Attempt),
			)
		}
		return r.Replace(s)
	}
}
