package ledger

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Receipt is one call of a firing to a sink.
type Receipt struct {
	Firing  string
	Key     string
	Due     int64 // Unix second
	Attempt int
	Agent   string    // who called: its User-Agent
	At      time.Time // when it was received
	Done    time.Time // when the answer was sent; zero: it was not
	Gone    bool      // the caller went before
}

// Sink is an HTTP server for the calls of firings. A call to /hold… is answered
// when Release says so, or by nobody if its caller goes; one to /slow… after 100 ms;
// any other at once.
type Sink struct {
	URL string // "http://127.0.0.1:port"

	server *http.Server
	file   *os.File
	served chan struct{}

	mu       sync.Mutex
	receipts []*Receipt
	held     chan struct{} // closed by Release
	broken   error         // the file could not be written
}

// slowAnswer is how long a call to /slow takes.
const slowAnswer = 100 * time.Millisecond

// NewSink starts a sink that keeps its receipts in a file, too.
func NewSink(path string) (*Sink, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		file.Close()
		return nil, err
	}
	s := &Sink{URL: "http://" + listener.Addr().String(), file: file, served: make(chan struct{}), held: make(chan struct{})}
	s.server = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: time.Minute}
	go func() {
		defer close(s.served)
		s.server.Serve(listener) // returns at Close
	}()
	return s, nil
}

func (s *Sink) serve(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	io.Copy(io.Discard, io.LimitReader(r.Body, 1<<20))
	due, _ := strconv.ParseInt(r.Header.Get("X-FORSUN-TIMESTAMP"), 10, 64)
	attempt, _ := strconv.Atoi(r.Header.Get("X-FORSUN-ATTEMPT"))
	receipt := &Receipt{
		Firing: r.Header.Get("X-FORSUN-FIRING-ID"), Key: r.Header.Get("X-FORSUN-KEY"), Due: due, Attempt: attempt,
		Agent: r.UserAgent(), At: at,
	}
	held, err := s.record(receipt)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var wait <-chan struct{}
	switch {
	case strings.HasPrefix(r.URL.Path, "/hold"):
		wait = held
	case strings.HasPrefix(r.URL.Path, "/slow"):
		slow, cancel := context.WithTimeout(context.Background(), slowAnswer)
		defer cancel()
		wait = slow.Done()
	}
	if wait != nil {
		select {
		case <-wait:
		case <-r.Context().Done():
			s.mu.Lock()
			receipt.Gone = true
			s.mu.Unlock()
			return
		}
	}
	s.mu.Lock()
	receipt.Done = time.Now()
	s.mu.Unlock()
	io.WriteString(w, "ok")
}

// record keeps a receipt before its call is answered.
func (s *Sink) record(r *Receipt) (held <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = fmt.Fprintf(s.file, "%d\t%s\t%d\t%d\t%s\t%q\n", r.At.UnixNano(), r.Firing, r.Due, r.Attempt, r.Agent, r.Key)
	if err != nil {
		s.broken = err
		return nil, err
	}
	s.receipts = append(s.receipts, r)
	return s.held, nil
}

// Release answers the calls that are held, and those to come.
func (s *Sink) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.held:
	default:
		close(s.held)
	}
}

// Count is how many calls have come.
func (s *Sink) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.receipts)
}

// Called says whether an agent has called since a time.
func (s *Sink) Called(agent string, since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range slices.Backward(s.receipts) {
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
func (s *Sink) Running() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	by := make(map[string]int)
	for _, r := range s.receipts {
		if r.Done.IsZero() && !r.Gone {
			by[r.Agent]++
		}
	}
	return by
}

// Receipts returns the calls in the order they came.
func (s *Sink) Receipts() []Receipt {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Receipt, len(s.receipts))
	for i, r := range s.receipts {
		all[i] = *r
	}
	return all
}

// Close ends the sink, and says whether its file is whole.
func (s *Sink) Close() error {
	s.Release()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		s.server.Close()
	}
	<-s.served
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.file.Close(); s.broken == nil {
		s.broken = err
	}
	return s.broken
}
