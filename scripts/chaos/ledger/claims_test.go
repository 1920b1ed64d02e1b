package ledger

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// scriptLines are what MONITOR says of a claim: of the script, and of what it does.
func scriptLines(keys []string, shard int, lease string, accepted bool) []string {
	tag := fmt.Sprintf("forsun:{%d}:", shard)
	line := fmt.Sprintf(`1795345900.123456 [0 127.0.0.1:4000] "EVALSHA" "0123" "%d"`, len(keys))
	for _, key := range keys {
		line += fmt.Sprintf(` "%s%s"`, tag, key)
	}
	lines := []string{line + fmt.Sprintf(` "%s" "1795345900" "0"`, lease), fmt.Sprintf(`1795345900.123457 [0 lua] "GET" "%sleader"`, tag)}
	if accepted {
		lines = append(lines, fmt.Sprintf(`1795345900.123458 [0 lua] "HINCRBY" "%sbacklog" ":total" "1"`, tag))
	}
	return lines
}

// claimKeys are the keys of the scripts that claim.
var claimKeys = map[string][]string{
	"claim":   {"leader", "schedule:http", "index", "firings:http", "backlog", "changes", "quarantine", "workers", "held:http:w", "edits", `plan:a\"b\x00`, "firing:1"},
	"handout": {"leader", "schedule:http", "index", "backlog", "changes", "edits", "workers", "bundles:http:w", "bundle:1", `plan:a\"b\x00`},
}

// TestClaims: which claims are found to break the order of terms.
func TestClaims(t *testing.T) {
	t.Parallel()
	type step struct {
		shard    int
		lease    string
		accepted bool
	}
	for _, row := range []struct {
		why      string
		steps    []step
		accepted int
		want     string
	}{
		{"terms that grow", []step{{0, "1:a:x", true}, {0, "1:a:x", true}, {0, "3:b:y", true}}, 3, ""},
		{"a late one that is refused", []step{{0, "2:a:x", true}, {0, "1:b:y", false}, {0, "2:a:x", true}}, 2, ""},
		{
			"a late one that is accepted",
			[]step{{0, "10:a:x", true}, {0, "9:b:y", true}},
			2,
			"forsun:{0}:claimed under 9:b:y at 1795345900.123456 after a claim under 10:a:x at 1795345900.123456",
		},
		{
			"two of one term",
			[]step{{0, "2:a:x", true}, {0, "2:b:y", true}},
			2,
			"forsun:{0}:claimed under 2:b:y at 1795345900.123456 after a claim under 2:a:x at 1795345900.123456",
		},
		{"other shards", []step{{0, "2:a:x", true}, {1, "1:b:y", true}, {0, "3:a:x", true}}, 3, ""},
	} {
		for script, keys := range claimKeys {
			var c Claims
			for _, s := range row.steps {
				for _, line := range scriptLines(keys, s.shard, s.lease, s.accepted) {
					c.See(line)
				}
				c.See(`1795345900.2 [0 127.0.0.1:5] "PING"`)
				// Of another script, or of none.
				c.See(fmt.Sprintf(`1795345900.3 [0 lua] "HINCRBY" "forsun:{%d}:backlog" ":total" "1"`, s.shard))
			}
			accepted, problems := c.Found()
			if got := strings.Join(problems, "\n"); got != row.want || accepted != row.accepted {
				t.Errorf("%s, by %s: got %d accepted, %q, want %d, %q", row.why, script, accepted, got, row.accepted, row.want)
			}
		}
	}
	var c Claims
	for _, line := range append(scriptLines(claimKeys["claim"], 0, "5:a:x", true), "", "OK", `1 [0 127.0.0.1:1] "EVALSHA" "x" "99`) {
		c.See(line)
	}
	c.Forget()
	for _, line := range scriptLines(claimKeys["claim"], 0, "1:b:y", true) {
		c.See(line)
	}
	if accepted, problems := c.Found(); accepted != 2 || problems != nil {
		t.Errorf("after the store lost the terms: %d accepted, %q", accepted, problems)
	}
	at := time.Unix(1795345900, 123000000)
	if longest, shards := c.Next(at); longest != 456*time.Microsecond || shards != 1 {
		t.Errorf("the next claim of %d shards came after %s, want 456µs, 1", shards, longest)
	}
	if longest, shards := c.Next(at.Add(time.Second)); longest != 0 || shards != 0 {
		t.Errorf("after the last claim: %d shards, %s, want none", shards, longest)
	}
}
