package memstore

import (
	"errors"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
)

// What writes nothing, and has found what an fsync is under way for, is answered after it:
// a plan that was refused because there is one is there for good.
func TestRefusalWaitsForWhatItFound(t *testing.T) {
	t.Parallel()
	s, g := gated(t)
	lift := g.shut()
	defer lift()
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- s.Put(t.Context(), []*scheduler.Plan{plan("k", 2_000_000_000)})[0] }()
	await(t, "an fsync", g.came)
	go func() { second <- s.PutNew(t.Context(), []*scheduler.Plan{plan("k", 2_000_000_000)})[0] }()
	wantWaiting(t, "the refusal", second)
	lift()
	if err := await(t, "the plan", first); err != nil {
		t.Error(err)
	}
	if err := await(t, "the refusal", second); !errors.Is(err, scheduler.ErrExists) {
		t.Errorf("refused with %v, want ErrExists", err)
	}
}

// Where fsyncs are slow the next is asked for when one ends, for all that came meanwhile; a
// store that is closed meanwhile answers them, too.
func TestSlowFsyncsGatherAndClose(t *testing.T) {
	t.Parallel()
	s, g := gated(t)
	put := func(key string) <-chan error {
		done := make(chan error, 1)
		go func() { done <- s.Put(t.Context(), []*scheduler.Plan{plan(key, 2_000_000_000)})[0] }()
		return done
	}
	lift := g.shut()
	slow := put("slow")
	await(t, "an fsync", g.came)
	time.Sleep(2 * slowSync) // that is what is slow
	lift()
	if err := await(t, "a plan", slow); err != nil {
		t.Fatal(err)
	}
	lift = g.shut()
	defer lift()
	answers := []<-chan error{put("under way")}
	await(t, "an fsync", g.came)
	for _, key := range []string{"next-1", "next-2", "next-3"} {
		answers = append(answers, put(key))
		eventually(t, key+" to be written", func() bool {
			_, err := s.Get(t.Context(), key)
			return err == nil
		})
	}
	if n := len(s.groups); n > 0 {
		t.Errorf("%d groups wait behind a slow fsync, want none", n)
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	wantWaiting(t, "Close", closed)
	lift()
	for _, done := range answers {
		if err := await(t, "a plan", done); err != nil {
			t.Error(err)
		}
	}
	if err := await(t, "Close", closed); err != nil {
		t.Error(err)
	}
}
