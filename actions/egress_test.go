package actions

import (
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/snower/forsun/scheduler"
)

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func TestEgressRefusal(t *testing.T) {
	allow, deny := prefixes, prefixes
	for _, row := range []struct {
		why    string
		policy Egress
		addr   string
		want   string // part of what is said, "" if it may be connected to
	}{
		{"loopback is where small deployments have their servers", Egress{}, "127.0.0.1", ""},
		{"private", Egress{}, "10.1.2.3", ""},
		{"public", Egress{}, "2001:db8::1", ""},
		{"link-local", Egress{}, "169.254.1.1", "169.254.0.0/16 (link-local"},
		{"metadata", Egress{}, "169.254.169.254", "--egress-allow"},
		{"mapped", Egress{}, "::ffff:169.254.169.254", "169.254.0.0/16"},
		{"compatible", Egress{}, "::169.254.169.254", "169.254.0.0/16"},
		{"translated", Egress{}, "::ffff:0:169.254.169.254", "169.254.0.0/16"},
		{"NAT64", Egress{}, "64:ff9b::a9fe:a9fe", "169.254.0.0/16"},
		{"NAT64 of one's own network", Egress{}, "64:ff9b:1::a9fe:a9fe", "169.254.0.0/16"},
		{"NAT64 of one's own network, /48", Egress{}, "64:ff9b:1:a9fe:a9:fe00::", "169.254.0.0/16"},
		{"6to4", Egress{}, "2002:a9fe:a9fe::1", "169.254.0.0/16"},
		{"link-local with a zone", Egress{}, "fe80::1%eth0", "fe80::/10"},
		{"link-local, its last network", Egress{}, "febf::1", "fe80::/10"},
		{"metadata of AWS", Egress{}, "fd00:ec2::254", "fd00:ec2::254/128"},
		{"metadata of Google", Egress{}, "fd20:ce::254", "fd20:ce::254/128"},
		{"metadata of Alibaba", Egress{}, "100.100.100.200", "100.100.100.200/32"},
		{"its neighbour", Egress{}, "100.100.100.201", ""},

		{"denied", Egress{Deny: deny("10.0.0.0/8")}, "10.1.2.3", "addresses outside of 10.0.0.0/8 (the server's --egress-deny)"},
		{"denied, mapped", Egress{Deny: deny("10.0.0.0/8")}, "::ffff:10.1.2.3", "--egress-deny"},
		{"denied loopback is the unspecified address, too", Egress{Deny: deny("127.0.0.0/8")}, "0.0.0.0", "--egress-deny"},
		{"in IPv6, too", Egress{Deny: deny("::1/128")}, "::", "--egress-deny"},
		{"of either family", Egress{Deny: deny("127.0.0.0/8")}, "::", "--egress-deny"},
		{"what is not denied", Egress{Deny: deny("10.0.0.0/8")}, "11.0.0.1", ""},

		{"allowed", Egress{Allow: allow("10.0.0.0/8")}, "10.1.2.3", ""},
		{"allowed, mapped", Egress{Allow: allow("10.0.0.0/8")}, "::ffff:10.1.2.3", ""},
		{"not among the allowed", Egress{Allow: allow("10.0.0.0/8", "192.0.2.7/32")}, "127.0.0.1", "addresses in 10.0.0.0/8, 192.0.2.7/32 (the server's --egress-allow)"},
		{"an address that only stands for an allowed one", Egress{Allow: allow("10.0.0.0/8")}, "64:ff9b::a01:203", "--egress-allow"},
		{"none of IPv6", Egress{Allow: allow("0.0.0.0/0")}, "::1", "--egress-allow"},
		{"deny outweighs allow", Egress{Allow: allow("10.0.0.0/8"), Deny: deny("10.1.0.0/16")}, "10.1.2.3", "--egress-deny"},
		{"everything does not mean link-local", Egress{Allow: allow("0.0.0.0/0", "::/0")}, "169.254.169.254", "169.254.0.0/16"},
		{"nor in IPv6", Egress{Allow: allow("0.0.0.0/0", "::/0")}, "fe80::1", "fe80::/10"},
		{"an exception", Egress{Allow: allow("169.254.7.0/24")}, "169.254.7.9", ""},
		{"all of it", Egress{Allow: allow("169.254.0.0/16")}, "169.254.169.254", ""},
		{"beside the exception", Egress{Allow: allow("169.254.7.0/24")}, "169.254.8.9", "169.254.0.0/16"},
		{"an exception that is denied", Egress{Allow: allow("169.254.7.0/24"), Deny: deny("169.254.7.9/32")}, "169.254.7.9", "--egress-deny"},
	} {
		got := row.policy.refusal(netip.MustParseAddr(row.addr))
		if (got == "") != (row.want == "") || !strings.Contains(got, row.want) {
			t.Errorf("%s: %s: got %q, want %q", row.why, row.addr, got, row.want)
		}
	}
}

// connecting are the actions that connect, with egress as their policy, and
// parameters for a target.
func connecting(t *testing.T, egress Egress) map[string]scheduler.Action {
	t.Helper()
	o := DefaultOptions("")
	o.Egress = egress
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	all := make(map[string]scheduler.Action)
	for _, name := range r.Names() {
		if name != "shell" {
			all[name], _ = r.Get(name)
		}
	}
	return all
}

// paramsTo are parameters of an action that lead to host:port.
func paramsTo(action, host, port string) map[string]string {
	switch action {
	case "http":
		return map[string]string{"url": "http://" + net.JoinHostPort(host, port) + "/"}
	case "redis":
		return map[string]string{"host": host, "port": port, "command": "PING"}
	case "mysql":
		return map[string]string{"host": host, "port": port, "sql": "SELECT 1"}
	}
	return map[string]string{"host": host, "port": port}
}

