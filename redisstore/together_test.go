package redisstore

import (
	"testing"

	"github.com/snower/forsun/scheduler"
)

// TestTogether: no plan comes twice in one run of a script, wherever it stands.
func TestTogether(t *testing.T) {
	claims := func(keys string, dues ...int64) (cs []scheduler.Claim) {
		for i, k := range keys {
			due := int64(5)
			if len(dues) > 0 {
				due = dues[i]
			}
			cs = append(cs, scheduler.Claim{Key: string(k), Due: due})
		}
		return cs
	}
	for _, row := range []struct {
		claims []scheduler.Claim
		want   int
	}{
		{claims("abcd"), 4},
		{claims("dcba"), 4},
		{claims("abca"), 3},
		{claims("aabc"), 1},
		{claims("badb"), 3},
		{claims("abca", 1, 1, 1, 2), 3},
		{claims("abab", 1, 1, 2, 2), 2},
		{claims("bab", 1, 2, 2), 2},
		{claims("abcd", 1, 2, 3, 4), 4},
	} {
		if got := together(row.claims, make([]readPlan, len(row.claims))); got != row.want {
			t.Errorf("%v: %d together, want %d", row.claims, got, row.want)
		}
	}
	many := make([]scheduler.Claim, 2*batchPlans)
	for i := range many {
		many[i].Key = string(rune('a' + i))
	}
	if got := together(many, make([]readPlan, len(many))); got != batchPlans {
		t.Errorf("%d of %d together, want %d", got, len(many), batchPlans)
	}
	large := []readPlan{{size: batchBytes / 2}, {size: batchBytes / 2}, {}, {}}
	if got := together(claims("abcd"), large); got != 2 {
		t.Errorf("%d large ones together, want 2", got)
	}
}
