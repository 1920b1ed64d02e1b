package rpc

import (
	"net"
	"net/netip"

	"github.com/snower/forsun/scheduler"
)

// peerOf says who is at the other end of conn, and at which address. A Unix
// socket's peer is on this machine; one whose address cannot be read is taken
// for a stranger.
func peerOf(conn net.Conn) (scheduler.Peer, netip.Addr) {
	switch a := conn.RemoteAddr().(type) {
	case *net.TCPAddr:
		at := a.AddrPort()
		return scheduler.NewPeer(at), at.Addr()
	case *net.UnixAddr:
		return scheduler.Peer{Address: "unix socket", Loopback: true, Private: true}, netip.Addr{}
	case nil:
		return scheduler.Peer{Address: "unknown"}, netip.Addr{}
	default:
		return scheduler.Peer{Address: a.String()}, netip.Addr{}
	}
}
