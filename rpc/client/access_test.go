package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snower/forsun/rpc/access"
	"github.com/snower/forsun/rpc/access/accesstest"
	"github.com/snower/forsun/rpc/client"
)

const token = "planted-token-of-billing"

// secure makes the server one with a token and TLS, on which nobody may do anything
// without the token's right to read.
func (s *server) secure(authority *accesstest.Authority) {
	s.t.Helper()
	s.stop()
	path := filepath.Join(s.t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte("billing read "+token+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	var err error
	if s.opts.Tokens, err = access.LoadTokens(path, nil); err != nil {
		s.t.Fatal(err)
	}
	cert, key := authority.Server("localhost")
	if s.opts.TLS, err = access.LoadCertificates(cert, key, authority.CA); err != nil {
		s.t.Fatal(err)
	}
	s.start()
}

func TestTokenAndTLS(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	authority := accesstest.NewAuthority(t)
	s.secure(authority)
	config, err := access.ClientFiles{CA: authority.CA}.Config()
	if err != nil {
		t.Fatal(err)
	}
	opts := client.DefaultOptions(s.addr)
	opts.Token, opts.TLS = token, config
	var dialed atomic.Int64
	opts.Dial = func(ctx context.Context, address string) (net.Conn, error) {
		dialed.Add(1)
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	c := client.New(opts)
	defer c.Close()

	// The token's right, less than what loopback has, shows that it was shown; after
	// the server was away, too.
	check := func(when string) {
		t.Helper()
		if _, err := c.List(t.Context(), "", "", 10); err != nil {
			t.Errorf("%s: list: %v", when, err)
		}
		var refused *client.Error
		if _, err := c.Create(t.Context(), timeout("k", 3600, 1)); !errors.As(err, &refused) || refused.Code != 1012 || !strings.Contains(refused.Message, "billing has the right read") {
			t.Errorf("%s: create: %v", when, err)
		}
	}
	check("first")
	if dialed.Load() != 1 {
		t.Errorf("dialed %d times", dialed.Load())
	}
	s.stop()
	s.start()
	check("after a restart")
	if dialed.Load() != 2 {
		t.Errorf("dialed %d times, want once more", dialed.Load())
	}

	// A server that ended the connection while nothing was asked is noticed before
	// something is, also through TLS: what was asked is not unsure.
	s.stop()
	time.Sleep(time.Second) // the client looks no sooner
	s.start()
	_, err = c.Create(t.Context(), timeout("k", 3600, 1))
	if conn := new(client.ConnError); errors.As(err, &conn) {
		t.Errorf("after a pause: %v, want an answer", err)
	}

	for what, wrong := range map[string]func(*client.Options){
		"cannot reach a server at " + s.addr + ": TLS: ": func(o *client.Options) { o.TLS = &tls.Config{} },
		"none of those":        func(o *client.Options) { o.Token = "planted-token-of-nobody" },
		"no answer from":       func(o *client.Options) { o.TLS, o.Token = nil, "" },
		"certificate is valid": func(o *client.Options) { o.TLS = config.Clone(); o.TLS.ServerName = "elsewhere" },
	} {
		other := opts
		wrong(&other)
		c := client.New(other)
		if err := c.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), what) || strings.Contains(err.Error(), "planted") {
			t.Errorf("got %v, want %q", err, what)
		}
		c.Close()
	}
}

// TestTokenNotTaken: where a token cannot be shown nothing is asked.
func TestTokenNotTaken(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	opts := client.DefaultOptions(s.addr)
	opts.Token = token
	c := client.New(opts)
	defer c.Close()
	for range 2 {
		var refused *client.Error
		if _, err := c.Create(t.Context(), timeout("k", 3600, 1)); !errors.As(err, &refused) || refused.Code != 1012 || !strings.Contains(refused.Message, "--auth-token-file") {
			t.Errorf("got %v", err)
		}
	}
	if _, err := s.svc.Get(t.Context(), "k"); err == nil {
		t.Error("a plan was stored")
	}
}
