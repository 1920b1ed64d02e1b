package scheduler

import "strconv"

// Finding is something that is not, or may not be, as it should be.
type Finding struct {
	Shard    int      // WholeDeployment where it is not about one shard
	Severity Severity //
	Subject  string   // what it is about: plan "k", replica r1, redis: appendonly; never a secret
	Problem  string   // what is wrong with it, with the values that show it
	Advice   string   // what to do; "" where there is nothing to do
}

// WholeDeployment is the Shard of a Finding that is not about one shard.
const WholeDeployment = -1

// Severity tells how bad a Finding is; the worse, the greater.
type Severity uint8

const (
	SeverityInfo    Severity = iota // worth knowing, nothing to do
	SeverityWarning                 // a promise does not hold, or will soon not
	SeverityError                   // something is broken: what is stored does not fit together, or does not fire
)

// String is the word for s: info, warning or error.
func (s Severity) String() string {
	switch s {
	case SeverityInfo:
		return "info"
	case SeverityWarning:
		return "warning"
	case SeverityError:
		return "error"
	}
	return "severity " + strconv.Itoa(int(s))
}
