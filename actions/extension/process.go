package extension

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/snower/forsun/scheduler"
)

const (
	// path is the PATH of an extension, that of shell plans.
	path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// writeTimeout is how long a process may leave its input unread.
	writeTimeout = 10 * time.Second
	// pipeTime is how long what an ended process left in its pipes may take to be read.
	pipeTime = 200 * time.Millisecond
)

// process is one run of an extension's executable. Once it is broken for one reason or
// another it serves nobody any more, and end gets rid of it.
type process struct {
	opts     Options
	declared declaration // after the handshake

	cmd                   *exec.Cmd
	stdin, stdout, stderr *os.File // our ends

	exited chan struct{} // closed when the process has ended
	status error         // how; valid once exited is closed

	broken context.Context // done once nothing can be asked any more; its cause says why
	fail   context.CancelCauseFunc

	greeting chan message // the first line
	lines    chan []byte  // to be written
	slots    chan struct{}
	checks   chan struct{}
	loops    sync.WaitGroup

	mu      sync.Mutex
	last    uint64 // id given
	pending map[uint64]*call
	recent  []told // what it may still write of, the oldest first
	bytes   int    // of all of them
}

// told is what was secret in a question that has ended.
type told struct {
	at      time.Time
	secrets []string
	bytes   int
}

const (
	// toldFor is how long what a process writes is still searched for the secrets of
	// what has ended: its standard error is read beside its answers, and may lag.
	toldFor = 10 * time.Second
	// toldBytes bounds what is kept for that.
	toldBytes = 4 << 20
)

// call is a question that has not been answered.
type call struct {
	want    string // the type of the answer
	answer  chan message
	secrets []string  // of its parameters
	left    time.Time // a check, since when nobody waits for it; zero: someone does
}

// errStopping is that forsund stops.
var errStopping = errors.New("it is being stopped")

// start starts the executable. Whoever started it ends it.
func start(opts Options) (*process, error) {
	p := &process{
		opts: opts, exited: make(chan struct{}), greeting: make(chan message, 1), lines: make(chan []byte),
		checks: make(chan struct{}, maxChecks), pending: make(map[uint64]*call),
	}
	p.broken, p.fail = context.WithCancelCause(context.Background())
	its, err := p.pipes()
	if err != nil {
		return nil, err
	}
	p.cmd = &exec.Cmd{
		Path: opts.Path, Args: []string{opts.Path}, Dir: filepath.Dir(opts.Path),
		Env:   []string{"PATH=" + path, "FORSUN_ACTION=" + opts.Name},
		Stdin: its[0], Stdout: its[1], Stderr: its[2],
		SysProcAttr: attributes(),
	}
	started := make(chan error, 1)
	go func() {
		// With the end of this thread the process would end: see attributes.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.exited)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.status = p.cmd.Wait()
		}
	}()
	err = <-started
	for _, f := range its {
		f.Close()
	}
	if err != nil {
		<-p.exited
		p.closePipes()
		return nil, err
	}
	p.loops.Go(p.read)
	p.loops.Go(p.write)
	p.loops.Go(p.logErrors)
	p.loops.Go(p.watch)
	p.loops.Go(p.hangs)
	return p, nil
}

// pipes makes the three pipes and returns the process's ends.
func (p *process) pipes() (its [3]*os.File, err error) {
	ours := [3]*os.File{}
	for i := range ours {
		r, w, err := os.Pipe()
		if err != nil {
			for j := range i {
				ours[j].Close()
				its[j].Close()
			}
			return its, err
		}
		ours[i], its[i] = r, w
		if i == 0 {
			ours[i], its[i] = w, r
		}
	}
	p.stdin, p.stdout, p.stderr = ours[0], ours[1], ours[2]
	return its, nil
}

func (p *process) closePipes() {
	p.stdin.Close()
	p.stdout.Close()
	p.stderr.Close()
}

