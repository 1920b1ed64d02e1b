package chaos

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scripts/chaos/ledger"
)

// ruins are what is done to a plan's key by hand: what is there instead, and whether the
// plan ends in quarantine, or is simply gone.
var ruins = []struct {
	name       string
	quarantine bool
	ruin       func(f *fleet, key string)
}{
	{"deleted", false, func(f *fleet, key string) { f.byHand("DEL", key) }},
	{"text", true, func(f *fleet, key string) { f.byHand("SET", key, "not a plan") }},
	{"empty", true, func(f *fleet, key string) { f.byHand("SET", key, "") }},
	{"bytes", true, func(f *fleet, key string) { f.byHand("SET", key, "\xff\xfe\x00{}") }},
	{"other JSON", true, func(f *fleet, key string) { f.byHand("SET", key, `[{"key":1},null]`) }},
	{"half", true, func(f *fleet, key string) {
		plan := redistest.Do(f.t, f.redis.Addr, "GET", key).(string)
		f.byHand("SET", key, plan[:len(plan)/2])
	}},
	{"nested", true, func(f *fleet, key string) {
		deep := make([]byte, 20_000)
		for i := range deep {
			deep[i] = '['
		}
		f.byHand("SET", key, string(deep))
	}},
	{"list", true, func(f *fleet, key string) { f.byHand("DEL", key); f.byHand("RPUSH", key, "a", "b") }},
	{"hash", true, func(f *fleet, key string) { f.byHand("DEL", key); f.byHand("HSET", key, "a", "b") }},
	{"sorted set", true, func(f *fleet, key string) { f.byHand("DEL", key); f.byHand("ZADD", key, "1", "b") }},
}

func (f *fleet) byHand(args ...string) {
	f.t.Helper()
	redistest.Do(f.t, f.redis.Addr, args...)
}

// TestC12Undecodable: of one plan in a hundred the key is deleted, or something else is put
// in its place, by hand and under load. These do not fire any more, end in quarantine, and
// hold up nobody: all others fire, in time.
func TestC12Undecodable(t *testing.T) {
	t.Parallel()
	s := scenario(t, "C12")
	f := newFleet(s)
	for _, name := range []string{"a", "b", "c"} {
		f.start(name)
	}
	f.spread(3)
	n, span := pick(1_200, 8_000), pick(10*time.Second, 30*time.Second)
	count := max(n/100, 2*len(ruins))
	const soon = 4 // seconds
	plans := make([]ledger.Plan, count)
	for i := range plans {
		spec := ledger.Spec{Every: soon + s.rand.Int64N(int64(span/time.Second)-soon), Count: 1 + s.rand.Int64N(2)}
		if i%5 == 0 {
			spec = ledger.Spec{Calendar: ledger.EachSecond()} // is claimed again and again
		}
		plans[i] = ledger.HTTPPlan(fmt.Sprintf("ruined-%04d", i), spec, f.sink.URL)
	}
	l := newLoad(f, n, span)
	stored := time.Now()
	if err := f.client.Create(t.Context(), plans...); err != nil {
		t.Fatal(err)
	}
	keys := make(map[string]string)
	for shard := range shards {
		for _, set := range []string{"index", "packed"} { // which comes second: keys go from one to the other
			for _, run := range redistest.Do(t, f.redis.Addr, "ZRANGE", fmt.Sprintf("forsun:{%d}:%s", shard, set), "0", "-1").([]any) {
				for key := range strings.SplitSeq(run.(string), "\n") {
					keys[key] = fmt.Sprintf("forsun:{%d}:plan:%s", shard, key)
				}
			}
		}
	}
	for i, p := range plans {
		how := ruins[i%len(ruins)]
		left := time.Until(stored.Add((soon - 1) * time.Second))
		time.Sleep(max(0, left/time.Duration(count-i)))
		if time.Since(stored) > soon*time.Second && i%5 != 0 {
			f.event("%s is not ruined, it may have fired", p.Key) // the machine is slow
			continue
		}
		if keys[p.Key] == "" {
			t.Fatalf("%s is not in the index", p.Key)
		}
		// For the ledger it is removed.
		e := &ledger.Event{Key: p.Key}
		f.journal.Sending(e)
		how.ruin(f, keys[p.Key])
		f.journal.Answered(ledger.Answer{Event: e, Result: ledger.Done})
		if how.quarantine {
			f.quarantined++
		}
		f.event("%s: %s", p.Key, how.name)
	}
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: anyLate}, time.Minute)
	t.Logf("%d ruined, %d in quarantine: %s", count, f.quarantined, v)
	f.notLogged(rescued)
	f.doctor("quarantine")
}
