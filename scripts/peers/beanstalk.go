package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	beanstalkWorkers = 8
	// beanstalkDepth is how many jobs a worker asks for at a time. One at a time is how
	// clients do it, and slower: the way to the server and back is then most of it.
	beanstalkDepth = 16
	// beanstalkDelay is the delay of steady's jobs: delays are whole seconds from when a
	// job is put, so a job that is due at a second's beginning is put at one.
	beanstalkDelay = 2
)

// newBeanstalk is beanstalkd, in memory or with its log, which it syncs every 50 ms.
func newBeanstalk(log bool) *contestant {
	c := &contestant{
		name: "beanstalkd", note: "in memory, 8 connections of 16 jobs at a time",
		works: []string{create, burst, steady200, steady2000},
		ready: func() error { _, err := exec.LookPath("beanstalkd"); return err },
	}
	args := func(port int, dir string) []string { return []string{"-l", "127.0.0.1", "-p", strconv.Itoa(port)} }
	if log {
		c.name, c.note = "beanstalkd -b", "with its log, synced every 50 ms; else the same"
		args = func(port int, dir string) []string {
			return []string{"-l", "127.0.0.1", "-p", strconv.Itoa(port), "-b", dir}
		}
	}
	c.once = func(ctx context.Context, t task) (f figures, err error) {
		server, err := start(ctx, "beanstalkd", args)
		if err != nil {
			return f, err
		}
		defer server.stop()
		switch t.work {
		case create:
			return timed(t, func() error {
				return beanstalkPut(ctx, server.addr, createClients, 1, t.jobs, func() int { return 30_000 })
			})
		case burst:
			return beanstalkBurst(ctx, server.addr, t)
		default:
			return beanstalkSteady(ctx, server.addr, t)
		}
	}
	return c
}

// beanstalkConn is a connection that is closed when ctx is done.
type beanstalkConn struct {
	net.Conn
	in    *bufio.Reader
	close func()
}

func beanstalkDial(ctx context.Context, addr string) (*beanstalkConn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return &beanstalkConn{conn, bufio.NewReaderSize(conn, 64<<10), func() { stop(); conn.Close() }}, nil
}

// reply reads a line that must begin with word, and returns the numbers behind it.
func (c *beanstalkConn) reply(word string) (numbers []string, err error) {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(line)
	if len(fields) == 0 || fields[0] != word {
		return nil, fmt.Errorf("beanstalkd answered %q, not %s", line, word)
	}
	return fields[1:], nil
}

// put adds the command that puts job i to commands.
func put(commands []byte, i, delay int) []byte {
	commands = fmt.Appendf(commands, "put 0 %d 60 %d\r\n%012d", delay, payloadBytes, i)
	for range payloadBytes - 12 {
		commands = append(commands, 'x')
	}
	return append(commands, "\r\n"...)
}

// beanstalkPut puts n jobs on several connections, depth at a time on each.
func beanstalkPut(ctx context.Context, addr string, connections, depth, n int, delay func() int) error {
	free := make(chan *beanstalkConn, connections)
	for range connections {
		c, err := beanstalkDial(ctx, addr)
		if err != nil {
			return err
		}
		defer c.close()
		free <- c
	}
	return spread(ctx, connections, (n+depth-1)/depth, func(chunk int) error {
		c := <-free
		defer func() { free <- c }()
		var commands []byte
		from, to := chunk*depth, min(n, (chunk+1)*depth)
		for i := from; i < to; i++ {
			commands = put(commands, i, delay())
		}
		if _, err := c.Write(commands); err != nil {
			return err
		}
		for range to - from {
			if _, err := c.reply("INSERTED"); err != nil {
				return err
			}
		}
		return nil
	})
}

// work reserves and deletes jobs until the connection is closed.
func (c *beanstalkConn) work(note func(i int)) error {
	reserve := strings.Repeat("reserve\r\n", beanstalkDepth)
	commands := []byte(reserve)
	body := make([]byte, payloadBytes+2)
	for deletes := 0; ; deletes = beanstalkDepth {
		if _, err := c.Write(commands); err != nil {
			return err
		}
		for range deletes {
			if _, err := c.reply("DELETED"); err != nil {
				return err
			}
		}
		commands = commands[:0]
		for range beanstalkDepth {
			job, err := c.reply("RESERVED")
			if err != nil {
				return err
			}
			if _, err := io.ReadFull(c.in, body); err != nil {
				return err
			}
			i, err := strconv.Atoi(string(body[:12]))
			if err != nil {
				return err
			}
			note(i)
			commands = fmt.Appendf(commands, "delete %s\r\n", job[0])
		}
		commands = append(commands, reserve...)
	}
}

// beanstalkDrain runs workers until all jobs of r began.
func beanstalkDrain(ctx context.Context, addr string, r *runs) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var all sync.WaitGroup
	defer func() { cancel(nil); all.Wait() }()
	for range beanstalkWorkers {
		c, err := beanstalkDial(ctx, addr)
		if err != nil {
			return err
		}
		all.Go(func() {
			defer c.close()
			cancel(c.work(r.note)) // the first cause counts: this one, unless all is done
		})
	}
	return r.wait(ctx)
}

func beanstalkBurst(ctx context.Context, addr string, t task) (f figures, err error) {
	first, err := filled(t, usualSpeed, func(first int64) error {
		return beanstalkPut(ctx, addr, 4, 100, t.jobs, func() int {
			return int((time.Until(time.Unix(first, 0)) + time.Second - 1) / time.Second)
		})
	})
	if err != nil {
		return f, err
	}
	// The last is due within a second: whole seconds from when it was put.
	begin := time.Unix(first+1, 0).Add(50 * time.Millisecond)
	time.Sleep(time.Until(begin))
	r := newRuns(t, first)
	if err := beanstalkDrain(ctx, addr, r); err != nil {
		return f, err
	}
	return r.figures(func(int) time.Time { return begin }), nil
}

func beanstalkSteady(ctx context.Context, addr string, t task) (f figures, err error) {
	due := make([]time.Time, t.jobs)
	r := newRuns(t, 0)
	ctx, cancel := context.WithCancelCause(ctx)
	var putting sync.WaitGroup
	defer func() { cancel(nil); putting.Wait() }()
	c, err := beanstalkDial(ctx, addr)
	if err != nil {
		return f, err
	}
	putting.Go(func() {
		defer c.close()
		second := time.Now().Truncate(time.Second)
		for i := 0; i < t.jobs; {
			second = second.Add(time.Second)
			time.Sleep(time.Until(second))
			for end := i + t.rate; i < end; {
				var commands []byte
				n := min(100, end-i)
				now := time.Now()
				for range n {
					due[i] = now.Add(beanstalkDelay * time.Second)
					commands = put(commands, i, beanstalkDelay)
					i++
				}
				if _, err := c.Write(commands); err != nil {
					cancel(err)
					return
				}
				for range n {
					if _, err := c.reply("INSERTED"); err != nil {
						cancel(err)
						return
					}
				}
			}
		}
	})
	if err := beanstalkDrain(ctx, addr, r); err != nil {
		return f, err
	}
	putting.Wait()
	return r.figures(func(i int) time.Time { return due[i] }), nil
}