// watch breaks what is left of a process that has ended.
func (p *process) watch() {
	<-p.exited
	why := "exit status 0"
	if p.status != nil {
		why = p.status.Error()
	}
	p.fail(fmt.Errorf("it ended: %s", why))
	// Nobody is left to write into the pipes but what the process left behind.
	p.signal(syscall.SIGKILL)
	p.stdout.SetReadDeadline(time.Now().Add(pipeTime))
	p.stderr.SetReadDeadline(time.Now().Add(pipeTime))
}

// signal sends a signal to the process's group.
func (p *process) signal(s syscall.Signal) {
	syscall.Kill(-p.cmd.Process.Pid, s) // fails only if nobody is there
}

// end gets rid of the process and waits until nothing is left of it: at once, or, if
// gently, after it was given the time to end by itself.
func (p *process) end(gently bool) {
	p.fail(errStopping)
	p.stdin.Close()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if !gently {
			p.signal(syscall.SIGKILL)
			break
		}
		select {
		case <-p.exited:
		case <-time.After(p.opts.Grace):
			p.signal(s)
			continue
		}
		break
	}
	<-p.exited
	p.loops.Wait()
	p.closePipes()
}

// greet does the handshake.
func (p *process) greet(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.opts.StartTimeout, fmt.Errorf("no answer to hello within %s", p.opts.StartTimeout))
	defer cancel()
	if err := p.send(ctx, helloRequest{typeHello, []int{ProtocolVersion}, p.opts.Name, p.opts.Version}); err != nil {
		return err
	}
	select {
	case m := <-p.greeting:
		d, err := m.declared(p.opts.Name)
		if err != nil {
			return err
		}
		p.declared, p.slots = d, make(chan struct{}, d.concurrency)
		return nil
	case <-p.broken.Done():
		return context.Cause(p.broken)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// send hands a message to the writer.
func (p *process) send(ctx context.Context, m any) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	select {
	case p.lines <- append(line, '\n'):
		return nil
	case <-p.broken.Done():
		return context.Cause(p.broken)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// write is the one who writes to the process.
func (p *process) write() {
	for {
		select {
		case line := <-p.lines:
			p.stdin.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := p.stdin.Write(line); errors.Is(err, os.ErrDeadlineExceeded) {
				p.fail(fmt.Errorf("it has not read its input for %s", writeTimeout))
			} else if err != nil && p.dying() {
				p.fail(fmt.Errorf("it has closed its input: %w", err))
			}
		case <-p.broken.Done():
			return
		}
	}
}

// dying waits a moment for a process that has closed a pipe, which says less about what
// happened than its exit status does, and says whether it lives still.
func (p *process) dying() (lives bool) {
	select {
	case <-p.broken.Done():
		return false
	case <-time.After(pipeTime):
		return true
	}
}

// read takes what the process writes: first its hello, then answers.
func (p *process) read() {
	r := bufio.NewReaderSize(p.stdout, 16<<10)
	for first := true; ; first = false {
		line, err := readLine(r)
		if err != nil {
			if errors.Is(err, errLongLine) {
				p.fail(err)
			} else if p.dying() {
				p.fail(errors.New("it has closed its output"))
			}
			return
		}
		m, err := parse(line)
		if err == nil && first {
			p.greeting <- m
			continue
		}
		if err == nil {
			if err = p.answered(m); err == nil {
				continue
			}
		}
		// It may repeat what it was sent.
		secrets := p.secrets()
		err = fmt.Errorf("its line %s cannot be used: %s", scheduler.Shorten(scheduler.MaskText(string(line), secrets...), 100),
			scheduler.MaskText(err.Error(), secrets...))
		if first {
			err = fmt.Errorf("%w: %w", ErrHandshake, err)
		}
		p.fail(err)
		return
	}
}

var errLongLine = fmt.Errorf("its line is longer than %d bytes", MaxLine)

// readLine returns the next line without its end, which is valid until the next call.
// A line that has not ended when the input does is none.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], nil
	}
	long := append([]byte(nil), line...)
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = r.ReadSlice('\n')
		if long = append(long, line...); len(long) > MaxLine {
			return nil, errLongLine
		}
	}
	if err != nil {
		return nil, err
	}
	return long[:len(long)-1], nil
}

