package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Result is what became of a request.
type Result int

// Results.
const (
	Unknown Result = iota // no answer: it may have had its effect, and until the next request of that key may still have
	Done
	Refused // it had no effect and will have none
)

// Event is a create or a remove.
type Event struct {
	Key      string
	Spec     *Spec // nil: a remove
	Sent     time.Time
	Answered time.Time // zero: it was not
	Result   Result
	Due      int64 // of a create that was done: the first due second, as answered
	Code     int   // of one that was refused

	number int // of the journal's events
}

// Journal is what was asked of the scheduler. Requests of one key must follow
// each other; those of different keys may come from any goroutine.
type Journal struct {
	mu     sync.Mutex
	file   *os.File
	byKey  map[string][]*Event
	order  []string
	events int
	lines  []byte // to be written
	broken error
}

// entry is a line of the file: a request that is sent, or with Answered its answer.
type entry struct {
	Number   int    `json:"number"`
	Time     int64  `json:"time"` // ns
	Answered bool   `json:"answered,omitempty"`
	Key      string `json:"key,omitempty"`
	Spec     *Spec  `json:"spec,omitempty"` // none: a remove
	Result   Result `json:"result,omitempty"`
	Due      int64  `json:"due,omitempty"`
	Code     int    `json:"code,omitempty"`
}

// NewJournal starts a journal that is kept in a file, too.
func NewJournal(path string) (*Journal, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &Journal{file: file, byKey: make(map[string][]*Event)}, nil
}

// Sending notes requests that are about to be sent.
func (j *Journal) Sending(events ...*Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	for _, e := range events {
		e.Sent = now
		j.add(e)
		j.line(entry{Number: e.number, Time: now.UnixNano(), Key: e.Key, Spec: e.Spec})
	}
	j.flush()
}

// add adds an event. The caller holds mu.
func (j *Journal) add(e *Event) {
	e.number = j.events
	j.events++
	if j.byKey[e.Key] == nil {
		j.order = append(j.order, e.Key)
	}
	j.byKey[e.Key] = append(j.byKey[e.Key], e)
}

// Answer is what a request was answered; Unknown: it was not.
type Answer struct {
	Event  *Event
	Result Result
	Due    int64
	Code   int
}

// Answered notes the answers to requests.
func (j *Journal) Answered(answers ...Answer) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	for _, a := range answers {
		if a.Result != Unknown {
			e := a.Event
			e.Answered, e.Result, e.Due, e.Code = now, a.Result, a.Due, a.Code
			j.line(entry{Number: e.number, Time: now.UnixNano(), Answered: true, Result: e.Result, Due: e.Due, Code: e.Code})
		}
	}
	j.flush()
}

// line adds a line to what flush writes. The caller holds mu.
func (j *Journal) line(e entry) {
	line, err := json.Marshal(e)
	if err != nil {
		j.broken = err
	}
	j.lines = append(append(j.lines, line...), '\n')
}

// flush writes the lines, in one write. The caller holds mu.
func (j *Journal) flush() {
	if _, err := j.file.Write(j.lines); err != nil {
		j.broken = err
	}
	j.lines = j.lines[:0]
}

// ReadJournal reads what a journal wrote.
func ReadJournal(path string) (*Journal, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	j := &Journal{byKey: make(map[string][]*Event)}
	var events []*Event
	for lines := json.NewDecoder(file); ; {
		var e entry
		if err := lines.Decode(&e); errors.Is(err, io.EOF) {
			return j, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		switch at := time.Unix(0, e.Time); {
		case !e.Answered && e.Number == len(events):
			event := &Event{Key: e.Key, Spec: e.Spec, Sent: at}
			events = append(events, event)
			j.add(event)
		case e.Answered && e.Number < len(events):
			event := events[e.Number]
			event.Answered, event.Result, event.Due, event.Code = at, e.Result, e.Due, e.Code
		default:
			return nil, fmt.Errorf("%s: number %d after %d requests", path, e.Number, len(events))
		}
	}
}

// Close says whether the file is whole.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.file.Close(); j.broken == nil {
		j.broken = err
	}
	return j.broken
}

// Events returns what was asked, by key, and of one key in its order.
func (j *Journal) Events() (all []Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, key := range j.order {
		for _, e := range j.byKey[key] {
			all = append(all, *e)
		}
	}
	return all
}
