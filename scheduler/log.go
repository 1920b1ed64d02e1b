package scheduler

import "github.com/rs/zerolog"

// log adds to a line what names a firing, the same in every line about one: firing,
// key, action, due (Unix seconds), attempt, shard.
func (f *Firing) log(e *zerolog.Event) *zerolog.Event {
	return e.Str("firing", string(f.ID())).Str("key", f.Plan.Key).Str("action", f.Plan.Action).
		Int64("due", f.Due).Int("attempt", f.Attempt).Int("shard", f.Shard)
}

// log writes a line of what became of a delivery.
func (f *Finish) log(line *zerolog.Event, answer Finished) {
	if f.Firing.Plan == nil { // only its receipt is known
		line.Discard()
		return
	}
	f.Firing.log(line)
	if a := f.Attempt; a != nil {
		line.Str("outcome", string(a.Outcome)).Dur("late_ms", a.Late).Dur("took_ms", a.Took)
		if a.Error != "" {
			line.Str("error", a.Error)
		}
	}
	line.Bool("held", answer != FinishedNotHeld).Msg([...]string{
		Done: "finished", Retry: "to be retried", Bury: "failed for good", Defer: "deferred: its target has no slot", Return: "handed back",
	}[f.Verdict])
}
