package access

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The PROXY protocol, by which a proxy says at the start of a connection whom it
// speaks for: https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt.
const (
	proxyV1      = "PROXY "
	proxyV2      = "\r\n\r\n\x00\r\nQUIT\n"
	maxV1        = 107  // bytes of a line of version 1, its end included
	maxV2        = 4096 // bytes behind the fixed part of version 2; real ones have a few hundred
	commandLocal = 0x20 // version 2, and the proxy speaks for itself
	commandProxy = 0x21 // version 2, and it speaks for somebody
	overIPv4     = 0x11 // TCP over IPv4
	overIPv6     = 0x21 // TCP over IPv6
)

var errProxyHeader = errors.New("bad PROXY protocol header")

// ReadProxy reads a PROXY protocol header, of version 1 or 2, if there is one. It
// returns whom the proxy speaks for, the zero AddrPort if it says nobody, or what
// it read of something else, which is to be given to who reads it. It reads no
// byte behind the header, and at most some 4 KiB; how long that may take is the
// connection's read deadline.
func ReadProxy(conn io.Reader) (client netip.AddrPort, found bool, other []byte, err error) {
	// A byte at a time, as long as it may be one: what is not a header may be shorter
	// than one, and its sender then waits for an answer.
	head := make([]byte, 0, maxV1)
	for {
		n, err := io.ReadFull(conn, head[len(head):len(head)+1])
		if err != nil {
			return client, false, head, err
		}
		head = head[:len(head)+n]
		text := string(head)
		switch {
		case text == proxyV1:
			client, err = readV1(conn, head)
			return client, true, nil, err
		case text == proxyV2:
			client, err = readV2(conn)
			return client, true, nil, err
		case !strings.HasPrefix(proxyV1, text) && !strings.HasPrefix(proxyV2, text):
			return client, false, head, nil
		}
	}
}

// readV1 reads the rest of a line such as "PROXY TCP4 192.0.2.1 192.0.2.2 4711 80".
func readV1(conn io.Reader, line []byte) (client netip.AddrPort, err error) {
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		if len(line) == maxV1 {
			return client, fmt.Errorf("%w: no end of line within %d bytes", errProxyHeader, maxV1)
		}
		if _, err := io.ReadFull(conn, line[len(line):len(line)+1]); err != nil {
			return client, fmt.Errorf("%w: %w", errProxyHeader, err)
		}
		line = line[:len(line)+1]
	}
	words := strings.Split(strings.TrimSuffix(string(line), "\r\n"), " ")
	if words[1] == "UNKNOWN" {
		return client, nil
	}
	if len(words) != 6 || words[1] != "TCP4" && words[1] != "TCP6" {
		return client, fmt.Errorf("%w: not PROXY TCP4 or TCP6, two addresses and two ports", errProxyHeader)
	}
	addr, err := netip.ParseAddr(words[2])
	if err != nil || addr.Zone() != "" || addr.Is4() != (words[1] == "TCP4") {
		return client, fmt.Errorf("%w: no address of the client", errProxyHeader)
	}
	port, err := strconv.ParseUint(words[4], 10, 16)
	if err != nil {
		return client, fmt.Errorf("%w: no port of the client", errProxyHeader)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}

// readV2 reads what follows the signature of version 2.
func readV2(conn io.Reader) (client netip.AddrPort, err error) {
	var fixed [4]byte
	if _, err := io.ReadFull(conn, fixed[:]); err != nil {
		return client, fmt.Errorf("%w: %w", errProxyHeader, err)
	}
	length := int(binary.BigEndian.Uint16(fixed[2:]))
	if length > maxV2 {
		return client, fmt.Errorf("%w: %d bytes; allowed: %d", errProxyHeader, length, maxV2)
	}
	rest := make([]byte, length)
	if _, err := io.ReadFull(conn, rest); err != nil {
		return client, fmt.Errorf("%w: %w", errProxyHeader, err)
	}
	switch fixed[0] {
	case commandLocal:
		return client, nil
	case commandProxy:
	default:
		return client, fmt.Errorf("%w: version and command %#x", errProxyHeader, fixed[0])
	}
	// Source and destination address, source and destination port; then extensions.
	size := 0
	switch fixed[1] {
	case overIPv4:
		size = net.IPv4len
	case overIPv6:
		size = net.IPv6len
	default:
		return client, nil // over something that has no such address
	}
	if length < 2*size+4 {
		return client, fmt.Errorf("%w: %d bytes are too few for addresses", errProxyHeader, length)
	}
	addr, _ := netip.AddrFromSlice(rest[:size])
	return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(rest[2*size:])), nil
}

// Contains says whether one of networks has addr in it.
func Contains(networks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(addr.Unmap()) })
}

// Forwarded returns whom proxies say they speak for in the X-Forwarded-For headers
// of a request. Each proxy adds to the right who spoke to it: the first from there
// that is no trusted proxy is the client, and comes last here, behind the proxies
// on the way; if all are, the leftmost is. An error: what is said makes no sense.
func Forwarded(headers []string, trusted []netip.Prefix) (way []netip.AddrPort, err error) {
	entries := strings.Split(strings.Join(headers, ","), ",")
	for _, entry := range slices.Backward(entries) {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		at, err := parseForwarded(entry)
		if err != nil {
			return nil, err
		}
		if way = append(way, at); !Contains(trusted, at.Addr()) {
			break
		}
	}
	return way, nil
}

// parseForwarded reads an address with or without brackets and port.
func parseForwarded(entry string) (netip.AddrPort, error) {
	if at, err := netip.ParseAddrPort(entry); err == nil && at.Addr().Zone() == "" {
		return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(entry, "["), "]"))
	if err != nil || addr.Zone() != "" {
		return netip.AddrPort{}, errors.New("X-Forwarded-For: not an address")
	}
	return netip.AddrPortFrom(addr.Unmap(), 0), nil
}
