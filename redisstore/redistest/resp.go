package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// replyTimeout bounds one command of Do, Try and Conn.
const replyTimeout = 10 * time.Second

// ReplyError is an error that a server answered: "ERR unknown command …".
type ReplyError string

func (e ReplyError) Error() string { return string(e) }

// Do sends one command on a connection of its own and returns the reply: a
// string (simple or bulk), an int64, nil, or a []any of these, in which an error
// is a ReplyError. An error as the reply itself, or no reply within 10 s, fails
// the test.
func Do(t testing.TB, addr string, args ...string) any {
	t.Helper()
	reply, err := Try(addr, args...)
	if err != nil {
		t.Fatalf("%s: %s: %v", addr, strings.Join(args, " "), err)
	}
	return reply
}

// Try is Do for a command that may fail, and for other goroutines than the
// test's: an error of the server is returned as a ReplyError.
func Try(addr string, args ...string) (any, error) {
	c, err := Dial(addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Do(args...)
}

// Conn is a connection to a server that speaks RESP2, for what needs more than
// one command on it: AUTH, MULTI, ASKING, WAIT, SUBSCRIBE. It is for one
// goroutine.
type Conn struct {
	net.Conn
	r *bufio.Reader
}

// Dial connects to a server, or a Proxy.
func Dial(addr string) (*Conn, error) {
	c, err := net.DialTimeout("tcp", addr, replyTimeout)
	if err != nil {
		return nil, err
	}
	return NewConn(c), nil
}

// NewConn speaks RESP2 on c, say a tls.Conn.
func NewConn(c net.Conn) *Conn { return &Conn{Conn: c, r: bufio.NewReader(c)} }

// Do sends one command and returns its reply, as Try does.
func (c *Conn) Do(args ...string) (any, error) {
	if err := c.Send(args...); err != nil {
		return nil, err
	}
	return c.Receive()
}

// Send sends one command without waiting for its reply.
func (c *Conn) Send(args ...string) error {
	c.SetWriteDeadline(time.Now().Add(replyTimeout))
	_, err := c.Write(Request(args...))
	return err
}

// Request returns a command as the bytes that a client sends.
func Request(args ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, arg := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	return b
}

// Receive reads one reply, or one message of a subscription, within 10 s.
func (c *Conn) Receive() (any, error) {
	c.SetReadDeadline(time.Now().Add(replyTimeout))
	reply, err := c.reply()
	if err != nil {
		return nil, err
	}
	if e, ok := reply.(ReplyError); ok {
		return nil, e
	}
	return reply, nil
}

func (c *Conn) reply() (any, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line, ok := strings.CutSuffix(line, "\r\n")
	if !ok || line == "" {
		return nil, fmt.Errorf("a reply begins with %q; want a line of RESP2", line)
	}
	kind, text := line[0], line[1:]
	switch kind {
	case '+':
		return text, nil
	case '-':
		return ReplyError(text), nil
	case ':':
		return strconv.ParseInt(text, 10, 64)
	case '$', '*':
		n, err := strconv.Atoi(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("a reply begins with %q; want a length", line)
		case n < 0:
			return nil, nil
		case kind == '$':
			return c.bulk(n)
		}
		array := make([]any, n)
		for i := range array {
			if array[i], err = c.reply(); err != nil {
				return nil, err
			}
		}
		return array, nil
	}
	return nil, fmt.Errorf("a reply begins with %q; want one of + - : $ *", line)
}

func (c *Conn) bulk(n int) (any, error) {
	b := make([]byte, n+2)
	if _, err := io.ReadFull(c.r, b); err != nil {
		return nil, err
	}
	if string(b[n:]) != "\r\n" {
		return nil, errors.New("a bulk string is longer than its length says")
	}
	return string(b[:n]), nil
}
