package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/snower/forsun/scheduler"
)

// Roles of a process that a benchmark starts of its own program, with its own arguments
// and --role: what it does instead.
const (
	otherClient = "other-client"
	victim      = "victim"
)

// otherEvery is how often another client of Redis asks for a key. Its questions cost the
// server next to nothing.
const otherEvery = 5 * time.Millisecond

// child is a process of this program in another role.
type child struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	errs   strings.Builder
	stopMe func()
}

// spawn starts a process that says "ready" when it is.
func (o *options) spawn(ctx context.Context, role string, more ...string) (*child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// What is given last counts.
	args := slices.Concat(o.args[1:], more, []string{"--role", role, "--redis-prefix", o.redisPrefix})
	c := &child{cmd: exec.CommandContext(ctx, program, args...)}
	c.cmd.Stderr = &c.errs
	c.stopMe = sync.OnceFunc(func() { c.cmd.Process.Kill(); c.cmd.Wait() })
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if err := c.read("ready"); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// stop kills the process.
func (c *child) stop() { c.stopMe() }

// read reads a line, which must be want.
func (c *child) read(want string) error {
	line, err := c.out.ReadString('\n')
	if err == nil && strings.TrimSpace(line) != want {
		err = fmt.Errorf("it said %q", line)
	}
	if err != nil {
		c.stop() // so that what it wrote is there
		return fmt.Errorf("%s: %w: %s", strings.Join(c.cmd.Args, " "), err, strings.TrimSpace(c.errs.String()))
	}
	return nil
}

// others is another client of Redis, in a process of its own as others are: in this one
// it would wait for the scheduler's goroutines.
type others struct{ *child }

func (o *options) startOthers(ctx context.Context) (*others, error) {
	c, err := o.spawn(ctx, otherClient)
	return &others{c}, err
}

func (o *others) begin() error {
	_, err := io.WriteString(o.in, "begin\n")
	return err
}

// end is how long it waited for answers since begin.
func (o *others) end() (l *Late, err error) {
	defer o.stop()
	o.in.Close()
	line, err := o.out.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("another client of Redis: %w: %s", err, o.errs.String())
	}
	return l, json.Unmarshal(line, &l)
}

// beOther is another client of Redis until standard input ends. It measures from the
// first line that it reads there.
func (o *options) beOther(ctx context.Context) error {
	store, err := o.openRedis(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begun := make(chan struct{})
	var reading sync.WaitGroup
	defer reading.Wait() // its standard input ends at the latest with the process that started this one
	reading.Go(func() {
		in := bufio.NewReader(o.stdin)
		_, _ = in.ReadString('\n')
		close(begun)
		_, _ = io.Copy(io.Discard, in)
		cancel()
	})
	fmt.Fprintln(o.stdout, "ready")
	tick := time.NewTicker(otherEvery)
	defer tick.Stop()
	var waits []time.Duration
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return json.NewEncoder(o.stdout).Encode(lateness(waits))
		}
		start := time.Now()
		if _, err := store.Get(ctx, "no such plan"); err != nil && ctx.Err() == nil && !errors.Is(err, scheduler.ErrNotFound) {
			return err
		}
		select {
		case <-begun:
			// Those that would have asked meanwhile waited, too.
			for wait := time.Since(start); wait > 0; wait -= otherEvery {
				waits = append(waits, wait)
			}
		default:
		}
	}
}
