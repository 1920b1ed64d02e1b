package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/snower/forsun/scheduler"
)

// scoped returns a context of a peer that is limited.
func scoped(ctx context.Context, s *scheduler.Scope) context.Context {
	return scheduler.WithPeer(ctx, scheduler.Peer{Address: "192.0.2.1:9", Authenticated: true, Name: "some", Scope: s})
}

// keysOf pages through a list with a small limit.
func keysOf[T any](t *testing.T, key func(T) string, read func(cursor string) ([]T, string, error)) (keys []string) {
	t.Helper()
	for cursor, pages := "", 0; ; pages++ {
		got, next, err := read(cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range got {
			keys = append(keys, key(e))
		}
		if cursor = next; cursor == "" {
			return keys
		}
		if pages > 1000 {
			t.Fatal("the list has no end")
		}
	}
}

// TestScopeLists: a peer that is limited to prefixes sees what of a list begins
// with one of them: all of that, once, in order.
func TestScopeLists(t *testing.T) {
	t.Parallel()
	r := newRig(t, scheduler.SystemClock{}, func(o *scheduler.EngineOptions) { o.Lead = false; o.Work = []string{"record"} })
	var all []string
	for _, a := range []string{"a", "ab", "abc", "b", "ba", "é", "z:"} {
		for i := range 3 {
			all = append(all, fmt.Sprint(a, i))
		}
	}
	slices.Sort(all)
	for _, key := range all {
		r.put(t, &scheduler.Plan{
			Key: key, Action: "record", Revision: scheduler.NewRevision(), Due: 4_000_000_000,
			Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 5, Count: 1},
		})
	}
	for _, limits := range [][]string{{"a"}, {"ab", "a", "abc"}, {"b", "a"}, {"abc", "b1", "zz"}, {"none"}, {"é"}, {"", "a"}, {"a", "a0", "ab", "ab0"}} {
		ctx := scoped(t.Context(), &scheduler.Scope{Prefixes: limits})
		mine := func(prefix string) (want []string) {
			for _, key := range all {
				if strings.HasPrefix(key, prefix) && slices.ContainsFunc(limits, func(l string) bool { return strings.HasPrefix(key, l) }) {
					want = append(want, key)
				}
			}
			return want
		}
		planKey := func(p *scheduler.Plan) string { return p.Key }
		for _, prefix := range []string{"", "a", "ab", "abc1", "b", "nobody"} {
			got := keysOf(t, planKey, func(cursor string) ([]*scheduler.Plan, string, error) {
				return r.service.List(ctx, scheduler.ListQuery{Prefix: prefix, Cursor: cursor, Limit: 2})
			})
			if !slices.Equal(got, mine(prefix)) {
				t.Errorf("limited to %q, List(%q): got %q, want %q", limits, prefix, got, mine(prefix))
			}
		}
		got := keysOf(t, planKey, func(cursor string) ([]*scheduler.Plan, string, error) {
			return r.service.DueAt(ctx, scheduler.DueAtQuery{Second: 4_000_000_000, Cursor: cursor, Limit: 2})
		})
		if !slices.Equal(got, mine("")) {
			t.Errorf("limited to %q, DueAt: got %q, want %q", limits, got, mine(""))
		}
	}

	// A cursor that somebody made up leads nowhere else.
	ctx := scoped(t.Context(), &scheduler.Scope{Prefixes: []string{"ab", "b"}})
	for _, cursor := range []string{"0:a0", "0:", "1:z:0", "0:\xff", "0:ab0", "0", "1:a"} {
		plans, _, err := r.service.List(ctx, scheduler.ListQuery{Cursor: cursor, Limit: 100})
		for _, p := range plans {
			if !strings.HasPrefix(p.Key, "ab") && !strings.HasPrefix(p.Key, "b") {
				t.Errorf("cursor %q shows %s (%v)", cursor, p.Key, err)
			}
		}
	}
	for _, cursor := range []string{"2:", "-1:", "x", ":", "99999999999999999999:"} {
		if _, _, err := r.service.List(ctx, scheduler.ListQuery{Cursor: cursor, Limit: 100}); !errors.Is(err, scheduler.ErrField) {
			t.Errorf("cursor %q: got %v, want ErrField", cursor, err)
		}
	}
}