// countConnections listens on loopback, and counts who comes.
func countConnections(t *testing.T) (port string, count *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	count = new(atomic.Int64)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			c.Close()
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, count
}

// TestEgressAtDial: a name that leads to a refused address is not followed, by any
// action that connects; the error names address and flag, and is final. A literal
// address is refused when the plan is created.
func TestEgressAtDial(t *testing.T) {
	t.Parallel()
	port, came := countConnections(t)
	denied := Egress{Deny: prefixes("127.0.0.0/8", "::1/128")}
	all := connecting(t, denied)
	if len(all) != 5 {
		t.Fatalf("actions: %v", all)
	}
	for name, action := range all {
		params := paramsTo(name, "localhost", port)
		if err := action.Check(params); err != nil {
			t.Errorf("%s: a name is judged at dial time, not at creation: %v", name, err)
		}
		_, err := action.Execute(t.Context(), testFiring(params))
		wantFailure(t, name, err, false, "address 127.0.0.1 is not allowed; allowed: addresses outside of 127.0.0.0/8 (the server's --egress-deny)")

		for _, literal := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254"} {
			params = paramsTo(name, literal, port)
			field := "params.host"
			if name == "http" {
				field = "params.url"
			}
			wantField(t, name+", "+literal, action.Check(params), scheduler.ErrNotAllowed, field)
			if _, err := action.Execute(t.Context(), testFiring(params)); err == nil || isRetryable(err) {
				t.Errorf("%s, %s, stored before: got %v, want a final error", name, literal, err)
			}
		}
	}
	if n := came.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
	// That they would have been: the same targets without the policy.
	for name, action := range connecting(t, Egress{}) {
		before := came.Load()
		action.Execute(t.Context(), testFiring(paramsTo(name, "localhost", port)))
		waitFor(t, name+" to connect", func() bool { return came.Load() > before })
	}
}

// TestEgressRedirect: where a redirect leads is judged as the plan's own URL is.
func TestEgressRedirect(t *testing.T) {
	t.Parallel()
	target := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target, http.StatusFound)
	}))
	defer server.Close()
	action := connecting(t, Egress{Allow: prefixes("127.0.0.1/32")})["http"]
	for _, row := range []struct{ target, want string }{
		{"http://169.254.169.254/latest/meta-data/", "address 169.254.169.254 is not allowed; allowed: addresses outside of 169.254.0.0/16"},
		{"https://169.254.169.254/", "address 169.254.169.254 is not allowed"},
		{"http://[::ffff:a9fe:a9fe]/", "is not allowed; allowed: addresses outside of 169.254.0.0/16"},
		{"http://127.0.0.2/", "address 127.0.0.2 is not allowed; allowed: addresses in 127.0.0.1/32 (the server's --egress-allow)"},
	} {
		target = row.target
		_, err := action.Execute(t.Context(), testFiring(map[string]string{"url": server.URL}))
		wantFailure(t, row.target, err, false, row.want)
	}
}

// TestEgressRebinding: a name that leads elsewhere the second time is judged each
// time that a connection is made.
func TestEgressRebinding(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
	}))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	dns := newNameServer(t, "127.0.0.1")
	opts := DefaultHTTPOptions()
	opts.Egress = Egress{Deny: prefixes("127.0.0.2/32"), resolver: dns.resolver()}
	action := NewHTTP(opts)
	defer action.Close()
	f := testFiring(map[string]string{"url": "http://rebound.test:" + port + "/"})
	if _, err := action.Execute(t.Context(), f); err != nil {
		t.Fatalf("the first address: %v", err)
	}
	dns.answer("127.0.0.2")
	_, err := action.Execute(t.Context(), f)
	wantFailure(t, "the second address", err, false, "address 127.0.0.2 is not allowed")

	// Of several addresses the permitted one is used, and if it does not answer the
	// attempt may be made again.
	dns.answer("127.0.0.2", "127.0.0.1")
	if _, err := action.Execute(t.Context(), f); err != nil {
		t.Errorf("one of two addresses: %v", err)
	}
	server.Close()
	_, err = action.Execute(t.Context(), f)
	wantFailure(t, "one of two addresses, down", err, true, "127.0.0.2 is not allowed", "another address of the host did not answer")
}

// nameServer is a DNS server that answers every question for an address in IPv4.
type nameServer struct {
	conn  net.PacketConn
	mu    sync.Mutex
	addrs []netip.Addr
}

func newNameServer(t *testing.T, addrs ...string) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn}
	s.answer(addrs...)
	var wg sync.WaitGroup
	wg.Go(func() {
		for buf := make([]byte, 1500); ; {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			conn.WriteTo(s.reply(buf[:n]), from)
		}
	})
	t.Cleanup(func() { conn.Close(); wg.Wait() })
	return s
}

func (s *nameServer) answer(addrs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs = nil
	for _, a := range addrs {
		s.addrs = append(s.addrs, netip.MustParseAddr(a))
	}
}

func (s *nameServer) reply(query []byte) []byte {
	end := 12
	for query[end] != 0 {
		end += 1 + int(query[end])
	}
	end += 5 // the last label, type, class
	m := append([]byte(nil), query[:end]...)
	binary.BigEndian.PutUint16(m[2:], 0x8180)
	var answers uint16
	s.mu.Lock()
	defer s.mu.Unlock()
	if binary.BigEndian.Uint16(query[end-4:]) == 1 { // A
		for _, a := range s.addrs {
			m = append(m, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
			m = append(m, a.AsSlice()...)
			answers++
		}
	}
	binary.BigEndian.PutUint16(m[6:], answers)
	clear(m[8:12])
	return m
}

func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}
