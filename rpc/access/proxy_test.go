package access

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadProxy(t *testing.T) {
	t.Parallel()
	four := "\xcb\x00\x71\x09\x0a\x00\x00\x01\x12\x67\x19\x3a"
	six := string(netip.MustParseAddr("2001:db8::9").AsSlice()) + strings.Repeat("\x00", 16) + "\x12\x67\x19\x3a"
	mapped := string(netip.MustParseAddr("::ffff:203.0.113.9").AsSlice()) + strings.Repeat("\x00", 16) + "\x12\x67\x19\x3a"
	raw := func(command, over byte, rest string) string {
		return proxyV2 + string([]byte{command, over, byte(len(rest) >> 8), byte(len(rest))}) + rest
	}
	rows := []struct {
		why, in string
		client  string // "": nobody
		found   bool
		other   string
		fault   string
	}{
		{"v1", "PROXY TCP4 203.0.113.9 10.0.0.1 4711 6458\r\n", "203.0.113.9:4711", true, "", ""},
		{"v1 over IPv6", "PROXY TCP6 2001:db8::9 ::1 4711 6458\r\n", "[2001:db8::9]:4711", true, "", ""},
		{"v1, mapped", "PROXY TCP6 ::ffff:203.0.113.9 ::1 4711 6458\r\n", "203.0.113.9:4711", true, "", ""},
		{"v1, nobody", "PROXY UNKNOWN\r\n", "", true, "", ""},
		{"v1, nobody, with something", "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "", true, "", ""},
		{"v1, no words", "PROXY \r\n", "", true, "", "two addresses"},
		{"v1, family", "PROXY TCP4 2001:db8::9 ::1 4711 6458\r\n", "", true, "", "no address of the client"},
		{"v1, zone", "PROXY TCP6 fe80::1%eth0 ::1 4711 6458\r\n", "", true, "", "no address of the client"},
		{"v1, name", "PROXY TCP4 localhost 10.0.0.1 4711 6458\r\n", "", true, "", "no address of the client"},
		{"v1, port", "PROXY TCP4 203.0.113.9 10.0.0.1 65536 6458\r\n", "", true, "", "no port of the client"},
		{"v1, few words", "PROXY TCP4 203.0.113.9\r\n", "", true, "", "two addresses"},
		{"v1, UDP", "PROXY UDP4 203.0.113.9 10.0.0.1 4711 6458\r\n", "", true, "", "two addresses"},
		{"v1, no end", "PROXY TCP4 " + strings.Repeat("1", 200), "", true, "", "no end of line within 107 bytes"},
		{"v1, LF alone", "PROXY UNKNOWN\n" + strings.Repeat("x", 200), "", true, "", "no end of line"},
		{"v1, cut off", "PROXY TCP4 203.0", "", true, "", "EOF"},
		{"v2", raw(0x21, 0x11, four), "203.0.113.9:4711", true, "", ""},
		{"v2 over IPv6", raw(0x21, 0x21, six), "[2001:db8::9]:4711", true, "", ""},
		{"v2, mapped", raw(0x21, 0x21, mapped), "203.0.113.9:4711", true, "", ""},
		{"v2 with extensions", raw(0x21, 0x11, four+"\x03\x00\x04abcd"), "203.0.113.9:4711", true, "", ""},
		{"v2, the proxy itself", raw(0x20, 0x00, ""), "", true, "", ""},
		{"v2, the proxy itself, with an address", raw(0x20, 0x11, four), "", true, "", ""},
		{"v2, a Unix socket", raw(0x21, 0x31, strings.Repeat("x", 216)), "", true, "", ""},
		{"v2, UDP", raw(0x21, 0x12, four), "", true, "", ""},
		{"v2, short", raw(0x21, 0x11, four[:11]), "", true, "", "too few for addresses"},
		{"v2, IPv6, short", raw(0x21, 0x21, six[:35]), "", true, "", "too few for addresses"},
		{"v2, version 1", raw(0x11, 0x11, four), "", true, "", "version and command 0x11"},
		{"v2, command", raw(0x22, 0x11, four), "", true, "", "version and command 0x22"},
		{"v2, as long as may be", raw(0x21, 0x11, four+strings.Repeat("\x00", maxV2-12)), "203.0.113.9:4711", true, "", ""},
		{"v2, longer", raw(0x21, 0x11, four+strings.Repeat("\x00", maxV2-11)), "", true, "", "4097 bytes; allowed: 4096"},
		{"v2, cut off", raw(0x21, 0x11, four)[:20], "", true, "", "EOF"},
		{"a Thrift call", "\x80\x01\x00\x01\x00\x00\x00\x04ping\x00", "", false, "\x80", ""},
		{"a compact one", "\x82\x21", "", false, "\x82", ""},
		{"HTTP", "PUT /v1/plan HTTP/1.1\r\n", "", false, "PU", ""},
		{"HTTP, another", "GET / HTTP/1.1\r\n", "", false, "G", ""},
		{"nearly", "PROXYv", "", false, "PROXYv", ""},
		{"nearly v2", "\r\n\r\n\x00\r\nQUIx", "", false, "\r\n\r\n\x00\r\nQUIx", ""},
		{"nothing", "", "", false, "", "EOF"},
		{"a start", "PROX", "", false, "PROX", "EOF"},
	}
	for _, row := range rows {
		for _, reader := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader} {
			behind := "what comes behind"
			if row.fault != "" || row.other != "" {
				behind = ""
			}
			in := strings.NewReader(row.in + behind)
			client, found, other, err := ReadProxy(reader(in))
			if fault := fmt.Sprint(err); (err == nil) != (row.fault == "") || !strings.Contains(fault, row.fault) {
				t.Errorf("%s: got error %v, want %q", row.why, err, row.fault)
				continue
			}
			if err != nil {
				continue
			}
			want := netip.AddrPort{}
			if row.client != "" {
				want = netip.MustParseAddrPort(row.client)
			}
			if client != want || found != row.found || string(other) != row.other {
				t.Errorf("%s: got %v, %t, %q, want %v, %t, %q", row.why, client, found, other, want, row.found, row.other)
			}
			if rest, _ := io.ReadAll(in); row.found && string(rest) != behind {
				t.Errorf("%s: %q is left, want %q", row.why, rest, behind)
			}
		}
	}
}

