package ledger

import "time"

// Rollback is a store that lost its newest writes: at At it became again what it was
// at To.
type Rollback struct {
	To, At time.Time // To zero: nothing is left
	// Acknowledged: creates and removes that were answered survive it.
	Acknowledged bool
}

// undoes says whether what an event did may be undone.
func (b *Rollback) undoes(e *Event) bool {
	return !b.Acknowledged && e.Result == Done && !e.Sent.After(b.At) && !e.Answered.Before(b.To)
}

// undone returns the first of the rollbacks that may undo an event, or nil.
func (rules *Rules) undone(e *Event) *Rollback {
	for i := range rules.Rollbacks {
		if b := &rules.Rollbacks[i]; b.undoes(e) {
			return b
		}
	}
	return nil
}

// repeats says whether a firing may be called again because the store forgot that it
// was claimed, or finished: before it must have been called, or at least claimed, and
// not have been done with when what is remembered was written.
func (b *Rollback) repeats(before, again *Receipt, finish time.Duration) bool {
	return again.Due <= b.At.Unix() && again.At.After(b.At) &&
		(before.Done.IsZero() || before.Done.After(b.To.Add(-finish)))
}

// repeated returns the rollback that explains a repeat and has not explained one of
// the same firing before, or nil.
func (rules *Rules) repeated(before, again *Receipt, used map[*Rollback]bool) *Rollback {
	for i := range rules.Rollbacks {
		if b := &rules.Rollbacks[i]; !used[b] && b.repeats(before, again, max(rules.Finish, time.Second)) {
			used[b] = true
			return b
		}
	}
	return nil
}

// unclaimed is the second from which on what a rollback undid shows.
func (rules *Rules) unclaimed(b *Rollback) int64 {
	return b.At.Unix() - int64(rules.Unclaimed/time.Second) - 1
}
