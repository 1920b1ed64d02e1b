package memstore

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// recordAttempts writes batches of attempts straight into the history.
func recordAttempts(t *testing.T, s *Store, batches, each int, key func(i int) string) {
	t.Helper()
	for b := range batches {
		var h historyEntry
		for i := range each {
			h.add(&scheduler.Attempt{Key: key(b*each + i), Action: "http", Attempt: 1, Due: int64(b*each + i), Outcome: scheduler.Succeeded}, "")
		}
		if _, err := s.submit(&request{ctx: t.Context(), run: func(x *txn) error {
			x.record(&h)
			return nil
		}}); err != nil {
			t.Fatal(err)
		}
	}
}

// dues reads the whole history of a key, by pages, and counts the pages.
func dues(t *testing.T, s *Store, key string, limit int) (dues []int64, pages int) {
	t.Helper()
	cursor := ""
	for {
		page, next, err := s.History(t.Context(), scheduler.JournalQuery{Key: key, Cursor: cursor, Limit: limit})
		if err != nil {
			t.Fatal(err)
		}
		if len(page) > limit {
			t.Fatalf("a page of %d, want at most %d", len(page), limit)
		}
		pages++
		for _, a := range page {
			dues = append(dues, a.Due)
		}
		if cursor = next; cursor == "" {
			return dues, pages
		}
	}
}

// Pages fit together whatever their size and wherever in a batch they end, and
// a filtered page looks through a bounded part only.
func TestHistoryPages(t *testing.T) {
	t.Parallel()
	s := open(t, testOptions(t))
	recordAttempts(t, s, 60, 7, func(i int) string { return fmt.Sprintf("k%d", i%3) })
	var all, third []int64
	for i := int64(419); i >= 0; i-- {
		all = append(all, i)
		if i%3 == 1 {
			third = append(third, i)
		}
	}
	for _, limit := range []int{1, 3, 7, 8, 1000} {
		if got, _ := dues(t, s, "", limit); !slices.Equal(got, all) {
			t.Errorf("pages of %d: %v", limit, got)
		}
		if got, _ := dues(t, s, "k1", limit); !slices.Equal(got, third) {
			t.Errorf("pages of %d of one key: %v", limit, got)
		}
	}
	recordAttempts(t, s, 25, 1000, func(int) string { return "other" })
	got, pages := dues(t, s, "k1", 1000)
	if !slices.Equal(got, third) || pages < 3 {
		t.Errorf("behind 25,000 others: %d attempts in %d pages, want %d in at least 3", len(got), pages, len(third))
	}
	if _, _, err := s.History(t.Context(), scheduler.JournalQuery{Cursor: "nonsense", Limit: 1}); err == nil {
		t.Error("a cursor of nobody is accepted")
	}
}

// The history is cut by count and by age.
func TestHistoryIsTrimmed(t *testing.T) {
	t.Parallel()
	clock := storetest.NewClock(now())
	o := testOptions(t)
	o.Now, o.HistoryEntries, o.HistoryAge = clock.Now, 100, time.Hour
	s := open(t, o)
	trim := func() {
		t.Helper()
		if err := s.trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantWhole(t, s)
	}
	recordAttempts(t, s, 15, 10, func(int) string { return "old" })
	trim()
	if got, _ := dues(t, s, "", 1000); len(got) != 100 || got[99] != 50 {
		t.Errorf("%d attempts, want the newest 100", len(got))
	}
	clock.Advance(2 * time.Hour)
	recordAttempts(t, s, 2, 10, func(int) string { return "new" })
	trim()
	if got, _ := dues(t, s, "", 1000); len(got) != 20 {
		t.Errorf("%d attempts, want the 20 that are younger than an hour", len(got))
	}
	clock.Advance(2 * time.Hour)
	trim()
	if got, _ := dues(t, s, "", 1000); len(got) != 0 {
		t.Errorf("%d attempts, want none", len(got))
	}
	trim()
}

// Of dead letters the newest are kept.
func TestDeadLettersAreBounded(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.DeadEntries = 10
	s := open(t, o)
	p := plan("k", 0)
	for i := range 25 {
		if _, err := s.submit(&request{ctx: t.Context(), run: func(x *txn) error {
			f := &firing{
				key: p.Key, action: p.Action, due: int64(i), attempt: 1, delivery: 1,
				core: append(appendCore(nil, 0, p.Action, p.Key), appendBody(nil, p)...),
			}
			return x.bury(f, "refused")
		}}); err != nil {
			t.Fatal(err)
		}
	}
	dead, _, err := s.DeadLetters(t.Context(), scheduler.JournalQuery{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	if len(dead) != 10 || dead[0].Firing.Due != 24 || dead[9].Firing.Due != 15 {
		t.Errorf("%d dead letters, want the newest 10", len(dead))
	}
	if n := s.droppedDead.Load(); n != 15 {
		t.Errorf("%d counted as dropped, want 15", n)
	}
	wantWhole(t, s)
}
