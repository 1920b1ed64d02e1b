package chaos

import (
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scripts/chaos/ledger"
)

// TestC05Network: between a leader and Redis the network fails in every way, one after the
// other: for 10 s it swallows everything; connections are reset; everything takes 200 ms;
// everything comes in pieces of a few bytes. Nothing is lost. What the leader held when
// it lost the store may run again, nothing else does.
func TestC05Network(t *testing.T) {
	t.Parallel()
	const hole = 10 * time.Second
	s := scenario(t, "C5")
	f := newFleet(s)
	proxy := redistest.NewProxy(t, f.redis.Addr)
	a := f.start("a", redisPort+proxy.Port())
	f.start("b")
	f.start("c")
	f.spread(3)
	l := newLoad(f, 4_000, 42*time.Second)
	eventually(t, "firings", 10*time.Second, func() bool { return f.sink.Called(agent("a"), f.began) })
	// midSecond is when the claims of a second are over.
	midSecond := func() {
		time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second + time.Duration(200+s.rand.IntN(600))*time.Millisecond)))
	}
	faults := []func(){
		func() {
			midSecond()
			f.event("the network between a and Redis swallows everything")
			at := time.Now()
			proxy.Hole()
			f.mu.Lock()
			// To the others it is as if it had died.
			f.deaths = append(f.deaths, ledger.Death{Agent: agent("a"), At: at})
			f.mu.Unlock()
			eventually(t, "a to lead nothing", 10*time.Second, func() bool {
				for shard := range shards {
					if r, _ := f.leader(shard); r == nil || r == a {
						return false
					}
				}
				return true
			})
			f.event("others lead")
			time.Sleep(time.Until(at.Add(hole)))
		},
		func() {
			for range 6 {
				time.Sleep(time.Duration(s.rand.IntN(1000)) * time.Millisecond)
				f.event("connections between a and Redis are reset")
				proxy.Cut()
				time.Sleep(time.Duration(s.rand.IntN(100)) * time.Millisecond)
				proxy.Heal()
			}
		},
		func() {
			f.event("between a and Redis everything takes 200 ms")
			proxy.Delay(200 * time.Millisecond)
			time.Sleep(6 * time.Second)
		},
		func() {
			n := 1 + s.rand.IntN(16)
			f.event("between a and Redis everything comes in pieces of %d bytes", n)
			proxy.Slice(n)
			time.Sleep(5 * time.Second)
		},
	}
	s.rand.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	for _, fault := range faults {
		fault()
		proxy.Heal()
		f.event("the network is well")
		time.Sleep(2 * time.Second)
	}
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: hole + 2*claimWithin, Rerun: hole + rerunWithin, Finish: 2 * finishWithin}, time.Minute)
	t.Log(v)
	f.doctor()
}
