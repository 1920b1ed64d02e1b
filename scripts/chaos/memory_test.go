package chaos

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scripts/chaos/ledger"
)

// TestC11OutOfMemory: Redis is at its maxmemory, and another client takes what becomes
// free. Creates are refused with a code, and have no effect; what is stored fires, is
// finished and removed, and a leader that dies is replaced. When there is room again,
// creates are done.
func TestC11OutOfMemory(t *testing.T) {
	t.Parallel()
	f := newFleetOn(scenario(t, "C11"), redistest.Start(t, "appendonly yes", "maxmemory-policy noeviction"))
	f.startAll("a", "b", "c")
	f.spread(1)
	full := pick3(10*time.Second, 45*time.Second, 5*time.Minute)
	l := newLoad(f, pick3(600, 6_000, 30_000), full+pick3(8*time.Second, 15*time.Second, 15*time.Second))
	time.Sleep(time.Second + time.Duration(f.rand.IntN(1000))*time.Millisecond)

	release := f.exhaust()
	began := time.Now()
	c := newCreates(f, "stream", l.end.Add(-5*time.Second))
	time.Sleep(full/3 + time.Duration(f.rand.IntN(1000))*time.Millisecond)
	victim := f.aLeader(f.rand.IntN(f.shards))
	f.kill(victim.name, true)
	time.Sleep(downFor)
	f.start(victim.name) // with no memory, too
	time.Sleep(time.Until(began.Add(full)))
	fired := f.sink.Count()
	release()
	ended := time.Now()

	stored := c.wait()
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: anyLate, Rerun: rerunWithin, Finish: finishWithin}, time.Minute)
	f.terms()
	f.doctor()
	t.Logf("%d stored meanwhile, %d firings until there was room: %s", stored, fired, v)
	var refused, done, after int
	for _, e := range f.journal.Events() {
		switch {
		case e.Spec == nil || e.Sent.Before(began):
		case e.Sent.After(ended):
			if e.Result == ledger.Done {
				after++
			}
		case e.Result == ledger.Refused && e.Code == codeFull:
			refused++
		case e.Result == ledger.Refused:
			t.Errorf("%s was refused with %d, want %d", e.Key, e.Code, codeFull)
		case e.Result == ledger.Done:
			done++
		}
	}
	t.Logf("creates without memory: %d refused with %d, %d done; %d done later", refused, codeFull, done, after)
	if refused == 0 || after == 0 {
		t.Error("no create was refused, or none was done when there was room: this has shown nothing")
	}
}

// codeFull is the code of a create that is refused because the store is full.
const codeFull = 1010

// exhaust fills Redis up to a limit, and goes on with what becomes free, until what it
// returns is called.
func (f *fleet) exhaust() (release func()) {
	t := f.t
	t.Helper()
	conn, err := redistest.Dial(f.redis.Addr)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := redistest.Do(t, f.redis.Addr, "INFO", "memory").(string)
	_, used, _ := strings.Cut(text, "used_memory:")
	used, _, _ = strings.Cut(used, "\r\n")
	n, err := strconv.Atoi(used)
	if err != nil {
		t.Fatal(err)
	}
	redistest.Do(t, f.redis.Addr, "CONFIG", "SET", "maxmemory", strconv.Itoa(n+8<<20))
	keys, reached := 0, make(chan struct{})
	done := make(chan struct{})
	var filling sync.WaitGroup
	var failed error
	filling.Go(func() {
		defer conn.Close()
		size := 64 << 10
		for {
			_, err := conn.Do("SET", fmt.Sprintf("other:%d", keys), strings.Repeat("x", size))
			var refused redistest.ReplyError
			switch {
			case err == nil:
				keys++
				continue
			case !errors.As(err, &refused) || !strings.HasPrefix(err.Error(), "OOM "):
				failed = err
				return
			case size > 64:
				size /= 2
				continue
			}
			if reached != nil {
				close(reached)
				reached = nil
			}
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	select {
	case <-reached:
	case <-time.After(30 * time.Second):
		t.Fatal("Redis does not get full")
	}
	f.event("Redis is full")
	return func() {
		t.Helper()
		close(done)
		filling.Wait()
		if failed != nil {
			t.Error(failed)
		}
		redistest.Do(t, f.redis.Addr, "CONFIG", "SET", "maxmemory", "0")
		f.event("Redis has room again; another client took it with %d keys", keys)
	}
}
