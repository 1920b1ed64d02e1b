package scheduler

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestShellRefusalSaysWhoMay: a refused peer is told who is not.
func TestShellRefusalSaysWhoMay(t *testing.T) {
	t.Parallel()
	rows := []struct {
		from ShellFrom
		peer Peer
		want string
	}{
		{ShellFromLoopback, Peer{Address: "10.0.0.1:5", Private: true}, "allowed: from loopback or an authenticated peer only (yours: 10.0.0.1:5)"},
		{ShellFromPrivate, Peer{Address: "192.0.2.1:5"}, "allowed: from loopback, private networks or an authenticated peer only (yours: 192.0.2.1:5)"},
		{ShellFromNobody, Peer{Address: "127.0.0.1:5", Loopback: true}, "allowed: from nobody (yours: 127.0.0.1:5)"},
	}
	for _, row := range rows {
		every := Schedule{Second: 5, Minute: Any, Hour: Any, Day: Any, Month: Any, Week: Any}
		opts := DefaultServiceOptions()
		opts.ShellFrom = row.from
		s := &Service{actions: shellOnly{}, opts: opts}
		_, err := s.plan(WithPeer(t.Context(), row.peer), Request{Key: "k", Action: "shell", Schedule: every}, time.Now(), NewRevision())
		if !errors.Is(err, ErrNotAllowed) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q", row.from, err, row.want)
		}
	}
}

// shellOnly has the action shell, of which nothing is asked.
type shellOnly struct{}

func (shellOnly) Get(string) (Action, bool) { return nil, true }
func (shellOnly) Names() []string           { return []string{"shell"} }
