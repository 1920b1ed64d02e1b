package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/rpc/access"
	"github.com/snower/forsun/scheduler"
)

// Options configure a Server and an HTTPServer.
type Options struct {
	Logger zerolog.Logger
	Info   *Info // what info answers; nil: one of the server's own

	// Backup writes a backup of the store into a directory; nil: it cannot.
	Backup func(ctx context.Context, directory string) (Backup, error)

	// AllowCIDR are the networks, beside loopback, whose peers are let in as they
	// are, without a token or certificate. nil: private networks.
	AllowCIDR []netip.Prefix

	// TrustedProxies are the networks of proxies that are believed when they say, by
	// the PROXY protocol or X-Forwarded-For, whom they speak for.
	TrustedProxies []netip.Prefix

	Tokens *access.Tokens       // that peers may show; nil: none
	TLS    *access.Certificates // to speak TLS with; nil: no TLS

	// Audit is told of every change a client makes, in a line each. The zero Logger
	// is told nothing. AuditLines is what it writes to, if that takes several lines in one
	// Write: a request for many plans is then told of so. nil: it does not.
	Audit      zerolog.Logger
	AuditLines io.Writer

	MaxConns   int // connections open at a time
	MaxMessage int // bytes of one Thrift message or HTTP body
	MaxLarge   int // large messages and answers at a time: see the package comment
	MaxList    int // entries of an answer that is not paged

	ArriveTimeout  time.Duration // for the PROXY header and the TLS handshake; as much again to show a token where one is needed
	MessageTimeout time.Duration // for a message that has begun to arrive in full
	WriteTimeout   time.Duration // for a client to take 64 KiB of an answer; Thrift: at least this, at most twice
}

// DefaultOptions returns what suits a server beside its clients: 4096
// connections, 4 MiB a message (1000 plans of 4 KiB), 8 large ones at a time,
// lists of up to 100,000, 10 s to arrive, 30 s.
func DefaultOptions() Options {
	return Options{
		Logger:         zerolog.Nop(),
		Audit:          zerolog.Nop(),
		MaxConns:       4096,
		MaxMessage:     4 << 20,
		MaxLarge:       8,
		MaxList:        100_000,
		ArriveTimeout:  10 * time.Second,
		MessageTimeout: 30 * time.Second,
		WriteTimeout:   30 * time.Second,
	}
}

// Validate says which options cannot work.
func (o Options) Validate() error {
	var errs []error
	for _, n := range []struct {
		name       string
		value, min int
	}{
		{"MaxConns", o.MaxConns, 1},
		{"MaxMessage", o.MaxMessage, 1 << 10},
		{"MaxLarge", o.MaxLarge, 1},
		{"MaxList", o.MaxList, 1},
	} {
		if n.value < n.min || n.value > 1<<30 {
			errs = append(errs, fmt.Errorf("%s: %d is not allowed; allowed: %d to %d", n.name, n.value, n.min, 1<<30))
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"ArriveTimeout", o.ArriveTimeout},
		{"MessageTimeout", o.MessageTimeout},
		{"WriteTimeout", o.WriteTimeout},
	} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("%s: %s is not allowed; allowed: more than 0", d.name, d.value))
		}
	}
	return errors.Join(errs...)
}

// maxArriving bounds the connections that are not let in yet, and those that have
// yet to show a token, each: a part of all, so that strangers cannot displace all
// the others.
func (o *Options) maxArriving() int { return max(o.MaxConns/4, 1) }

// accepts says whether a peer at addr is let in as it is.
func (o *Options) accepts(peer scheduler.Peer, addr netip.Addr) bool {
	if peer.Loopback {
		return true
	}
	if o.AllowCIDR == nil {
		return peer.Private
	}
	return access.Contains(o.AllowCIDR, addr)
}
