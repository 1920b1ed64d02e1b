package ledger

import (
	"fmt"
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
}

// Journal is what was asked of the scheduler. Requests of one key must follow
// each other; those of different keys may come from any goroutine.
type Journal struct {
	mu     sync.Mutex
	file   *os.File
	byKey  map[string][]*Event
	order  []string
	broken error
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
		if j.byKey[e.Key] == nil {
			j.order = append(j.order, e.Key)
		}
		j.byKey[e.Key] = append(j.byKey[e.Key], e)
		j.write("sending", e)
	}
}

// Answered notes the answer to a request; due is a create's first due second.
func (j *Journal) Answered(e *Event, result Result, due int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Answered, e.Result, e.Due = time.Now(), result, due
	j.write("answered", e)
}

// write adds a line to the file. The caller holds mu.
func (j *Journal) write(what string, e *Event) {
	kind := "remove"
	if e.Spec != nil {
		kind = fmt.Sprintf("create %+v", *e.Spec)
		if e.Spec.Calendar != nil {
			kind = fmt.Sprintf("create %+v", *e.Spec.Calendar)
		}
	}
	if _, err := fmt.Fprintf(j.file, "%d\t%s\t%q\t%s\t%d\t%d\n", time.Now().UnixNano(), what, e.Key, kind, e.Result, e.Due); err != nil {
		j.broken = err
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
