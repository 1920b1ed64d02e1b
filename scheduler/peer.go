package scheduler

import (
	"context"
	"net/netip"
)

// Peer is who a request comes from.
type Peer struct {
	Address       string // host:port, for logs and audit
	Loopback      bool
	Private       bool   // on a private network (RFC 1918, RFC 4193), or loopback
	Authenticated bool   // showed a valid token or certificate
	Name          string // of that token or certificate, for logs and audit
	Scope         *Scope // nil: every plan
}

// NewPeer classifies a peer by its address.
func NewPeer(addr netip.AddrPort) Peer {
	ip := addr.Addr().Unmap()
	return Peer{
		Address:  addr.String(),
		Loopback: ip.IsLoopback(),
		Private:  ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast(),
	}
}

type peerKey struct{}

// WithPeer returns a context that carries the peer a request came from.
func WithPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// PeerFrom returns the peer in ctx. Without one the caller is this process
// itself, which may do anything.
func PeerFrom(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}

// ShellFrom says which peers may create plans that run shell commands.
type ShellFrom string

const (
	ShellFromLoopback ShellFrom = "loopback" // loopback, or authenticated (the default)
	ShellFromPrivate  ShellFrom = "private"  // also private networks
	ShellFromAny      ShellFrom = "any"      // every peer that is let in at all
	ShellFromNobody   ShellFrom = "nobody"   // no peer, not even an authenticated one
)

// who says who that is, and what to do, to whoever is not.
func (s ShellFrom) who(p Peer) string {
	const open = "; or let the server open it to others with --shell-from"
	const show = ": show a token (forsun --token-file, Thrift auth, HTTP Authorization: Bearer) or a client certificate" + open
	yours := " (yours: " + p.Address + ")"
	switch s {
	case ShellFromPrivate:
		return "from loopback, private networks or an authenticated peer only" + yours + show
	case ShellFromNobody:
		return "from nobody" + yours + open
	default:
		return "from loopback or an authenticated peer only" + yours + show
	}
}

// allows says whether p may create shell plans.
func (s ShellFrom) allows(p Peer) bool {
	switch s {
	case ShellFromAny:
		return true
	case ShellFromPrivate:
		return p.Private || p.Authenticated
	case ShellFromNobody:
		return false
	default:
		return p.Loopback || p.Authenticated
	}
}
