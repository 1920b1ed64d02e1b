package redisstore

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// TestRefusedBundleRevivesNothing: two claims are under way and a read is slow to
// remember what it read. The refused bundle takes states along to what another claim made of
// edits, with a plan in them that this one claimed.
func TestRefusedBundleRevivesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, redistest.Start(t).Addr)
	plans := overdue(12)
	p, others := plans[0], plans[1:]
	b.put(plans...)
	b.due(action)

	// A page is read: edits, keys, plans. Its goroutine is slow to remember them: see Due.
	began := b.k.read.mark()
	page, err := b.s.dueKeys(b.ctx, b.k, action, math.MinInt64, time.Now().Unix(), "", 400)
	if err != nil {
		t.Fatal(err)
	}
	var chunk []listed
	for _, key := range page.keys {
		chunk = append(chunk, listed{b.k, key})
	}
	stored, err := b.s.readChunk(b.ctx, chunk)
	if err != nil {
		t.Fatal(err)
	}

	// A bundle is about to be sent: claimBundle up to run.
	bundle := &claiming{
		k: b.k, batch: &scheduler.ClaimBatch{Lease: b.lease, Action: action, Cutoff: time.Now().Unix(), Worker: "w", Slots: 10},
		claims: claimsOf(others[:10]), answers: make([]scheduler.ClaimAnswer, 10), handOut: 10,
	}
	bundle.plans = b.k.read.take(bundle.claims)
	to := b.s.takeID() + "+10"
	call, ok := b.s.handout(bundle, to)
	if !ok {
		t.Fatal("no bundle")
	}
	if call.args[handoutEdits], ok = b.k.read.assume(to, bundle.claims, bundle.plans); !ok {
		t.Fatal("nothing is assumed")
	}

	// Another claim, by claim.lua, of p comes before it, and is answered.
	first, err := b.s.Claim(b.ctx, scheduler.ClaimBatch{Lease: b.lease, Action: action, Cutoff: time.Now().Unix(), Claims: claimsOf(plans[:1])})
	if err != nil || first.Answers[0].Result != scheduler.ClaimedOK {
		t.Fatal(first, err)
	}

	// The page is remembered.
	for i, v := range stored {
		q, err := decodePlan(page.keys[i], v)
		if err != nil {
			t.Fatal(err)
		}
		b.k.read.add(q, v, page.edits, began)
	}

	// Who was called back stores its next timeout under the same key.
	anew := storetest.NewPlan(p.Key, storetest.WithDue(math.MaxInt32))
	b.put(anew)

	// The bundle is refused, since edits is another.
	r, err := b.s.run(b.ctx, call)
	if err != nil || r.status == 0 {
		t.Fatal(r, err)
	}
	b.k.read.refused(to)

	// The claims of the page.
	fs := b.handOut("w", p)
	for _, f := range fs {
		if f.Plan.Key == p.Key && strings.Contains(f.Receipt, "+") {
			t.Errorf("%s of %d is fired again, by a bundle", p.Key, f.Due)
		}
	}
	if got, err := b.s.Get(b.ctx, p.Key); err != nil || got.Revision != anew.Revision {
		t.Errorf("the plan that was created anew: %v, %v", got, err)
	}
}
