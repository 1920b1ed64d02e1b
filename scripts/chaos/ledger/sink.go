package ledger

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Sink is what the calls of firings go to: a server of HTTP and one of Thrift. It keeps
// each call in a file before it answers.
//
// A call over HTTP to /hold… is answered when Release says so, or by nobody if its
// caller goes; one to /slow… after 100 ms; any other at once. Release may be called
// over HTTP, too: POST ReleasePath.
type Sink struct {
	Book
	Addresses

	server  *http.Server
	thrift  net.Listener
	file    *os.File
	running sync.WaitGroup

	held   chan struct{}         // closed by Release
	conns  map[net.Conn]struct{} // over Thrift; nil once it is closed
	broken error                 // the file could not be written
}

// Addresses are where a sink listens.
type Addresses struct {
	URL    string `json:"url"`    // "http://127.0.0.1:port"
	Thrift string `json:"thrift"` // "127.0.0.1:port"
}

const (
	// ReleasePath is what nothing else calls.
	ReleasePath = "/-/release"
	// slowAnswer is how long a call to /slow takes.
	slowAnswer = 100 * time.Millisecond
)

// NewSink starts a sink that keeps its receipts in a file.
func NewSink(path string) (*Sink, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	s := &Sink{file: file, held: make(chan struct{}), conns: make(map[net.Conn]struct{})}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if s.thrift, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, errors.Join(err, listener.Close(), file.Close())
	}
	s.URL, s.Thrift = "http://"+listener.Addr().String(), s.thrift.Addr().String()
	s.server = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: time.Minute}
	s.running.Go(func() { s.server.Serve(listener) }) // returns at Close
	s.running.Go(s.acceptThrift)
	return s, nil
}

func (s *Sink) serve(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	if r.URL.Path == ReleasePath {
		s.Release()
		return
	}
	io.Copy(io.Discard, io.LimitReader(r.Body, 1<<20))
	due, _ := strconv.ParseInt(r.Header.Get("X-FORSUN-TIMESTAMP"), 10, 64)
	attempt, _ := strconv.Atoi(r.Header.Get("X-FORSUN-ATTEMPT"))
	at, err := s.record(&Receipt{
		Firing: r.Header.Get("X-FORSUN-FIRING-ID"), Key: r.Header.Get("X-FORSUN-KEY"), Due: due, Attempt: attempt,
		Agent: r.UserAgent(), At: now,
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var wait <-chan struct{}
	switch {
	case strings.HasPrefix(r.URL.Path, "/hold"):
		wait = s.held
	case strings.HasPrefix(r.URL.Path, "/slow"):
		slow, cancel := context.WithTimeout(context.Background(), slowAnswer)
		defer cancel()
		wait = slow.Done()
	}
	if wait != nil {
		select {
		case <-wait:
		case <-r.Context().Done():
			s.gone(at)
			return
		}
	}
	s.done(at)
	io.WriteString(w, "ok")
}

// record keeps a receipt before its call is answered.
func (s *Sink) record(r *Receipt) (at int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.write(callLine(r)); err != nil {
		return 0, err
	}
	return s.add(r), nil
}

// done notes that a call is answered now.
func (s *Sink) done(at int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.receipts[at].Done = now
	s.write(doneLine(at, now))
}

// gone notes that a call's caller went.
func (s *Sink) gone(at int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receipts[at].Gone = true
	s.write(goneLine(at))
}

// write adds a line to the file. The caller holds mu.
func (s *Sink) write(line string) error {
	_, err := s.file.WriteString(line)
	if err != nil {
		s.broken = err
	}
	return err
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

// Close ends the sink, and says whether its file is whole.
func (s *Sink) Close() error {
	s.Release()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		s.server.Close()
	}
	s.thrift.Close()
	s.mu.Lock()
	for conn := range s.conns {
		conn.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.running.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.file.Close(); s.broken == nil {
		s.broken = err
	}
	return s.broken
}
