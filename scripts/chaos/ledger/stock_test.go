package ledger

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
)

// TestAccount: each way in which what is stored can differ from what was asked for is
// found.
func TestAccount(t *testing.T) {
	t.Parallel()
	store := func(s *Stock, key string) { s.Plans[key], s.Indexed[key], s.Scheduled[key] = true, true, 1 }
	for _, row := range []struct {
		why    string
		change func(*Stock)
		want   string
	}{
		{"all is well", func(*Stock) {}, ""},
		{"what may be there is not", func(s *Stock) { delete(s.Plans, "unsure"); delete(s.Indexed, "unsure"); delete(s.Scheduled, "unsure") }, ""},
		{"one is missing", func(s *Stock) { delete(s.Plans, "each"); delete(s.Indexed, "each"); delete(s.Scheduled, "each") }, "each: absent, and it should be live"},
		{
			"one is missing, its places are not", func(s *Stock) { delete(s.Plans, "each") },
			"each: absent, and it should be live\neach: in a schedule, and not stored\neach: in the index, and not stored",
		},
		{"one has come back", func(s *Stock) { store(s, "removed") }, "removed: stored, and it should be removed"},
		{"one does not end", func(s *Stock) { store(s, "once") }, "once: stored, and it should be finished"},
		{
			"a stranger", func(s *Stock) { store(s, "other") },
			"created 5 = live 3 + finished 1 + removed 1 + quarantined 0, which is 5; stored are 4 plans, and 0 in quarantine\nother: stored, and was never asked for",
		},
		{"not in the index", func(s *Stock) { delete(s.Indexed, "later") }, "later: stored, and not in the index"},
		{"on its way out of the index", func(s *Stock) { s.Indexed["once"], s.Leaving["once"] = true, true }, ""},
		{"in the index for good", func(s *Stock) { s.Indexed["once"] = true }, "once: in the index, and not stored"},
		{"in no schedule", func(s *Stock) { delete(s.Scheduled, "later") }, "later: stored, and in 0 schedules"},
		{"in two schedules", func(s *Stock) { s.Scheduled["later"] = 2 }, "later: stored, and in 2 schedules"},
		{"in quarantine", func(s *Stock) {
			delete(s.Plans, "each")
			delete(s.Indexed, "each")
			delete(s.Scheduled, "each")
			s.Quarantined["each"] = true
		}, ""},
		{
			"in quarantine and not", func(s *Stock) { s.Quarantined["each"] = true },
			"created 5 = live 3 + finished 1 + removed 1 + quarantined 0, which is 5; stored are 3 plans, and 1 in quarantine\neach: stored, and in quarantine",
		},
	} {
		a := newAsked(t)
		a.create("once", Spec{Every: 5, Count: 2}, 0)
		a.create("later", Spec{Every: 100, Count: 2}, 0)
		a.create("each", Spec{Calendar: EachMinute(7)}, 0)
		a.event("each", nil, time.Second, Refused, 0)
		a.create("removed", Spec{Every: 100, Count: 1}, 0)
		a.remove("removed", time.Second)
		a.create("unsure", Spec{Every: 100, Count: 1}, 0)
		a.event("unsure", nil, time.Second, Unknown, 0)
		a.event("never", &Spec{Every: 1}, 0, Refused, 0)
		s := newStock()
		for _, key := range []string{"later", "each", "unsure"} {
			store(s, key)
		}
		row.change(s)
		account := a.Account(s, t0.Unix()+20, t0.Unix()+25)
		if got := strings.Join(account.Problems, "\n"); got != row.want {
			t.Errorf("%s: got %q, want %q", row.why, got, row.want)
		}
		if sum := account.Live + account.Finished + account.Removed + account.Quarantined; account.Created != 5 || sum != 5 {
			t.Errorf("%s: %s", row.why, account)
		}
	}
}

// TestEnded: only a plan that can have ended may be missing when it is removed.
func TestEnded(t *testing.T) {
	t.Parallel()
	a := newAsked(t)
	a.create("twice", Spec{Every: 5, Count: 2}, 0)
	a.remove("twice", 9*time.Second)
	a.create("each", Spec{Calendar: EachMinute(7)}, 0)
	a.remove("each", 9*time.Second)
	for _, row := range []struct {
		key  string
		now  int64
		want bool
	}{{"twice", 9, false}, {"twice", 10, true}, {"each", 10, false}} {
		if got := a.Ended(row.key, t0.Unix()+row.now); got != row.want {
			t.Errorf("%s, %d s on: %t, want %t", row.key, row.now, got, row.want)
		}
	}
}

// TestTakeStock: what is counted of a Redis.
func TestTakeStock(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for _, command := range []string{
		"SET s:{0}:plan:a x", "SET s:{0}:plan:b x", "ZADD s:{0}:index 0 a 0 c", "RPUSH s:{0}:unpack e", "ZADD s:{0}:schedule:http 5 a 6 b", "ZADD s:{0}:schedule:redis 5 b",
		"HSET s:{0}:quarantine q why", "RPUSH s:{0}:firings:http 1 2", "HSET s:{0}:held:http:w 1 2", "SET s:{0}:firing:id x", "ZADD s:{0}:retries 1 m",
		"SET s:{0}:leader x", "SET s:{0}:bundle:t x PX 60000", "SET s:{1}:plan:d x", "SET s:{2}:plan:e x",
	} {
		redistest.Do(t, server.Addr, strings.Fields(command)...)
	}
	redistest.Do(t, server.Addr, "ZADD", "s:{0}:packed", "0", "d\ne", "0", "f")
	s, err := TakeStock(t.Context(), server.Addr, "s:{0}:", "s:{1}:")
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(s.Plans, s.Indexed, s.Leaving, s.Scheduled, s.Quarantined)
	if want := "map[a:true b:true d:true] map[a:true c:true d:true e:true f:true] map[e:true] map[a:1 b:2] map[q:true]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, want := range []string{"s:{0}:firings:http (2)", "s:{0}:held:http:w (1)", "s:{0}:firing:id (1)", "s:{0}:retries (1)"} {
		if !strings.Contains(strings.Join(s.Underway, ", "), want) {
			t.Errorf("under way is %q, want %s", s.Underway, want)
		}
	}
	if len(s.Underway) != 4 {
		t.Errorf("under way is %q, want 4", s.Underway)
	}
}