// answered hands an answer to who waits for it.
func (p *process) answered(m message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.pending[m.ID]
	switch {
	case c == nil:
		return fmt.Errorf("nothing with the id %d waits for an answer", m.ID)
	case m.Type != c.want:
		return fmt.Errorf("type: %s is not allowed; allowed: %s, for id %d", scheduler.Shorten(m.Type, 32), c.want, m.ID)
	}
	p.forget(m.ID)
	c.answer <- m
	if !c.left.IsZero() {
		<-p.checks
	}
	return nil
}

// leave notes that nobody waits for a check any more, and says whether it is without
// an answer still; then it counts until it has one.
func (p *process) leave(c *call) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(c.answer) > 0 {
		return false
	}
	c.left = time.Now()
	return true
}

// hangs gives the process up when it leaves a check without an answer for good.
func (p *process) hangs() {
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		select {
		case now := <-look.C:
			p.mu.Lock()
			for _, c := range p.pending {
				if !c.left.IsZero() && now.Sub(c.left) > HangTimeout {
					p.fail(fmt.Errorf("it has not answered a check for %s", HangTimeout))
				}
			}
			p.mu.Unlock()
		case <-p.broken.Done():
			return
		}
	}
}

// ask sends a question and returns its answer. When ctx is done it is cancelled; an
// answer that comes within the grace counts still. Then late says what becomes of the
// process. An error is why there is no answer.
func (p *process) ask(ctx context.Context, c *call, question func(id uint64) any, late func()) (message, error) {
	c.answer = make(chan message, 1)
	p.mu.Lock()
	p.last++
	id := p.last
	p.pending[id] = c
	p.mu.Unlock()
	if err := p.send(ctx, question(id)); err != nil {
		p.mu.Lock()
		p.forget(id)
		p.mu.Unlock()
		return message{}, err
	}
	select {
	case m := <-c.answer:
		return m, nil
	case <-p.broken.Done():
		return p.lastAnswer(c)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), p.opts.Grace)
	defer cancel()
	if err := p.send(grace, cancelRequest{typeCancel, id}); err == nil {
		select {
		case m := <-c.answer:
			return m, nil
		case <-p.broken.Done():
			return p.lastAnswer(c)
		case <-grace.Done():
		}
	}
	late()
	return message{}, context.Cause(ctx)
}

// lastAnswer is the answer that came before the process broke, if one did.
func (p *process) lastAnswer(c *call) (message, error) {
	select {
	case m := <-c.answer:
		return m, nil
	default:
		return message{}, context.Cause(p.broken)
	}
}

// forget ends a question, and keeps its secrets for a while. Call with mu held.
func (p *process) forget(id uint64) {
	c := p.pending[id]
	delete(p.pending, id)
	if c == nil || len(c.secrets) == 0 {
		return
	}
	t := told{at: time.Now(), secrets: slices.Sorted(slices.Values(c.secrets))} // in one order, to be compared
	if n := len(p.recent); n > 0 && slices.Equal(p.recent[n-1].secrets, t.secrets) {
		p.recent[n-1].at = t.at
		return
	}
	for _, s := range t.secrets {
		t.bytes += len(s)
	}
	p.recent, p.bytes = append(p.recent, t), p.bytes+t.bytes
	for len(p.recent) > 1 && (p.bytes > toldBytes || t.at.Sub(p.recent[0].at) > toldFor) {
		p.bytes -= p.recent[0].bytes
		p.recent = p.recent[1:]
	}
}

// secrets are those of everything that runs, or ran a moment ago.
func (p *process) secrets() (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.pending {
		all = append(all, c.secrets...)
	}
	for _, t := range p.recent {
		all = append(all, t.secrets...)
	}
	return all
}
