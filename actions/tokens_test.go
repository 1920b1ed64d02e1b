package actions

import (
	"testing"

	"github.com/snower/forsun/scheduler"
)

func TestTokens(t *testing.T) {
	f := &scheduler.Firing{Plan: &scheduler.Plan{Key: "k", Revision: 7}, Due: 1795345900, Attempt: 2}
	id := string(f.ID())
	for _, row := range []struct{ why, in, want string }{
		{"nothing to replace", `SET a ''b`, `SET a ''b`},
		{"each of the three", "${firing.id} ${firing.due} ${firing.attempt}", id + " 1795345900 2"},
		{"inside other text, twice", `{"id":"${firing.id}","again":"${firing.id}"}`, `{"id":"` + id + `","again":"` + id + `"}`},
		{"an unknown name stays", "${firing.key} ${firing.due}", "${firing.key} 1795345900"},
		{"another case stays", "${FIRING.ID}${Firing.Due}", "${FIRING.ID}${Firing.Due}"},
		{"an open brace stays", "${firing.id", "${firing.id"},
		{"no dollar", "{firing.id}", "{firing.id}"},
		{"blanks inside are not the token", "${ firing.id }", "${ firing.id }"},
		{"nested", "${${firing.due}}", "${1795345900}"},
		{"bytes that are no text", "\x00\xff${firing.attempt}\xfe", "\x00\xff2\xfe"},
	} {
		if got := tokens(f)(row.in); got != row.want {
			t.Errorf("%s: tokens(%q): got %q, want %q", row.why, row.in, got, row.want)
		}
	}
}
