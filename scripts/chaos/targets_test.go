package chaos

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snower/forsun/scripts/chaos/ledger"
)

// TestC14Targets: 500 targets hang, each a host of its own: they accept, read, and never
// answer. What calls other targets, over HTTP, Thrift and Redis, is on time.
func TestC14Targets(t *testing.T) {
	t.Parallel()
	const (
		hanging = 500
		each    = 2 // firings of each target
		hang    = 15 * time.Second
	)
	f := newFleet(scenario(t, "C14"))
	f.mix()
	for _, name := range []string{"a", "b", "c"} {
		f.start(name)
	}
	f.spread(3)
	var calls atomic.Int64
	var plans []ledger.Plan
	for i := range hanging {
		addr := hangs(t, fmt.Sprintf("127.1.%d.%d:0", i/250, 1+i%250), &calls)
		for k := range each {
			p := ledger.HTTPPlan(fmt.Sprintf("hanging-%d-%d", i, k), ledger.Spec{Every: 2, Count: 1}, "http://"+addr)
			p.Params["forsun.timeout"], p.Params["forsun.retries"] = fmt.Sprint(int(hang/time.Second)), "0"
			plans = append(plans, p)
		}
	}
	f.aside(plans...)
	eventually(t, "all targets to hang", 30*time.Second, func() bool { return calls.Load() == hanging*each })
	hung := time.Now()
	f.event("%d attempts hang on %d targets", calls.Load(), hanging)
	probes := make([]ledger.Plan, 100)
	for i := range probes {
		probes[i] = f.plan(i, fmt.Sprintf("probe-%d", i), ledger.Spec{Calendar: ledger.EachSecond()}, "/")
	}
	if err := f.client.Create(t.Context(), probes...); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(hung.Add(hang - 3*time.Second)))
	if n := calls.Load(); n != hanging*each {
		t.Errorf("%d calls to targets that hang, want %d: each is attempted once", n, hanging*each)
	}
	f.event("they hang still")
	during := time.Now().Unix() - 1
	eventually(t, "the attempts to be given up", time.Minute, func() bool { sum, _ := f.sums(); return sum.Dead == hanging*each })
	f.event("all are given up and dead letters")
	ended := time.Now().Unix() + 1
	time.Sleep(5 * time.Second) // the control
	for _, p := range probes {
		if err := f.client.Remove(t.Context(), p.Key); err != nil {
			t.Fatal(err)
		}
	}
	f.deadLetters = hanging * each
	v := f.judge(ledger.Rules{Until: time.Now().Unix() - 1, MaxLate: anyLate}, 30*time.Second)
	var hangMost, controlMost time.Duration
	for second, late := range v.BySecond {
		switch {
		case second <= during:
			hangMost = max(hangMost, late)
		case second > ended:
			controlMost = max(controlMost, late)
		}
	}
	t.Logf("latest %s while %d hung, %s in the control: %s", hangMost, hanging*each, controlMost, v)
	if tolerance := 500 * time.Millisecond; hangMost > controlMost+tolerance {
		t.Errorf("latest %s while targets hung, want at most %s beyond the %s of the control", hangMost, tolerance, controlMost)
	}
}

// hangs listens, accepts and reads, counts connections on which something came, and never answers.
func hangs(t *testing.T, at string, calls *atomic.Int64) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // closed
			}
			serving.Go(func() {
				defer c.Close()
				b := make([]byte, 1)
				if _, err := io.ReadFull(c, b); err != nil {
					return
				}
				calls.Add(1)
				io.Copy(io.Discard, c) // until its client gives up
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		serving.Wait()
	})
	return listener.Addr().String()
}
