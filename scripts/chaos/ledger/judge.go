package ledger

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Death is the end of a process that ran firings, as kill -9 does it.
type Death struct {
	Agent string
	At    time.Time
}

// Rules are what a scenario promises.
type Rules struct {
	Until   int64         // due seconds after it need not have fired yet
	MaxLate time.Duration // of a firing that no worker died over
	// Deaths of workers: what one of them held may run again, and only that.
	Deaths []Death
	Rerun  time.Duration // within this of the death
	// Finish is how long after it was answered a firing may not be finished yet: a
	// worker that dies meanwhile held it still.
	Finish time.Duration
	// Unnoted is how long after it began it may not be on record yet that a worker has a
	// firing: if it dies meanwhile, the attempt after has the same number. 0: never.
	Unnoted time.Duration
	// Unclaimed is how late a due second may be claimed: one that passed less than
	// that before its plan was removed or replaced may have fired or not. 0: MaxLate,
	// and with Deaths Rerun.
	Unclaimed time.Duration
	// Rollbacks of the store, in their order. A firing that one covers may be called
	// once more, with any attempt.
	Rollbacks []Rollback
}

// Verdict is what the ledger found. The lists are evidence, a line each: all of
// them must be empty.
type Verdict struct {
	Plans    int // keys that were asked for
	Expected int // due seconds that had to fire
	Fired    int // due seconds that did, these and those that were free to
	Calls    int // to the sinks, repeats among them

	Lost     []string // did not fire, and had to
	Early    []string // before their second
	Repeated []string // again, with no worker dead that held them
	Foreign  []string // had no reason to fire: never asked for, removed, more than their count
	TooLate  []string
	Wrong    []string // first due seconds, ids and attempts that cannot be

	Rescued     int           // firings that ran again, or only then, because their worker died
	RescuedMost time.Duration // the longest from the death
	HeldMost    time.Duration // the longest from an answer to the death over which that firing ran again

	RolledBack int // calls that came again because the store had lost their claim, or finish
	Undone     int // creates that were answered, that a rollback may undo, and of which nothing was seen after it

	sources map[firing][]time.Time // creates by which that second is due, when they were sent
	unknown map[string][]time.Time // creates of a key without an answer

	P50, P99, Latest time.Duration           // lateness of the firings that were not rescued
	BySecond         map[int64]time.Duration // the latest of each due second
}

