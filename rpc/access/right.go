package access

import "fmt"

// Right is what a peer may do. Each one includes those before it.
type Right int

const (
	None  Right = iota // show who it is, and nothing else
	Open               // ask whether the server is there
	Read               // see plans, history, the state of the server
	Write              // create, replace and remove plans
	Admin              // redrive and purge dead letters, look through everything
)

func (r Right) String() string {
	switch r {
	case None:
		return "none"
	case Open:
		return "open"
	case Read:
		return "read"
	case Write:
		return "write"
	case Admin:
		return "admin"
	}
	return fmt.Sprintf("right %d", int(r))
}

// parseRight reads the right of a token.
func parseRight(s string) (Right, bool) {
	for _, r := range []Right{Read, Write, Admin} {
		if s == r.String() {
			return r, true
		}
	}
	return None, false
}
