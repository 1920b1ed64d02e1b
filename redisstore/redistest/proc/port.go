package proc

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports are taken from below the range that Linux gives to outgoing connections
// (from 32768): from that one, a connection of anybody could take the port of a
// server that is down for a moment, and its restart would fail.
const (
	firstPort = 12000
	lastPort  = 32000
)

// FreePort returns a TCP port of 127.0.0.1 that nobody listened on a moment ago.
func FreePort(t testing.TB) int {
	t.Helper()
	var err error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatalf("find a free port between %d and %d: %v", firstPort, lastPort, err)
	return 0
}
