package redistest

import (
	"bytes"
	"context"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// chunkSize is what one read takes at most, and queueChunks how many chunks
	// are on their way at most, in each direction of a connection: 4 MiB.
	chunkSize   = 16 << 10
	queueChunks = 256

	// slicePause keeps slices apart: without it the receiver's kernel joins them.
	slicePause = 100 * time.Microsecond
)

// link is one client's connection and the one that it stands for.
type link struct {
	p      *Proxy
	client *net.TCPConn
	server *net.TCPConn // nil for one that was accepted in a hole
	once   sync.Once
	done   chan struct{} // closed by reset
	lossy  bool          // something of it was swallowed; under p.mu

	// dropping is set before the server gets the request that loses its reply;
	// from then on nothing goes back to the client.
	dropping atomic.Pointer[drop]
}

// chunk is what one read brought, and when it is to arrive.
type chunk struct {
	bytes []byte
	due   time.Time
}

// reset ends the link: both sides see that their peer reset the connection.
func (l *link) reset() {
	l.once.Do(func() {
		close(l.done)
		l.client.SetLinger(0)
		l.client.Close()
	})
}

// run forwards both directions until the link is reset, or the server closes it.
func (l *link) run() {
	defer func() {
		l.reset()
		l.p.mu.Lock()
		delete(l.p.links, l)
		l.p.mu.Unlock()
		if d := l.dropping.Load(); d != nil {
			close(d.done)
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { // the one who ends what blocks the others
		select {
		case <-l.done:
			cancel()
		case <-ctx.Done():
		}
	})

	l.p.mu.Lock()
	lossy := l.lossy
	l.p.mu.Unlock()
	if lossy {
		l.swallow(l.client)
		return
	}
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.p.target)
	if err != nil {
		return
	}
	l.server = server.(*net.TCPConn)
	stop := context.AfterFunc(ctx, func() {
		l.server.SetLinger(0)
		l.server.Close()
	})
	defer stop()
	defer l.server.Close()

	requests, replies := make(chan chunk, queueChunks), make(chan chunk, queueChunks)
	wg.Go(func() { l.readRequests(requests) })
	wg.Go(func() {
		l.write(l.server, requests)
		l.server.CloseWrite()
	})
	wg.Go(func() { l.readReplies(replies) })
	l.write(l.client, replies)
	// Redis never closes just one direction: the client is told the same.
	l.once.Do(func() {
		close(l.done)
		l.client.Close()
	})
}

// swallow reads until the link is reset.
func (l *link) swallow(from *net.TCPConn) {
	b := make([]byte, chunkSize)
	for {
		if _, err := from.Read(b); err != nil {
			<-l.done // that it was closed is swallowed, too
			return
		}
	}
}

// readRequests reads what the client sends, watching for a request that is to
// lose its reply.
func (l *link) readRequests(queue chan<- chunk) {
	var part []byte // of a request, its end still to come
	l.read(l.client, queue, func(b []byte) (forward int, last bool) {
		part = append(part, b...)
		for rest := part; len(rest) > 0; {
			n, ok := requestLen(rest)
			if !ok {
				part = append(part[:0], rest...)
				return len(b), false
			}
			if d := l.p.take(rest[:n]); d != nil {
				l.dropping.Store(d)
				return len(b) - len(rest) + n, true
			}
			rest = rest[n:]
		}
		part = part[:0]
		return len(b), false
	})
	if l.dropping.Load() != nil {
		l.swallow(l.client)
	}
}

// readReplies reads what the server sends, and throws it away if it is to be
// lost. The server then sees the end of the connection behind the request, and
// closes it when it has executed what came before: the loss is complete.
func (l *link) readReplies(queue chan<- chunk) {
	l.read(l.server, queue, func(b []byte) (int, bool) {
		if l.dropping.Load() != nil {
			return 0, false
		}
		return len(b), false
	})
	if l.dropping.Load() != nil {
		l.reset()
	}
}

// read queues what comes from one side until that closes or inspect, which says
// how many bytes of what came to forward, says that they are the last. It closes
// the queue.
func (l *link) read(from *net.TCPConn, queue chan<- chunk, inspect func([]byte) (forward int, last bool)) {
	defer close(queue)
	for {
		b := make([]byte, chunkSize)
		n, err := from.Read(b)
		f := l.swallows()
		if f.hole {
			if err != nil {
				<-l.done
				return
			}
			continue
		}
		n, last := inspect(b[:n])
		if n > 0 {
			select {
			case queue <- chunk{b[:n], time.Now().Add(f.delay)}:
			case <-l.done:
				return
			}
		}
		if err != nil || last {
			return
		}
	}
}

// swallows returns the faults, and notes it if what was just read is lost to a
// hole.
func (l *link) swallows() faults {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.lossy = l.lossy || l.p.faults.hole
	return l.p.faults
}

// write delivers what is queued, each at its time, until the queue is closed. If
// the receiver is gone the rest is thrown away, not the other direction: a
// client that has given up does not undo what it sent.
func (l *link) write(to *net.TCPConn, queue <-chan chunk) {
	gone := false
	for c := range queue {
		if early := time.Until(c.due); early > 0 && !gone {
			select {
			case <-time.After(early):
			case <-l.done:
				gone = true
			}
		}
		for len(c.bytes) > 0 && !gone {
			f, alive := l.passes()
			n := len(c.bytes)
			if f.slice > 0 {
				n = min(n, f.slice)
			}
			if alive {
				_, err := to.Write(c.bytes[:n])
				alive = err == nil
			}
			gone = !alive
			c.bytes = c.bytes[n:]
			if f.slice > 0 {
				time.Sleep(slicePause)
			}
		}
	}
	l.passes() // the end is held, too
}

// passes waits while everything is held, and returns the faults then, and false
// if the link was reset.
func (l *link) passes() (faults, bool) {
	for {
		f, changed := l.p.now()
		if !f.hold {
			return f, true
		}
		select {
		case <-changed:
		case <-l.done:
			return f, false
		}
	}
}

// requestLen returns the length of the request that b begins with, and false if
// it is not there to its end. What is no RESP counts as one request.
func requestLen(b []byte) (int, bool) {
	count, n, ok := lengthLine(b, '*')
	if !ok {
		if i := bytes.IndexByte(b, '\n'); b[0] != '*' && i >= 0 {
			return i + 1, true // inline: PING
		}
		return 0, false
	}
	for range count {
		if n >= len(b) {
			return 0, false
		}
		length, head, ok := lengthLine(b[n:], '$')
		if !ok {
			return 0, false
		}
		n += head + length + len("\r\n")
	}
	return n, n <= len(b)
}

// lengthLine reads "*3\r\n": the number, and the length of the line.
func lengthLine(b []byte, kind byte) (number, length int, ok bool) {
	end := bytes.Index(b, []byte("\r\n"))
	if end < 1 || b[0] != kind {
		return 0, 0, false
	}
	number, err := strconv.Atoi(string(b[1:end]))
	return max(number, 0), end + 2, err == nil
}