// Problems is the evidence against the scheduler, at most n lines of a kind.
func (v *Verdict) Problems(n int) string {
	var b strings.Builder
	for _, kind := range []struct {
		name string
		list []string
	}{{"lost", v.Lost}, {"early", v.Early}, {"repeated", v.Repeated}, {"foreign", v.Foreign}, {"too late", v.TooLate}, {"wrong", v.Wrong}} {
		if len(kind.list) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s: %d\n", kind.name, len(kind.list))
		for _, line := range kind.list[:min(n, len(kind.list))] {
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	return b.String()
}

// String is the verdict's figures on one line.
func (v *Verdict) String() string {
	s := fmt.Sprintf("plans %d, due %d, fired %d, calls %d, lost %d, early %d, repeated %d, foreign %d, too late %d, wrong %d; late p50 %s, p99 %s, max %s",
		v.Plans, v.Expected, v.Fired, v.Calls, len(v.Lost), len(v.Early), len(v.Repeated), len(v.Foreign), len(v.TooLate), len(v.Wrong),
		round(v.P50), round(v.P99), round(v.Latest))
	if v.Rescued > 0 {
		s += fmt.Sprintf("; rescued %d, the last %s after the death, answered up to %s before it", v.Rescued, round(v.RescuedMost), round(v.HeldMost))
	}
	if v.RolledBack+v.Undone > 0 {
		s += fmt.Sprintf("; rolled back: %d called again, %d plans gone", v.RolledBack, v.Undone)
	}
	return s
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// firing is what is said of one due second of a key.
type firing struct {
	Key string
	Due int64
}

// Judge holds what was received against what was asked for.
func Judge(j *Journal, receipts []Receipt, rules Rules) *Verdict {
	if rules.Unclaimed == 0 {
		rules.Unclaimed = rules.MaxLate
		if len(rules.Deaths) > 0 {
			rules.Unclaimed = max(rules.MaxLate, rules.Rerun)
		}
	}
	last := rules.Until
	calls := make(map[firing][]Receipt)
	for _, r := range receipts {
		f := firing{r.Key, r.Due}
		calls[f] = append(calls[f], r)
		last = max(last, r.Due)
	}
	v := &Verdict{
		Calls: len(receipts), Fired: len(calls), BySecond: make(map[int64]time.Duration),
		sources: make(map[firing][]time.Time), unknown: make(map[string][]time.Time),
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	v.Plans = len(j.order)
	expected := make(map[firing]need)
	windows := make(map[string][]window)
	for _, key := range j.order {
		windows[key] = v.expect(expected, j.byKey[key], rules, last)
	}
	v.lost(expected, calls, rules)
	v.received(expected, windows, calls, rules)
	v.ids(receipts, rules)
	for _, key := range j.order {
		v.undone(j.byKey[key], calls, rules)
	}
	return v
}

// need says whether a due second has to fire or only may.
type need int

const (
	must need = iota + 1
	may
)

// never is after everything.
var never = time.Unix(1<<40, 0)

// window is a span of seconds in which whatever comes may.
type window struct{ from, to int64 }

// expect works out what the requests for one key mean.
func (v *Verdict) expect(expected map[firing]need, events []*Event, rules Rules, last int64) (free []window) {
	effective := slices.DeleteFunc(slices.Clone(events), func(e *Event) bool { return e.Result == Refused })
	// settled is when it was known again, from an event on, what holds: the answer
	// to the first one that was answered.
	settled := func(from int) int64 {
		for _, e := range effective[from:] {
			if e.Result == Done {
				return e.Answered.Unix()
			}
		}
		return last
	}
	for i, e := range effective {
		if e.Result == Unknown {
			free = append(free, window{e.Sent.Unix() - int64(rules.Unclaimed/time.Second) - 1, settled(i)})
			if e.Spec != nil {
				v.unknown[e.Key] = append(v.unknown[e.Key], e.Sent)
			}
			continue
		}
		undo := rules.undone(e)
		if undo != nil { // until it is asked for again, it may hold or what was before
			again := last
			for _, next := range effective[i+1:] {
				if next.Result == Done && !undo.undoes(next) {
					again = next.Answered.Unix()
					break
				}
			}
			free = append(free, window{rules.unclaimed(undo), again})
		}
		if e.Spec == nil {
			continue
		}
		if lo, hi := e.Sent.Unix(), e.Answered.Unix(); !v.firstDue(e, lo, hi) {
			continue
		}
		replaced, until := never, last // the next request of that key
		if i+1 < len(effective) {
			replaced, until = effective[i+1].Sent, settled(i+1)
		}
		if undo != nil && undo.At.Before(replaced) {
			replaced = undo.At
		}
		for _, due := range e.Spec.dues(e.Due, last) {
			f := firing{e.Key, due}
			if due <= until {
				v.sources[f] = append(v.sources[f], e.Sent)
			}
			switch {
			case time.Unix(due, 0).Add(rules.Unclaimed).Before(replaced):
				expected[f] = must
			case due <= until && expected[f] == 0:
				expected[f] = may
			}
		}
	}
	return free
}

// firstDue checks what a create was answered: its own matcher must find the same
// from some second between request and answer.
func (v *Verdict) firstDue(e *Event, lo, hi int64) bool {
	for second := lo; second <= hi; second++ {
		if e.Spec.first(second) == e.Due {
			return true
		}
	}
	v.Wrong = append(v.Wrong, fmt.Sprintf("%s: created from %d to %d, first due at %d, want %d to %d",
		e.Key, lo, hi, e.Due, e.Spec.first(lo), e.Spec.first(hi)))
	return false
}

func (v *Verdict) lost(expected map[firing]need, calls map[firing][]Receipt, rules Rules) {
	for f, n := range expected {
		if n != must || f.Due > rules.Until {
			continue
		}
		v.Expected++
		if all := calls[f]; len(all) == 0 {
			v.Lost = append(v.Lost, fmt.Sprintf("%s due %d", f.Key, f.Due))
		} else if !slices.ContainsFunc(all, rules.survived) {
			v.Lost = append(v.Lost, fmt.Sprintf("%s, whose worker died over it, did not run again", describe(&all[len(all)-1])))
		}
	}
	slices.Sort(v.Lost)
}

// survived says whether a call did not end with the death of its worker.
func (rules Rules) survived(r Receipt) bool {
	return !r.Gone || !slices.ContainsFunc(rules.Deaths, func(d Death) bool { return d.Agent == r.Agent && !d.At.Before(r.At) })
}

// received judges every call.
func (v *Verdict) received(expected map[firing]need, windows map[string][]window, calls map[firing][]Receipt, rules Rules) {
	var lates []time.Duration
	for f, all := range calls {
		slices.SortFunc(all, func(a, b Receipt) int { return a.At.Compare(b.At) })
		late := all[0].At.Sub(time.Unix(f.Due, 0))
		if late < 0 {
			v.Early = append(v.Early, fmt.Sprintf("%s: %s early", describe(&all[0]), -late))
		}
		if expected[f] == 0 && !slices.ContainsFunc(windows[f.Key], func(w window) bool { return w.from <= f.Due && f.Due <= w.to }) {
			v.Foreign = append(v.Foreign, describe(&all[0]))
		}
		// One that cannot tell its attempt is a first one, unless it is late and a worker died.
		first := all[0].Attempt == 1
		never := &Receipt{Due: f.Due, At: time.Unix(f.Due, 0)} // what its worker did that died before it called
		if all[0].Attempt == 0 {
			first = late <= rules.MaxLate || rules.death(&all[0], never, false) == nil
		}
		if first {
			lates = append(lates, late)
			v.BySecond[f.Due] = max(v.BySecond[f.Due], late)
			if late > rules.MaxLate {
				v.TooLate = append(v.TooLate, fmt.Sprintf("%s: %s late", describe(&all[0]), late))
			}
		} else {
			v.rescued(&all[0], never, false, rules)
		}
		used, others := make(map[*Rollback]bool), 0
		for i := 1; i < len(all); i++ {
			if v.another(f, &all[i-1], &all[i], others) {
				others++
				continue
			}
			if rules.repeated(&all[i-1], &all[i], used) != nil {
				v.RolledBack++
				continue
			}
			if all[i].Attempt <= all[i-1].Attempt && all[i].Attempt > 0 && !rules.unnoted(&all[i], &all[i-1]) {
				v.Wrong = append(v.Wrong, fmt.Sprintf("%s after attempt %d", describe(&all[i]), all[i-1].Attempt))
			}
			v.rescued(&all[i], &all[i-1], true, rules)
		}
	}
	for _, list := range [][]string{v.Early, v.Foreign, v.TooLate, v.Repeated, v.Wrong} {
		slices.Sort(list)
	}
	slices.Sort(lates)
	if n := len(lates); n > 0 {
		v.P50, v.P99, v.Latest = lates[n/2], lates[n*99/100], lates[n-1]
	}
}

// another says whether a call is not of the same firing again but of another plan of that
// key, which is due in the same second: a plan can be replaced by one that is due in
// a second in which it has fired already. Such a call has another id, if calls have ids, and
// comes after its create was sent; others is how many have been explained so before.
func (v *Verdict) another(f firing, before, r *Receipt, others int) bool {
	if r.Firing != "" && r.Firing == before.Firing {
		return false
	}
	creates := slices.Concat(v.sources[f], v.unknown[f.Key])
	slices.SortFunc(creates, time.Time.Compare)
	return others+1 < len(creates) && !creates[others+1].After(r.At)
}

// death is the last one that explains a call that is not the first of its firing: of
// the worker that held it, whose call was before, if it called. That may have been any
// where calls do not tell who makes them.
func (rules *Rules) death(r, before *Receipt, called bool) (death *Death) {
	for i := range rules.Deaths {
		d := &rules.Deaths[i]
		// A call that was sent before the death may be received a moment after it.
		if d.At.Add(rules.Finish).Before(before.At) || !called && d.At.Before(before.At) || d.At.After(r.At) || before.Agent != "" && d.Agent != before.Agent {
			continue
		}
		if !before.Done.IsZero() && d.At.Sub(before.Done) > rules.Finish {
			continue
		}
		if death == nil || d.At.After(death.At) {
			death = d
		}
	}
	return death
}

// unnoted says whether a call has the number of the one before since that had only begun
// when its worker died: see Unnoted.
func (rules *Rules) unnoted(r, before *Receipt) bool {
	d := rules.death(r, before, true)
	return d != nil && r.Attempt == before.Attempt && d.At.Sub(before.At) < rules.Unnoted
}

// rescued judges a call that is not the first of its firing: see death.
func (v *Verdict) rescued(r, before *Receipt, called bool, rules Rules) {
	death := rules.death(r, before, called)
	if death == nil {
		v.Repeated = append(v.Repeated, fmt.Sprintf("%s, %s after %s, which was answered: %t", describe(r), r.At.Sub(before.At), describe(before), !before.Done.IsZero()))
		return
	}
	v.Rescued++
	took := r.At.Sub(death.At)
	v.RescuedMost = max(v.RescuedMost, took)
	if !before.Done.IsZero() {
		v.HeldMost = max(v.HeldMost, death.At.Sub(before.Done))
	}
	if took > rules.Rerun {
		v.TooLate = append(v.TooLate, fmt.Sprintf("%s: %s after %s died", describe(r), took, death.Agent))
	}
}

// undone counts the plan of a key, if it was created last and a rollback may have undone
// that, as undone if it had to fire after that and did not.
func (v *Verdict) undone(events []*Event, calls map[firing][]Receipt, rules Rules) {
	e := events[len(events)-1]
	b := rules.undone(e)
	if b == nil || e.Spec == nil {
		return
	}
	missed := 0
	for _, due := range e.Spec.dues(e.Due, rules.Until) {
		if due <= b.At.Unix() {
			continue
		}
		if len(calls[firing{e.Key, due}]) > 0 {
			return
		}
		missed++
	}
	if missed > 0 {
		v.Undone++
	}
}

// ids checks that a firing has one id, and an id one firing: but what was undone may
// have been asked for again.
func (v *Verdict) ids(receipts []Receipt, rules Rules) {
	firings := make(map[string]firing)
	ids := make(map[firing]string)
	for i := range receipts {
		r := &receipts[i]
		f := firing{r.Key, r.Due}
		if r.Firing == "" && r.Attempt == 0 {
			continue // over Thrift there is no id
		}
		if was, ok := firings[r.Firing]; r.Firing == "" || ok && was != f {
			v.Wrong = append(v.Wrong, fmt.Sprintf("%s: the id is that of %s due %d", describe(r), was.Key, was.Due))
		}
		undone := slices.ContainsFunc(rules.Rollbacks, func(b Rollback) bool { return !b.Acknowledged && r.Due <= b.At.Unix() && r.At.After(b.At) })
		if was, ok := ids[f]; ok && was != r.Firing && !undone && len(v.sources[f])+len(v.unknown[f.Key]) < 2 {
			v.Wrong = append(v.Wrong, fmt.Sprintf("%s: the id was %s", describe(r), was))
		}
		firings[r.Firing], ids[f] = f, r.Firing
	}
}

// describe is a call on one line.
func describe(r *Receipt) string {
	return fmt.Sprintf("%s due %d attempt %d by %s at %s (%s)", r.Key, r.Due, r.Attempt, r.Agent, r.At.Format("15:04:05.000"), cmp.Or(r.Firing, "no id"))
}

// Missing is how many due seconds up to rules.Until have to fire and have not
// yet: what a test waits for.
func Missing(j *Journal, receipts []Receipt, rules Rules) int {
	return len(Judge(j, receipts, rules).Lost)
}
