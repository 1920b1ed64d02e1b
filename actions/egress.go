package actions

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/snower/forsun/scheduler"
)

// Egress says which addresses the actions http, redis, mysql, thrift and beanstalk
// may connect to. The zero value allows all but link-local addresses and those under
// which cloud providers serve the metadata, and with it the credentials, of a
// machine.
//
// What counts is the address of each connection that is made, after names were
// resolved and redirects followed, so that no name and no redirect leads around it.
// An address in IPv6 that stands for one in IPv4 (mapped, NAT64, 6to4) is judged as
// both, and the unspecified address as loopback, too, which it leads to. It does not
// bind what commands of the shell action and extensions do.
type Egress struct {
	// Allow are the networks that targets may be in; nil: all. A network of it that
	// lies within one of those that are refused by default is an exception to that.
	Allow []netip.Prefix
	// Deny are networks that targets may not be in, whatever Allow says.
	Deny []netip.Prefix

	resolver *net.Resolver // of tests; nil: the system's
}

// refusedByDefault are the networks that targets may not be in unless Egress.Allow
// says so.
var refusedByDefault = sync.OnceValue(func() []refusedNetwork { // asked for at each firing
	network := netip.MustParsePrefix
	const metadata = "metadata of cloud machines"
	return []refusedNetwork{
		{network("169.254.0.0/16"), "link-local, " + metadata}, // AWS, Google, Azure, OpenStack and others
		{network("fe80::/10"), "link-local"},
		{network("fd00:ec2::254/128"), metadata},                                 // AWS
		{network("fd20:ce::254/128"), metadata},                                  // Google
		{network("fd00:42::42/128"), metadata},                                   // Scaleway
		{network("100.100.100.200/32"), metadata},                                // Alibaba
		{network("192.0.0.192/32"), metadata},                                    // Oracle
		{network("168.63.129.16/32"), "services of the host of a cloud machine"}, // Azure
	}
})

type refusedNetwork struct {
	network netip.Prefix
	why     string
}

// refusal returns "" if addr may be connected to, else what may, for an error.
func (e Egress) refusal(addr netip.Addr) string {
	forms := addressForms(addr)
	for _, form := range forms {
		for _, network := range e.Deny {
			if network.Contains(form) {
				return fmt.Sprintf("addresses outside of %s (the server's --egress-deny)", network)
			}
		}
		for _, r := range refusedByDefault() {
			if r.network.Contains(form) && !e.excepted(form, r.network) {
				return fmt.Sprintf("addresses outside of %s (%s), unless the server's --egress-allow names one in it", r.network, r.why)
			}
		}
	}
	if e.Allow == nil || contains(e.Allow, forms[0]) {
		return ""
	}
	var names []string
	for _, network := range e.Allow {
		names = append(names, network.String())
	}
	return "addresses in " + strings.Join(names, ", ") + " (the server's --egress-allow)"
}

// excepted says whether Allow has a network around addr that lies within refused.
func (e Egress) excepted(addr netip.Addr, refused netip.Prefix) bool {
	for _, network := range e.Allow {
		if network.Contains(addr) && network.Bits() >= refused.Bits() && refused.Contains(network.Addr()) {
			return true
		}
	}
	return false
}

func contains(networks []netip.Prefix, addr netip.Addr) bool {
	for _, network := range networks {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// addressForms returns addr as it is to be compared, and the other addresses that
// a connection to it may lead to.
func addressForms(addr netip.Addr) []netip.Addr {
	addr = addr.WithZone("").Unmap()
	forms := []netip.Addr{addr}
	if addr.IsUnspecified() { // a connection to it is one to this machine
		return append(forms, netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback())
	}
	if !addr.Is6() {
		return forms
	}
	b := addr.As16()
	embedded := func(i, j, k, l int) { forms = append(forms, netip.AddrFrom4([4]byte{b[i], b[j], b[k], b[l]})) }
	for _, translated := range []string{
		"64:ff9b::/96",    // NAT64 (RFC 6052)
		"::ffff:0:0:0/96", // stateless translation (RFC 2765)
		"::/96",           // IPv4-compatible (RFC 4291)
		"64:ff9b:1::/48",  // NAT64 of one's own network (RFC 8215), or as below
	} {
		if netip.MustParsePrefix(translated).Contains(addr) && addr != netip.IPv6Loopback() {
			embedded(12, 13, 14, 15)
		}
	}
	if netip.MustParsePrefix("64:ff9b:1::/48").Contains(addr) {
		embedded(6, 7, 9, 10)
	}
	if netip.MustParsePrefix("2002::/16").Contains(addr) { // 6to4 (RFC 3056)
		embedded(2, 3, 4, 5)
	}
	return forms
}

// egressError is a connection that was not made because of the address it would
// have led to. To try again is of no use.
type egressError struct{ text string }

func (e *egressError) Error() string { return e.text }

// isEgressError says whether err comes from the policy.
func isEgressError(err error) bool {
	_, ok := errors.AsType[*egressError](err)
	return ok
}

// check is a literal address, as the system is about to connect to it.
func (e Egress) check(network, address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !strings.HasPrefix(network, "tcp") {
		return &egressError{fmt.Sprintf("%s address %s is not allowed; allowed: TCP", network, address)}
	}
	if allowed := e.refusal(at.Addr()); allowed != "" {
		return &egressError{fmt.Sprintf("address %s is not allowed; allowed: %s", at.Addr(), allowed)}
	}
	return nil
}

// dial connects to addr, host:port, if an address of the host may be connected to
// and answers.
func (e Egress) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var permitted atomic.Bool // some address of the host was
	d := net.Dialer{
		Resolver: e.resolver,
		ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
			if err := e.check(network, address); err != nil {
				return err
			}
			permitted.Store(true)
			return nil
		},
	}
	conn, err := d.DialContext(ctx, network, addr)
	if isEgressError(err) && permitted.Load() {
		// Of several addresses the first error is told. Another one may answer later.
		err = &mixedError{err}
	}
	return conn, err
}

// mixedError is an egressError beside which another address did not answer: a net.Error, so worth
// another attempt.
type mixedError struct{ first error }

func (e *mixedError) Error() string {
	return e.first.Error() + "; another address of the host did not answer"
}
func (e *mixedError) Timeout() bool   { return false }
func (e *mixedError) Temporary() bool { return true }

// refuse refuses a parameter whose target, host:port, is a literal address that may
// not be connected to. Names are judged when they are resolved.
func (e Egress) refuse(r *reader, name, target string) {
	host, _, _ := net.SplitHostPort(target)
	addr, err := netip.ParseAddr(host)
	if err != nil || r.refused != nil {
		return
	}
	if allowed := e.refusal(addr); allowed != "" {
		r.refused = &scheduler.FieldError{Kind: scheduler.ErrNotAllowed, Field: "params." + name, Value: addr.String(), Allowed: allowed}
	}
}
