package redistest_test

import (
	"crypto/tls"
	"testing"

	"github.com/snower/forsun/redisstore/redistest"
)

// ping says what becomes of a PING over TLS.
func ping(addr string, config *tls.Config) error {
	c, err := tls.Dial("tcp", addr, config)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = redistest.NewConn(c).Do("PING")
	return err
}

func TestTLS(t *testing.T) {
	t.Parallel()
	mutual := redistest.StartTLS(t, "tls-auth-clients yes")
	optional := redistest.StartTLS(t)
	stranger := redistest.NewCertificates(t)
	for _, row := range []struct {
		why    string
		server *redistest.TLSServer
		trust  *redistest.Certificates
		show   *redistest.Certificates // nil: none
		ok     bool
	}{
		{"client certificate", mutual, mutual.Certificates, mutual.Certificates, true},
		{"no client certificate where one is wanted", mutual, mutual.Certificates, nil, false},
		{"a stranger's client certificate", mutual, mutual.Certificates, stranger, false},
		{"an authority that the client does not know", mutual, stranger, mutual.Certificates, false},
		{"no client certificate where none is wanted", optional, optional.Certificates, nil, true},
	} {
		config := row.trust.ClientTLS(t)
		config.Certificates = nil
		if row.show != nil {
			config.Certificates = row.show.ClientTLS(t).Certificates
		}
		if err := ping(row.server.TLSAddr, config); (err == nil) != row.ok {
			t.Errorf("%s: got %v, want success %t", row.why, err, row.ok)
		}
	}
	if got := redistest.CLI(t, mutual.TLSAddr, "--tls", "--cacert", mutual.CAFile,
		"--cert", mutual.ClientCertFile, "--key", mutual.ClientKeyFile, "PING"); got != "PONG" {
		t.Errorf("redis-cli --tls: got %q, want PONG", got)
	}
	if got := redistest.Do(t, mutual.Addr, "PING"); got != "PONG" {
		t.Errorf("without TLS: got %v, want PONG", got)
	}
}
