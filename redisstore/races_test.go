package redisstore

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// TestRaces has workers take, finish in every way, and forget, clients put and remove, and
// a leader claim, promote, rescue and redrive, all at once: afterwards everything is
// counted as it is, and every unfinished firing, and nothing else, has its plan.
func TestRaces(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := newBench(t, server.Addr)
	b.k.settled.Store(int64(time.Hour)) // nobody counts anew
	end := time.Now().Add(3 * time.Second)
	var wg sync.WaitGroup
	var claimed, ran atomic.Int64
	for w := range 4 {
		peer := openStore(t, b.s.opts)
		wg.Go(func() {
			worker := fmt.Sprintf("w%d", w)
			for i := 0; time.Now().Before(end); i++ {
				fs, _, err := peer.Take(b.ctx, scheduler.TakeRequest{Worker: worker, Slots: map[string]int{action: 7}})
				if err != nil {
					t.Error(err)
				}
				var fin []scheduler.Finish
				for j, f := range fs {
					v := []scheduler.Verdict{scheduler.Done, scheduler.Retry, scheduler.Bury, scheduler.Defer, scheduler.Return, scheduler.Done}[(i+j)%6]
					x := ends(f, v, time.Now().Add(5*time.Millisecond))
					if v == scheduler.Defer || v == scheduler.Return {
						x.Attempt = nil
					}
					fin = append(fin, x)
					ran.Add(1)
				}
				if i%9 == 8 {
					continue // left to be rescued
				}
				if len(fin) > 0 {
					if _, err := peer.Finish(b.ctx, 0, worker, fin); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for p := range 2 {
		wg.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				key := fmt.Sprintf("k%d", i%50)
				if i%7 == 0 {
					b.s.Remove(b.ctx, key)
				} else {
					b.s.Put(b.ctx, []*scheduler.Plan{storetest.NewPlan(key, storetest.WithDue(time.Now().Unix()-int64(i%20)), storetest.Every(1, 3+p))})
				}
			}
		})
	}
	wg.Go(func() {
		for time.Now().Before(end) {
			page := b.due(action)
			claims := make([]scheduler.Claim, 0)
			for _, p := range page.Plans {
				claims = append(claims, p.NextClaim(time.Now().Unix(), 60, time.UTC))
			}
			r, err := b.s.Claim(b.ctx, scheduler.ClaimBatch{Lease: b.lease, Action: action, Cutoff: time.Now().Unix(), Claims: claims})
			if err != nil {
				t.Error(err)
			}
			for _, a := range r.Answers {
				if a.Result == scheduler.ClaimedOK {
					claimed.Add(1)
				}
			}
			if _, _, err := b.s.Promote(b.ctx, scheduler.PromoteRequest{Lease: b.lease, Now: time.Now(), Limit: 100}); err != nil {
				t.Error(err)
			}
			for w := range 4 {
				b.s.Rescue(b.ctx, b.lease, scheduler.Holder{Worker: fmt.Sprintf("w%d", w)}, 5, 3)
			}
			if dead, _, err := b.s.DeadLetters(b.ctx, scheduler.JournalQuery{Limit: 5}); err == nil && len(dead) > 0 {
				b.s.Redrive(b.ctx, []string{dead[0].ID})
			}
		}
	})
	wg.Wait()
	b.checked()
	b.s.collect(b.ctx, b.k)
	plans := len(b.redis("KEYS", b.k.firing("*")).([]any))
	if total := b.redis("HGET", b.k.backlog, ":total"); fmt.Sprint(plans) != total || claimed.Load() == 0 || ran.Load() == 0 {
		t.Errorf("%d claimed, %d ran; %v firings are unfinished, and there are plans of %d", claimed.Load(), ran.Load(), total, plans)
	}
	if n := b.redis("HLEN", b.k.quarantine); n != int64(0) {
		t.Errorf("%v are in quarantine", n)
	}
}