// FuzzReadProxy: whatever comes, so much is read and no more, and what is no
// header is all there.
func FuzzReadProxy(f *testing.F) {
	f.Add([]byte("PROXY TCP4 203.0.113.9 10.0.0.1 4711 6458\r\nrest"))
	f.Add([]byte(proxyV2 + "\x21\x11\x00\x0c\xcb\x00\x71\x09\x0a\x00\x00\x01\x12\x67\x19\x3arest"))
	f.Add([]byte("PROXY \r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		client, found, other, err := ReadProxy(r)
		read := len(in) - r.Len()
		if read > 16+maxV2 {
			t.Errorf("%d bytes were read", read)
		}
		if !found && !bytes.Equal(other, in[:read]) {
			t.Errorf("%q was read and %q is left of it", in[:read], other)
		}
		if found && err != nil && !errors.Is(err, errProxyHeader) {
			t.Errorf("an error that says nothing: %v", err)
		}
		if client.IsValid() && (!found || err != nil || client.Addr().Is4In6() || client.Addr().Zone() != "") {
			t.Errorf("client %v, %t, %v", client, found, err)
		}
	})
}

func TestForwarded(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("2001:db8:1::/48")}
	rows := []struct {
		headers []string
		want    string // the way, blanks between
		bad     bool
	}{
		{nil, "", false},
		{[]string{"", " , "}, "", false},
		{[]string{"203.0.113.9"}, "203.0.113.9:0", false},
		{[]string{"203.0.113.9:4711"}, "203.0.113.9:4711", false},
		{[]string{"[2001:db8::9]:4711"}, "[2001:db8::9]:4711", false},
		{[]string{"[2001:db8::9]"}, "[2001:db8::9]:0", false},
		{[]string{"2001:db8::9"}, "[2001:db8::9]:0", false},
		{[]string{"::ffff:203.0.113.9"}, "203.0.113.9:0", false},
		{[]string{"127.0.0.1, 203.0.113.9"}, "203.0.113.9:0", false}, // the client made up the first
		{[]string{"127.0.0.1", "203.0.113.9"}, "203.0.113.9:0", false},
		{[]string{"192.0.2.1, 203.0.113.9, 10.0.0.5,2001:db8:1::1"}, "[2001:db8:1::1]:0 10.0.0.5:0 203.0.113.9:0", false},
		{[]string{"10.0.0.7, 10.0.0.5"}, "10.0.0.5:0 10.0.0.7:0", false},
		{[]string{"junk, 203.0.113.9"}, "203.0.113.9:0", false},
		{[]string{"203.0.113.9, junk"}, "", true},
		{[]string{"203.0.113.9, junk, 10.0.0.5"}, "", true},
		{[]string{"unknown"}, "", true},
		{[]string{"fe80::1%eth0"}, "", true},
		{[]string{"203.0.113.9:99999"}, "", true},
	}
	for _, row := range rows {
		way, err := Forwarded(row.headers, trusted)
		var got []string
		for _, at := range way {
			got = append(got, at.String())
		}
		if strings.Join(got, " ") != row.want || (err != nil) != row.bad {
			t.Errorf("%q: got %q, %v, want %q", row.headers, got, err, row.want)
		}
	}
}
