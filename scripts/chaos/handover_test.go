package chaos

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// leadership is a line of a replica's log that says who leads a shard.
type leadership struct {
	Message string    `json:"message"`
	Shard   int       `json:"shard"`
	Term    uint64    `json:"term"`
	Time    time.Time `json:"time"`
}

// leaderships reads the logs of all replicas that ever ran, in the order of time.
func (f *fleet) leaderships() (all []leadership) {
	f.t.Helper()
	logs, err := filepath.Glob(filepath.Join(f.dir, "log-*"))
	if err != nil {
		f.t.Fatal(err)
	}
	for _, log := range logs {
		data, err := os.ReadFile(log)
		if err != nil {
			f.t.Fatal(err)
		}
		for line := range bytes.Lines(data) {
			var l leadership
			if bytes.Contains(line, []byte(`"term":`)) && json.Unmarshal(line, &l) == nil {
				all = append(all, l)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b leadership) int { return a.Time.Compare(b.Time) })
	return all
}

// handOvers judges how long a shard had no leader when one was stopped, which is
// counted from the signal, or gave it up for the fleet's balance. Only a time
// stamp's millisecond may be missing. at least so many leaders must have been stopped.
func (f *fleet) handOvers(stops []time.Time, promised time.Duration, least int) {
	f.t.Helper()
	stopped, longest := 0, time.Duration(0)
	all := f.leaderships()
	for _, l := range all {
		from := l.Time
		switch l.Message {
		case "resigned":
			for _, stop := range slices.Backward(stops) {
				// The log has milliseconds, cut: it may have ended in the one in which it was told to.
				if stop.Before(l.Time.Add(time.Millisecond)) {
					from = stop
					break
				}
			}
		case "gave the shard up":
		default:
			continue
		}
		// By its term: within a millisecond the order is not known.
		i := slices.IndexFunc(all, func(n leadership) bool { return n.Shard == l.Shard && n.Message == "leading" && n.Term > l.Term })
		if i < 0 {
			continue // the fleet ended
		}
		next := all[i]
		took := next.Time.Sub(from)
		f.event("shard %d: from term %d to term %d in %s, %s", l.Shard, l.Term, next.Term, took, l.Message)
		if longest = max(longest, took); took > promised {
			f.t.Errorf("shard %d, from term %d to %d: it took %s to hand it over, want at most %s", l.Shard, l.Term, next.Term, took, promised)
		}
		if l.Message == "resigned" {
			stopped++
		}
	}
	f.t.Logf("%d shards handed over by replicas that were stopped; the longest time without a leader %s", stopped, longest)
	if stopped < least {
		f.t.Errorf("%d shards were handed over, want %d at least: this has shown nothing", stopped, least)
	}
}
