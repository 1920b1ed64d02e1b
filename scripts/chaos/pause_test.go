package chaos

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scripts/chaos/ledger"
)

// leaseTime is how long a lease lives.
const leaseTime = 2500 * time.Millisecond

// TestC03LeaderPaused: a leader is stopped where it stands for two lease times, with a
// claim that it has sent and that Redis has not seen, and goes on. The claim comes
// when another leads: it is refused. Everything runs once.
func TestC03LeaderPaused(t *testing.T) {
	t.Parallel()
	f := newFleet(scenario(t, "C3"), idle)
	f.watchClaims()
	proxy := redistest.NewProxy(t, f.redis.Addr)
	// The last request of the leader's that claims: only such scripts have leader,
	// index and edits among their keys.
	var claim atomic.Pointer[[]byte]
	watch := func() {
		proxy.DropNextReplyMatching(func(request []byte) bool {
			if bytes.Contains(request, []byte(":edits")) && bytes.Contains(request, []byte(":index")) && bytes.Contains(request, []byte(":leader")) {
				kept := bytes.Clone(request)
				claim.Store(&kept)
			}
			return false
		})
	}
	watch()
	a := f.start("a", redisPort+proxy.Port())
	for _, name := range []string{"b", "c"} {
		f.start(name)
	}
	f.spread(3)
	footprints := f.footprints()
	l := newLoad(f, pick3(600, 3_000, 6_000), pick3(12*time.Second, 11*time.Second, 30*time.Second))
	// At first few of them are due. a's shards have something in each second, and not so much
	// that its claim comes to the proxy in pieces.
	each := make([]ledger.Plan, 20)
	for i := range each {
		each[i] = f.plan(i, fmt.Sprintf("pulse-%d", i), ledger.Spec{Calendar: ledger.EachSecond()}, "/")
	}
	if err := f.client.Create(t.Context(), each...); err != nil {
		t.Fatal(err)
	}
	eventually(t, "firings", 10*time.Second, func() bool { return f.sink.Called(agent("a"), f.began) })

	var held time.Time
	for {
		next := time.Now().Truncate(time.Second).Add(time.Second)
		time.Sleep(time.Until(next.Add(-50 * time.Millisecond))) // after the reading ahead, before the tick
		claim.Store(nil)
		proxy.Hold()
		if held = time.Now(); held.Before(next) {
			break
		}
		proxy.Heal() // the claim may have come through: in the next second
		watch()
	}
	eventually(t, "a claim of a's that Redis does not see", 3*time.Second, func() bool { return claim.Load() != nil })
	f.pause(a)
	late := *claim.Load()
	shard, lease := 0, ""
	for shard = range shards {
		if r, value := f.leader(shard); r == a && bytes.Contains(late, []byte(value)) {
			lease = value
			break
		}
	}
	if lease == "" {
		t.Fatalf("a claimed under no lease that it holds: %q", late)
	}
	eventually(t, "another leader", 10*time.Second, func() bool { r, _ := f.leader(shard); return r != nil && r != a })
	time.Sleep(time.Until(held.Add(2 * leaseTime)))

	monitor, err := redistest.Dial(f.redis.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer monitor.Close()
	if _, err := monitor.Do("MONITOR"); err != nil {
		t.Fatal(err)
	}
	seen := make(chan struct{})
	go func() {
		for {
			line, err := monitor.Receive()
			if err != nil {
				return
			}
			if text, _ := line.(string); strings.Contains(text, lease) && strings.Contains(text, ":edits") {
				close(seen)
				return
			}
		}
	}()
	proxy.Heal()
	select {
	case <-seen:
		f.event("the claim of a under %s has come, %s after it was sent", lease, time.Since(held).Round(time.Millisecond))
	case <-time.After(10 * time.Second):
		t.Error("the late claim never came")
	}
	f.resume(a)
	// What Redis answered: it is asked the same again, by another connection.
	// (What a claim hands out together is stored before it: +OK.)
	if got, err := exchange(f.redis.Addr, late); strings.TrimPrefix(got, "+OK\r\n") != "*1\r\n:1\r\n" {
		t.Errorf("the late claim is answered %q, %v; want that it is fenced, {1}", got, err)
	}
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: 2*leaseTime + 2*claimWithin}, 30*time.Second)
	f.account(l.end.Unix())
	footprints()
	f.notLogged(rescued)
	t.Logf("paused for %s: %s", 2*leaseTime, v)
	if line, _ := a.logged("stepped down"); line == nil {
		t.Error("a does not say that it stepped down")
	} else {
		t.Logf("a: stepped down, shard %v, term %v: %v", line["shard"], line["term"], line["error"])
	}
}

// TestC05RedisPaused: Redis is stopped where it stands, with firings running. Nobody
// is declared dead for it, nothing runs twice, and everything that was missed
// fires.
func TestC05RedisPaused(t *testing.T) {
	t.Parallel()
	f := newFleet(scenario(t, "C5"))
	for _, name := range []string{"a", "b", "c"} {
		f.start(name)
	}
	f.spread(3)
	outage := pick3(6*time.Second, 10*time.Second, 20*time.Second)
	l := newLoad(f, pick(600, 6_000), 8*time.Second+outage)
	const held = 20
	for i := range held {
		plan := ledger.HTTPPlan(fmt.Sprintf("held-%d", i), ledger.Spec{Every: 2, Count: 1}, f.sink.URL+"/hold")
		if err := f.client.Create(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "firings that run", 20*time.Second, func() bool {
		n := 0
		for _, r := range f.sink.Receipts() {
			if strings.HasPrefix(r.Key, "held-") {
				n++
			}
		}
		return n == held
	})
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second + 5*time.Millisecond)))
	f.redis.Pause()
	f.event("Redis is paused")
	paused := time.Now()
	time.Sleep(time.Second)
	f.sink.Release() // they finish while nothing can be written
	time.Sleep(time.Until(paused.Add(outage)))
	f.redis.Resume()
	f.event("Redis goes on")
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: outage + 2*claimWithin}, 30*time.Second)
	f.notLogged(rescued)
	t.Logf("Redis paused for %s: %s", outage, v)
}
