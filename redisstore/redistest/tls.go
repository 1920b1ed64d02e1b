package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TLSServer is a redis-server that speaks TLS on TLSAddr, and plain text on Addr
// as every Server of this package.
type TLSServer struct {
	*Server
	*Certificates
	TLSAddr string // "127.0.0.1:port"
	TLSPort int
}

// StartTLS runs a redis-server with TLS, with the given lines added to its
// configuration. A client may show a certificate and must with "tls-auth-clients
// yes"; one of another authority is refused.
func StartTLS(t testing.TB, conf ...string) *TLSServer {
	t.Helper()
	s := &TLSServer{Server: newServer(t), Certificates: NewCertificates(t)}
	onFreePorts(t, func() error {
		s.choosePort()
		s.TLSPort = FreePort(t)
		s.TLSAddr = addrOf(s.TLSPort)
		s.configure(append([]string{
			"tls-port " + strconv.Itoa(s.TLSPort),
			"tls-ca-cert-file " + s.CAFile,
			"tls-cert-file " + s.ServerCertFile,
			"tls-key-file " + s.ServerKeyFile,
			"tls-auth-clients optional",
		}, conf...)...)
		return s.start()
	})
	return s
}

// Certificates are those of an authority that lives as long as the test, one for
// a server on 127.0.0.1 and one for a client, in PEM files. Those of a second
// authority are what the first one's clients and servers refuse.
type Certificates struct {
	CAFile                        string
	ServerCertFile, ServerKeyFile string
	ClientCertFile, ClientKeyFile string // its common name is "client"
}

// NewCertificates makes an authority and its certificates.
func NewCertificates(t testing.TB) *Certificates {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert = &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	c := &Certificates{}
	c.CAFile, _ = a.issue("ca", a.cert)
	c.ServerCertFile, c.ServerKeyFile = a.issue("server", &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	})
	c.ClientCertFile, c.ClientKeyFile = a.issue("client", &x509.Certificate{})
	return c
}

// ClientTLS returns a configuration that trusts the authority, and nobody else,
// and shows the client's certificate if it is asked for.
func (c *Certificates) ClientTLS(t testing.TB) *tls.Config {
	t.Helper()
	ca, err := os.ReadFile(c.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	own, err := tls.LoadX509KeyPair(c.ClientCertFile, c.ClientKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}
}

// authority signs certificates.
type authority struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey // nil until it has signed its own
}

// issue writes name.pem and name.key: a certificate as the template says, signed
// by the authority, or by itself if it is the authority's own.
func (a *authority) issue(name string, template *x509.Certificate) (certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if a.key == nil {
		a.key = key
	}
	// Another serial number each, and validity that allows for a machine whose
	// clock a test has set back.
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().AddDate(-1, 0, 0), time.Now().AddDate(1, 0, 0)
	cert, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatalf("make the certificate of %s: %v", name, err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	write := func(suffix, kind string, b []byte) string {
		file := filepath.Join(a.dir, name+suffix)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			a.t.Fatal(err)
		}
		return file
	}
	return write(".pem", "CERTIFICATE", cert), write(".key", "PRIVATE KEY", secret)
}
