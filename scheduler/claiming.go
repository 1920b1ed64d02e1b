package scheduler

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// The claims of a shard loop: how they are sent, and what their answers come to. What is
// claimed, and when, is in shardloop.go.

// claimsUnderWay is how many claims of a shard may be under way. While the store, or its
// disk, is busy with one, the next is made and sent.
const claimsUnderWay = 2

// sentClaim is a claim that was sent.
type sentClaim struct {
	sw    *sweep
	batch []Claim
	slots int // that are reserved for it
	reply ClaimReply
	err   error
	done  chan struct{} // closed when there is an answer
}

// claim sends claims of one action in batches, and settles older ones to make room. It
// returns the worst error of the sweep so far.
func (l *shardLoop) claim(ctx context.Context, p *pass, sw *sweep, claims []Claim) error {
	for batch := range slices.Chunk(claims, l.e.opts.ClaimBatch) {
		for len(l.sent) >= claimsUnderWay {
			l.settle(p)
		}
		if sw.stop || sw.err != nil {
			break
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		lease := *l.lease.Load()
		if !time.Now().Add(trustMargin).Before(lease.Until) {
			return errTrustEnded
		}
		Failpoint("after-trust-check")
		l.send(ctx, sw, batch, lease)
	}
	return sw.err
}

// send begins a claim.
func (l *shardLoop) send(ctx context.Context, sw *sweep, batch []Claim, lease Lease) {
	backlog := l.e.opts.Backlog
	if sw.action == CanaryAction {
		backlog = canaryBacklog
	}
	skew, _ := l.e.clocks.correction()
	c := &sentClaim{sw: sw, batch: batch, done: make(chan struct{})}
	c.slots = l.e.workers.reserveFor(l.s.id, sw.action, l.e.ownShare(len(batch)))
	l.sent = append(l.sent, c)
	b := ClaimBatch{
		Lease: lease, Action: sw.action, Cutoff: l.e.now().Unix(), Skew: skew,
		Backlog: backlog, Claims: batch,
		Worker: l.e.opts.Replica, Slots: c.slots,
	}
	l.beside.Go(func() {
		defer close(c.done)
		// A claim that was sent is waited for even when ctx ends: its answer
		// is what the workers are woken by.
		bounded, cancel := context.WithDeadline(context.WithoutCancel(ctx), lease.Until)
		defer cancel()
		c.reply, c.err = l.e.store.Claim(bounded, b)
		Failpoint("after-claim-reply")
		if c.slots > 0 {
			l.e.workers.started(sw.action, c.reply.Firings, c.slots)
		}
		if c.err != nil {
			c.err = fmt.Errorf("claim due, shard %d, action %s: %w", l.s.id, sw.action, c.err)
		}
	})
}

// settle waits for the answer to the oldest claim under way, and accounts for it.
func (l *shardLoop) settle(p *pass) {
	c := l.sent[0]
	<-c.done
	l.sent = l.sent[1:]
	if c.slots > 0 {
		l.e.workers.handedOut(l.s.id)
	}
	l.account(p, c)
	if c.err == nil {
		l.came()
	}
	c.sw.err, p.failed = worse(c.sw.err, c.err), worse(p.failed, c.err)
}

// settleSweep settles all claims of a sweep.
func (l *shardLoop) settleSweep(p *pass, sw *sweep) {
	for slices.ContainsFunc(l.sent, func(c *sentClaim) bool { return c.sw == sw }) {
		l.settle(p)
	}
}

// settleAll settles all claims, and returns the worst error: err, or that of a claim of
// this pass.
func (l *shardLoop) settleAll(p *pass, err error) error {
	for len(l.sent) > 0 {
		l.settle(p)
	}
	return worse(err, p.failed)
}

// account counts answers and wakes the workers. Answers that come beside an error
// stand.
func (l *shardLoop) account(p *pass, c *sentClaim) {
	sw, action, batch, reply := c.sw, c.sw.action, c.batch, &c.reply
	n := int64(0)
	var others [ClaimFull + 1]int64
	for i, a := range reply.Answers {
		if a.Result > ClaimedOK && a.Result <= ClaimFull {
			others[a.Result]++
		}
		switch a.Result {
		case ClaimedOK:
			n++
			l.e.counters.Collapsed.Add(int64(batch[i].Missed))
			if line := l.e.log.Debug(); line.Enabled() {
				c := batch[i]
				line.Str("firing", string(NewFiringID(c.Key, c.Revision, c.FireDue))).Str("key", c.Key).Str("action", action).
					Int64("due", c.FireDue).Int("shard", l.s.id).Msg("claimed")
			}
		case ClaimGone:
			l.e.counters.Cleared.Add(1)
			sw.progress = true
		case ClaimBad: // quarantined, or refused: then reading it again would change nothing
			l.e.counters.Cleared.Add(1)
			l.e.log.Error().Int("shard", l.s.id).Str("key", batch[i].Key).Str("action", action).Int64("due", batch[i].Due).Int64("next", batch[i].Next).Msg("a plan cannot be claimed: it is in quarantine, or its times are beyond what the store keeps")
		case ClaimChanged:
			sw.again = true
		case ClaimNotYet:
			p.sooner(a.Wait)
			sw.stop = true
		case ClaimFull:
			p.sooner(fullPause)
			sw.stop = true
		}
	}
	for result, n := range others {
		if n > 0 {
			l.e.counters.NotClaimed[result].Add(n)
		}
	}
	if action == CanaryAction {
		l.s.canary.claimed(batch, reply.Answers)
	}
	if n > 0 {
		sw.progress = true
		if action != CanaryAction {
			l.e.counters.Claimed.Add(n)
		}
		if n > int64(len(reply.Firings)) {
			l.e.workers.wake(l.s.id)
		}
	}
}

// ownShare is how many of n claimed firings this replica's own workers may be handed:
// all, where its part of the leading is its part of the fleet; fewer, where it leads
// more than that, so that the others have something to take.
func (e *Engine) ownShare(n int) int {
	share := float64(n*len(e.shards)) / float64(e.fleetOf.Load()*int64(max(len(e.Leads()), 1)))
	return min(n, int(share+rand.Float64())) // of 0.3 firings one in three times
}

// worse is the first of two errors, or nil, unless only the other ends all.
func worse(a, b error) error {
	if a == nil || b != nil && ends(b) && !ends(a) {
		return b
	}
	return a
}
