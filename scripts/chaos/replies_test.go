package chaos

import (
	"bytes"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scripts/chaos/ledger"
)

// TestC05RepliesLost: over and over Redis does what it is asked, and the answer is lost
// with its connection. Nobody dies, so that everything runs once.
func TestC05RepliesLost(t *testing.T) {
	t.Parallel()
	f := newFleet(scenario(t, "C5"))
	proxy := redistest.NewProxy(t, f.redis.Addr)
	// With few slots, so that a take leaves something for the next.
	for _, name := range []string{"a", "b", "c"} {
		f.start(name, redisPort+proxy.Port(), "--slots=http=20")
	}
	f.spread(3)
	l := newLoad(f, 5_000, pick3(12*time.Second, 14*time.Second, time.Minute))
	has := func(request []byte, words ...string) bool {
		for _, w := range words {
			if !bytes.Contains(request, []byte(w)) {
				return false
			}
		}
		return true
	}
	take := func(r []byte) bool { return has(r, "EVALSHA", ":workers", ":firings:", ":held:") && !has(r, ":leader") }
	// Those that are lost in turn; what a script has among its keys tells which it is.
	kinds := []struct {
		name  string
		match func(request []byte) bool
	}{
		{"a take's", take},
		{"a claim's", func(r []byte) bool { return has(r, "EVALSHA", ":leader", ":index", ":edits") }},
		{"a take's", take},
		{"a finish's", func(r []byte) bool { return has(r, "EVALSHA", ":history", ":held:") }},
		{"any script's", func(r []byte) bool { return has(r, "EVALSHA") }},
	}
	lost := make(map[string]int)
	for i := 0; time.Until(l.end) > 2*time.Second; i++ {
		kind := kinds[i%len(kinds)]
		// In any part of a second, but mostly in the first, when there is most to lose.
		if part := f.rand.IntN(200); part < 150 {
			time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second + time.Duration(part)*time.Millisecond)))
		} else {
			time.Sleep(time.Duration(part) * time.Millisecond)
		}
		done := proxy.DropNextReplyMatching(kind.match)
		select {
		case <-done:
			lost[kind.name]++
			f.event("%s reply is lost", kind.name)
		case <-time.After(2 * time.Second):
			t.Errorf("%s reply: none came in 2 s", kind.name)
			proxy.Heal()
		}
	}
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: anyLate}, 30*time.Second)
	f.notLogged(rescued)
	t.Logf("replies lost: %v; %s", lost, v)
	for _, kind := range kinds {
		if lost[kind.name] == 0 {
			t.Errorf("no reply of %s kind was lost: this has shown less than it should", kind.name)
		}
	}
}