// TestScopeRefuses: what is not a peer's own is refused, there or not, and stays as
// it is; so are actions that it may not use.
func TestScopeRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, scheduler.SystemClock{}, nil)
	r.rec.Fail("theirs", -1, errors.New("no"))
	r.rec.Fail("mine:dead", -1, errors.New("no"))
	r.create(t, "theirs", 0, nil)
	r.create(t, "mine:dead", 0, nil)
	r.create(t, "others", 1000, nil)
	eventually(t, "two dead letters", func() bool {
		dead, _, err := r.service.DeadLetters(t.Context(), scheduler.JournalQuery{Limit: 10})
		return err == nil && len(dead) == 2
	})
	dead, _, err := r.service.DeadLetters(t.Context(), scheduler.JournalQuery{Key: "theirs", Limit: 10})
	if err != nil || len(dead) != 1 {
		t.Fatalf("dead letters of theirs: %v, %v", dead, err)
	}

	ctx := scoped(t.Context(), &scheduler.Scope{Prefixes: []string{"mine:"}, Actions: []string{"record"}})
	request := func(key, action string) scheduler.Request {
		return scheduler.Request{Key: key, Action: action, Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 1000, Count: 1}}
	}
	rows := []struct {
		what string
		do   func() error
		want string
	}{
		{"create", func() error { _, err := r.service.Create(ctx, request("others", "record")); return err }, "key: others is not allowed; allowed: keys that begin with mine:"},
		{"create action", func() error { _, err := r.service.Create(ctx, request("mine:1", "other")); return err }, "action: other is not allowed; allowed: record"},
		{"create many", func() error {
			_, _, err := r.service.CreateMany(ctx, []scheduler.Request{request("mine:2", "record"), request("new", "record")})
			return err
		}, "plan 2 (key new): key: new is not allowed"},
		{"get", func() error { _, err := r.service.Get(ctx, "others"); return err }, "key: others"},
		{"get absent", func() error { _, err := r.service.Get(ctx, "absent"); return err }, "key: absent is not allowed"},
		{"remove", func() error { _, err := r.service.Remove(ctx, "others"); return err }, "key: others"},
		{"preview", func() error { _, err := r.service.Preview(ctx, "others", 3); return err }, "key: others"},
		{"history", func() error {
			_, _, err := r.service.History(ctx, scheduler.JournalQuery{Key: "theirs", Limit: 5})
			return err
		}, "key: theirs"},
		{"dead", func() error {
			_, _, err := r.service.DeadLetters(ctx, scheduler.JournalQuery{Key: "theirs", Limit: 5})
			return err
		}, "key: theirs"},
		{"redrive key", func() error { _, err := r.service.Redrive(ctx, scheduler.DeadSelection{Key: "theirs"}); return err }, "key: theirs"},
		{"redrive all", func() error { _, err := r.service.Redrive(ctx, scheduler.DeadSelection{All: true}); return err }, "a token without a limit"},
		{"purge ids", func() error {
			_, err := r.service.Purge(ctx, scheduler.DeadSelection{IDs: []string{dead[0].ID}})
			return err
		}, "a token without a limit"},
		{"purge all", func() error { _, err := r.service.Purge(ctx, scheduler.DeadSelection{All: true}); return err }, "a token without a limit"},
		{"check", func() error { _, err := r.service.Check(ctx); return err }, "a token without a limit"},
	}
	for _, row := range rows {
		if err := row.do(); !errors.Is(err, scheduler.ErrNotAllowed) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want ErrNotAllowed with %q", row.what, err, row.want)
		}
	}
	if p, err := r.service.Get(t.Context(), "others"); err != nil || p.Schedule.Second != 1000 {
		t.Errorf("others: got %+v, %v, want it as it was", p, err)
	}
	if _, err := r.service.Get(t.Context(), "mine:2"); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("of a bulk create with one refused, got %v for another, want nothing stored", err)
	}

	attempts := keysOf(t, func(a scheduler.Attempt) string { return a.Key }, func(cursor string) ([]scheduler.Attempt, string, error) {
		return r.service.History(ctx, scheduler.JournalQuery{Cursor: cursor, Limit: 1})
	})
	letters := keysOf(t, func(d scheduler.DeadLetter) string { return d.Firing.Plan.Key }, func(cursor string) ([]scheduler.DeadLetter, string, error) {
		return r.service.DeadLetters(ctx, scheduler.JournalQuery{Cursor: cursor, Limit: 1})
	})
	if want := []string{"mine:dead"}; !slices.Equal(attempts, want) || !slices.Equal(letters, want) {
		t.Errorf("history %q, dead letters %q, want %q", attempts, letters, want)
	}
	if n, err := r.service.Purge(ctx, scheduler.DeadSelection{Key: "mine:dead"}); n != 1 || err != nil {
		t.Errorf("purge of its own: %d, %v", n, err)
	}
	if _, err := r.service.Create(ctx, request("mine:3", "record")); err != nil {
		t.Errorf("create of its own: %v", err)
	}
}
