package ledger

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Receipt is one call of a firing.
type Receipt struct {
	// Firing is its id, which a call over Thrift does not have. Nor does that have an
	// Attempt: 0.
	Firing  string
	Key     string
	Due     int64 // Unix second
	Attempt int
	Agent   string    // who called: its User-Agent; "": nobody can tell
	At      time.Time // when it was received
	Done    time.Time // when the answer was sent; zero: it was not
	Gone    bool      // the caller went before
}

// Book is the receipts of one place, in the order they came. Any goroutine may ask it.
type Book struct {
	mu       sync.Mutex
	receipts []*Receipt
	follow   *follower // of a book that another process writes
}

// add adds a receipt; at is its place in the book.
func (b *Book) add(r *Receipt) (at int) {
	b.receipts = append(b.receipts, r)
	return len(b.receipts) - 1
}

// lock locks the book, once it has what was written by now.
func (b *Book) lock() {
	b.mu.Lock()
	if b.follow != nil {
		b.follow.read(b)
	}
}

// Count is how many calls have come.
func (b *Book) Count() int {
	b.lock()
	defer b.mu.Unlock()
	return len(b.receipts)
}

// Called says whether an agent has called since a time.
func (b *Book) Called(agent string, since time.Time) bool {
	b.lock()
	defer b.mu.Unlock()
	for _, r := range slices.Backward(b.receipts) {
		if r.At.Before(since) {
			break // they came in this order, but for those recorded side by side
		}
		if r.Agent == agent {
			return true
		}
	}
	return false
}

// Running counts the calls that are not answered, by who made them.
func (b *Book) Running() map[string]int {
	b.lock()
	defer b.mu.Unlock()
	by := make(map[string]int)
	for _, r := range b.receipts {
		if r.Done.IsZero() && !r.Gone {
			by[r.Agent]++
		}
	}
	return by
}

// Receipts returns the calls in the order they came.
func (b *Book) Receipts() []Receipt {
	b.lock()
	defer b.mu.Unlock()
	all := make([]Receipt, len(b.receipts))
	for i, r := range b.receipts {
		all[i] = *r
	}
	return all
}

// Err says why a book that is read from a file is not all that the file has.
func (b *Book) Err() error {
	b.lock()
	defer b.mu.Unlock()
	if b.follow == nil {
		return nil
	}
	return b.follow.err
}

// The lines of a file of receipts: a call, that the n-th of them was answered, that its
// caller went before.
const (
	lineCall = "+"
	lineDone = "-"
	lineGone = "x"
)

func callLine(r *Receipt) string {
	return fmt.Sprintf("%s\t%d\t%q\t%d\t%d\t%q\t%q\n", lineCall, r.At.UnixNano(), r.Firing, r.Due, r.Attempt, r.Agent, r.Key)
}

func doneLine(at int, done time.Time) string {
	return fmt.Sprintf("%s\t%d\t%d\n", lineDone, at, done.UnixNano())
}

func goneLine(at int) string { return fmt.Sprintf("%s\t%d\n", lineGone, at) }

// read takes one line into the book.
func (b *Book) read(line string) (err error) {
	fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
	number := func(i int) (n int64) {
		if err == nil {
			n, err = strconv.ParseInt(fields[i], 10, 64)
		}
		return n
	}
	text := func(i int) (s string) {
		if err == nil {
			s, err = strconv.Unquote(fields[i])
		}
		return s
	}
	switch kind, n := fields[0], len(fields); {
	case kind == lineCall && n == 7:
		b.add(&Receipt{At: time.Unix(0, number(1)), Firing: text(2), Due: number(3), Attempt: int(number(4)), Agent: text(5), Key: text(6)})
	case (kind == lineDone && n == 3 || kind == lineGone && n == 2) && number(1) < int64(len(b.receipts)) && err == nil:
		r := b.receipts[number(1)]
		if kind == lineGone {
			r.Gone = true
		} else {
			r.Done = time.Unix(0, number(2))
		}
	default:
		err = fmt.Errorf("no such line: %w", err)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", line, err)
	}
	return nil
}

// follower reads a file as it grows.
type follower struct {
	file *os.File
	rest []byte // of a line that is being written
	err  error
}

// Follow returns the book of a file that another process writes, which it has written
// by the time each question is asked. Close it.
func Follow(path string) (*Book, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &Book{follow: &follower{file: file}}, nil
}

// read takes the lines that have come. Errors stay.
func (f *follower) read(b *Book) {
	if f.err != nil {
		return
	}
	var text []byte
	if text, f.err = io.ReadAll(f.file); f.err != nil {
		return
	}
	text = append(f.rest, text...)
	whole := bytes.LastIndexByte(text, '\n') + 1
	f.rest = bytes.Clone(text[whole:])
	lines := bufio.NewScanner(bytes.NewReader(text[:whole]))
	for lines.Scan() && f.err == nil {
		f.err = b.read(lines.Text())
	}
}

// Close ends reading. The book stays as it is.
func (b *Book) Close() error {
	b.lock()
	defer b.mu.Unlock()
	if b.follow == nil {
		return nil
	}
	err := b.follow.err
	if closed := b.follow.file.Close(); err == nil {
		err = closed
	}
	b.follow = nil
	return err
}
