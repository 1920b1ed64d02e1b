package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/xrash/smetrics"

	"github.com/snower/forsun/rpc/client"
	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
)

// unknownError is a command there is not.
type unknownError struct{ name string }

func (e *unknownError) Error() string { return "Unknown cmd" }

// hint says what may have been meant.
func (e *unknownError) hint() string {
	best, distance := "", 3 // more is another word
	for _, c := range commands() {
		for _, name := range append([]string{c.name}, c.aliases...) {
			if d := smetrics.WagnerFischer(strings.ToLower(e.name), name, 1, 1, 1); d < distance && d < len(name) {
				best, distance = name, d
			}
		}
	}
	if best != "" {
		return fmt.Sprintf("%s: did you mean %s?", scheduler.Shorten(e.name, 64), best)
	}
	return scheduler.Shorten(e.name, 64) + `: "help" lists the commands`
}

// argsError is a command with the wrong words.
type argsError struct{ name, reason string }

func (e *argsError) Error() string {
	c, _ := find(e.name)
	return fmt.Sprintf("%s: %s; usage: %s", e.name, e.reason, strings.TrimSpace(c.name+" "+c.args))
}

func wrongArgs(name, format string, args ...any) error {
	return &argsError{name, fmt.Sprintf(format, args...)}
}

// report prints an error on standard error and returns the exit status for it.
func (s *session) report(err error) int {
	s.out.Flush()
	code, message := s.describe(err)
	if errors.Is(err, errReported) || errors.Is(err, errUnwell) {
		// Nothing is left to tell.
	} else if s.opts.Output == outputJSON {
		writeJSON(s.err, jsonError{Code: code, Message: message})
	} else {
		fmt.Fprintln(s.err, withCode(code, message))
	}
	if unknown := new(unknownError); errors.As(err, &unknown) && s.opts.Output != outputJSON {
		fmt.Fprintln(s.err, unknown.hint())
	}
	if errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	return exitFailed
}

// withCode puts an error's code before its message, if it has one.
func withCode(code wire.Code, message string) string {
	if code == wire.OK {
		return message
	}
	return fmt.Sprintf("%d: %s", code, message)
}

// jsonError is an error with -o json.
type jsonError struct {
	Code    wire.Code `json:"errcode"` // 0: not of the server's
	Message string    `json:"errmsg"`
	Line    int       `json:"line,omitempty"` // of what is imported
}

// describe returns the code an error has, if it has one, and what to tell about
// it: what is wrong, and what would be right.
func (s *session) describe(err error) (wire.Code, string) {
	var (
		refused *client.Error
		conn    *client.ConnError
		field   *scheduler.FieldError
	)
	switch {
	case errors.As(err, &conn):
		return wire.OK, s.describeConn(conn)
	case errors.As(err, &refused):
		message := printable(refused.Message)
		if wire.Unknown <= refused.Code && refused.Code <= wire.Missing {
			message += " (" + refused.Code.Meaning() + ")" // these say it in one language only
		}
		if hint := s.hint(refused.Code); hint != "" {
			message += "; " + hint
		}
		return refused.Code, message
	case errors.As(err, &field):
		code, _, _ := wire.FromError(wire.Create, field)
		return code, printable(err.Error())
	case errors.Is(err, context.Canceled):
		return wire.OK, "interrupted"
	}
	return wire.OK, printable(err.Error())
}

// hint says what would be right where the server's message is too old to say it.
func (s *session) hint(code wire.Code) string {
	switch code {
	case wire.BadTime:
		return "allowed: a time still to come, up to 2038-01-19 03:14:07 UTC"
	case wire.NotFound:
		return `"ls" lists what there is`
	case wire.UnknownAction:
		if names := s.actionNames(context.Background()); len(names) > 0 {
			return "allowed: " + strings.Join(names, ", ")
		}
	case wire.DurabilityUnknown:
		return "it may be done: Redis did not answer, or no replica of Redis has confirmed it"
	}
	return ""
}

// describeConn says what is the matter with the way to the server.
func (s *session) describeConn(e *client.ConnError) string {
	unsure := ""
	if e.Unsure {
		unsure = "; it is not known whether the request took effect"
	}
	var (
		dns     *net.DNSError
		timeout interface{ Timeout() bool } // of a connection's own deadline, which is that of the context
	)
	switch {
	case errors.Is(e.Err, context.Canceled):
		return "interrupted" + unsure
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		return fmt.Sprintf("no server at %s (connection refused): %s", e.Address, s.howToStart())
	case errors.As(e.Err, &dns):
		return fmt.Sprintf("no server at %s: no such host; --host says where it is", e.Address)
	case errors.Is(e.Err, context.DeadlineExceeded), errors.As(e.Err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("no answer from %s within %s (--timeout changes that)%s", e.Address, s.wait, unsure)
	}
	if advice := adviseTLS(e.Err); advice != "" {
		return fmt.Sprintf("connection to %s: %s%s", e.Address, advice, unsure)
	}
	text := e.Err.Error()
	if op := new(net.OpError); errors.As(e.Err, &op) {
		text = op.Err.Error() // without the address, which stands before it
	}
	hint := "is it a forsund, does it let this machine in, and does it speak TLS (--tls)?"
	if s.opts.TLS != nil {
		hint = "is it a forsund, does it let this machine in, and does it speak TLS, too?"
	}
	return fmt.Sprintf("connection to %s: %s; %s%s", e.Address, printable(text), hint, unsure)
}

// adviseTLS says what is wrong with a handshake and what would be right, if it is
// one of the usual things.
func adviseTLS(err error) string {
	var (
		plain     tls.RecordHeaderError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		expired   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &plain):
		return "what answers there does not speak TLS; leave --tls away, or start forsund with --tls-cert"
	case errors.As(err, &authority):
		return "the server's certificate is of an authority that is not trusted here; --tls-ca names one that is"
	case errors.As(err, &name):
		return printable(name.Error()) + "; --tls-server-name says which name it is for"
	case errors.As(err, &expired):
		return "the server's certificate: " + printable(expired.Error())
	}
	return ""
}

func (s *session) howToStart() string {
	ip := net.ParseIP(s.opts.Host)
	if s.opts.Host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "start forsund there with --bind, or say where it is with --host and --port"
	}
	start := "forsund"
	if s.opts.Port != 6458 {
		start += fmt.Sprintf(" --port %d", s.opts.Port)
	}
	return fmt.Sprintf("start one with %q, or say where it is with --host and --port", start)
}

// planError says whether an error is of the one plan it was given for, rather
// than of the server or of all plans.
func planError(err error) bool {
	var refused *client.Error
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Code {
	case wire.BadTime, wire.UnknownAction, wire.Missing, wire.BadField, wire.BadParams, wire.NotAllowed, wire.TooLarge:
		return true
	}
	return false
}

// writeJSON writes a value on a line.
func writeJSON(w interface{ Write([]byte) (int, error) }, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
