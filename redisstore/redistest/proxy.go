package redistest

import (
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest/proc"
)

// Proxy stands between clients and a server, and does to their connections what
// networks do. Faults are switched on and off at run time, from any goroutine,
// last until Heal, and add up: a Delay and a Slice hold at once.
type Proxy struct {
	Addr string // "127.0.0.1:port", the same for its whole life

	t      testing.TB
	target string
	wg     sync.WaitGroup // the accept loop and everything it started

	mu       sync.Mutex
	listener net.Listener // nil while cut and after Close
	closed   bool
	links    map[*link]struct{}
	faults   faults
	changed  chan struct{} // closed, and replaced, when faults change
	drops    []*drop
}

// faults are what a Proxy does to all of its connections; the zero value is none.
type faults struct {
	hole  bool
	hold  bool
	delay time.Duration
	slice int // bytes; 0: as they come
}

// drop is a request whose reply is to be lost.
type drop struct {
	match func(request []byte) bool
	done  chan struct{} // closed when that has happened
}

// NewProxy starts a proxy in front of the server at target, which need not run
// yet. It ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p := &Proxy{t: t, target: target, links: map[*link]struct{}{}, changed: make(chan struct{})}
	t.Cleanup(p.Close)
	onFreePorts(t, func() error {
		p.Addr = addrOf(proc.FreePort(t))
		return p.listen()
	})
	return p
}

// Port returns the port of Addr, for a "replicaof" line.
func (p *Proxy) Port() string {
	_, port, _ := net.SplitHostPort(p.Addr)
	return port
}

// Cut resets all connections and refuses new ones.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

// Hole swallows what either side sends, and that it closes: connections are
// accepted and stay open, and nothing ever comes. What was swallowed is gone:
// Heal resets the connections that lost something.
func (p *Proxy) Hole() { p.change(func(f *faults) { f.hole = true }) }

// Hold stops both directions as a network that loses packets does: Heal delivers
// what was sent meanwhile, and be it from a client that has given up and closed.
func (p *Proxy) Hold() { p.change(func(f *faults) { f.hold = true }) }

// Delay lets everything arrive later by d, in each direction: a round trip takes
// 2 × d more, and requests may follow each other as closely as ever.
func (p *Proxy) Delay(d time.Duration) { p.change(func(f *faults) { f.delay = d }) }

// Slice forwards n bytes at a time, in segments of their own, a few thousand a
// second. 0 ends that.
func (p *Proxy) Slice(n int) { p.change(func(f *faults) { f.slice = max(n, 0) }) }

// DropReplies lets the next n requests lose their replies as
// DropNextReplyMatching does, each with a connection of its own.
func (p *Proxy) DropReplies(n int) {
	for range n {
		p.DropNextReplyMatching(func([]byte) bool { return true })
	}
}

// DropNextReplyMatching lets one request lose its reply: the next one, of any
// connection, for which match returns true. The server gets it, but no later one
// of that connection; nothing comes back on it any more, not even the replies to
// earlier requests; and when the server has executed it, or is gone, the client's
// connection is reset. Then the channel is closed.
//
// match is given one whole request at a time, however the network cut or joined
// them: "*2\r\n$3\r\nGET\r\n$1\r\na\r\n". It must not keep it, nor call the
// Proxy.
func (p *Proxy) DropNextReplyMatching(match func(request []byte) bool) <-chan struct{} {
	d := &drop{match: match, done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drops = append(p.drops, d)
	return d.done
}

// Heal ends all faults, also those that have not happened yet: a request still
// to lose its reply will not.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	for l := range p.links {
		if l.lossy {
			l.reset()
		}
	}
	p.drops = nil
	p.set(faults{})
	if p.listener != nil {
		return
	}
	// The port was free for anybody while it was cut.
	var err error
	for range 100 {
		if err = p.listen(); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.t.Errorf("heal the proxy %s: %v", p.Addr, err)
}

// Close resets all connections, refuses new ones, and waits until nothing of the
// proxy runs. It may be called again.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.cut()
	p.mu.Unlock()
	p.wg.Wait()
}

// Connections returns how many clients are connected.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// listen starts to accept connections. The caller holds mu, or is the first.
func (p *Proxy) listen() error {
	listener, err := net.Listen("tcp", p.Addr)
	if err != nil {
		return err
	}
	p.listener = listener
	p.wg.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // closed
			}
			p.accept(listener, c.(*net.TCPConn))
		}
	})
	return nil
}

func (p *Proxy) accept(listener net.Listener, c *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &link{p: p, client: c, done: make(chan struct{}), lossy: p.faults.hole}
	if p.listener != listener { // cut since
		l.reset()
		return
	}
	p.links[l] = struct{}{}
	p.wg.Go(l.run)
}

// cut: the caller holds mu.
func (p *Proxy) cut() {
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	for l := range p.links {
		l.reset()
	}
}

func (p *Proxy) change(edit func(*faults)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.faults
	edit(&f)
	p.set(f)
}

// set: the caller holds mu.
func (p *Proxy) set(f faults) {
	p.faults = f
	close(p.changed)
	p.changed = make(chan struct{})
}

// now returns the faults, and a channel that is closed when they change.
func (p *Proxy) now() (faults, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults, p.changed
}

// take returns the drop that a request is the next for, nil if for none.
func (p *Proxy) take(request []byte) *drop {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.drops, func(d *drop) bool { return d.match(request) })
	if i < 0 {
		return nil
	}
	d := p.drops[i]
	p.drops = slices.Delete(p.drops, i, i+1)
	return d
}
