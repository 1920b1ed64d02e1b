package access

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// Certificates are a server's certificate and key, and the authorities whose
// certificates it takes from clients. All methods may be called at any time.
type Certificates struct {
	cert, key, clientCA string
	current             atomic.Pointer[loaded]
}

// loaded is what the files held when they were read.
type loaded struct {
	config  *tls.Config
	leaf    *x509.Certificate
	clients *x509.CertPool // nil: no certificates are asked for
}

// LoadCertificates reads a certificate with its chain and a key, PEM, and, if
// clientCA is not "", the authorities that vouch for clients.
func LoadCertificates(cert, key, clientCA string) (*Certificates, error) {
	c := &Certificates{cert: cert, key: key, clientCA: clientCA}
	return c, c.Reload()
}

// Reload reads the files again, for the connections that come after. If one cannot
// be read, or they do not fit together, all stays as it was.
func (c *Certificates) Reload() error {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", c.cert, c.key, err)
	}
	now := &loaded{leaf: pair.Leaf}
	now.config = &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
	}
	if c.clientCA != "" {
		if now.clients, err = LoadAuthorities(c.clientCA); err != nil {
			return err
		}
		now.config.ClientCAs, now.config.ClientAuth = now.clients, tls.VerifyClientCertIfGiven
	}
	c.current.Store(now)
	return nil
}

// Config is for listeners: every handshake takes the certificates of its time. A
// client may come without a certificate; if it shows one that must be good.
func (c *Certificates) Config() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current.Load().config, nil },
	}
}

// Expires returns when the server's certificate is no longer good.
func (c *Certificates) Expires() time.Time { return c.current.Load().leaf.NotAfter }

// AsksClients says whether clients may show certificates.
func (c *Certificates) AsksClients() bool { return c.current.Load().clients != nil }

// Shown is the certificate that a client showed in a handshake, once it was good.
type Shown struct {
	chain []*x509.Certificate // leaf first, as sent
	by    *loaded             // what it was good by
}

// Shown returns what a client showed, or nil.
func (c *Certificates) Shown(state tls.ConnectionState) *Shown {
	if len(state.VerifiedChains) == 0 {
		return nil
	}
	// The handshake may have gone by what was there before a Reload: Now looks.
	return &Shown{chain: state.PeerCertificates}
}

// Good says whether what was shown is good by the authorities as they are now.
// The caller calls it from one goroutine at a time for each Shown.
func (c *Certificates) Good(s *Shown) bool {
	now := c.current.Load()
	if s == nil || now.clients == nil {
		return false
	}
	if s.by != now {
		between := x509.NewCertPool()
		for _, cert := range s.chain[1:] {
			between.AddCert(cert)
		}
		_, err := s.chain[0].Verify(x509.VerifyOptions{
			Roots: now.clients, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		if err != nil {
			return false
		}
		s.by = now
	}
	return !time.Now().After(s.chain[0].NotAfter)
}

// Name is what the certificate calls its owner: the common name, or else the first
// other name in it.
func (s *Shown) Name() string {
	leaf := s.chain[0]
	names := []string{leaf.Subject.CommonName}
	names = append(append(names, leaf.DNSNames...), leaf.EmailAddresses...)
	for _, u := range leaf.URIs {
		names = append(names, u.String())
	}
	for _, name := range append(names, leaf.SerialNumber.String()) {
		if name != "" {
			return "cert:" + plain(name)
		}
	}
	return "cert"
}

// plain makes a name fit for a line of a log.
func plain(s string) string {
	if len(s) > 64 {
		s = s[:64]
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || r == 0xfffd {
			return '_'
		}
		return r
	}, s)
}

// LoadAuthorities reads the certificates of authorities, PEM.
func LoadAuthorities(path string) (*x509.CertPool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s: holds no certificate in PEM form", path)
	}
	return pool, nil
}

// ClientFiles name what a client uses to speak TLS; each may be "".
type ClientFiles struct {
	CA         string // authorities to trust, PEM; "": those of the system
	Cert, Key  string // certificate to show, PEM
	ServerName string // name the server's certificate is for; "": the host connected to
}

// Config reads the files.
func (f ClientFiles) Config() (config *tls.Config, err error) {
	config = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.ServerName}
	if f.CA != "" {
		if config.RootCAs, err = LoadAuthorities(f.CA); err != nil {
			return nil, err
		}
	}
	if (f.Cert == "") != (f.Key == "") {
		return nil, errors.New("a certificate needs its key, and the other way round")
	}
	if f.Cert != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", f.Cert, f.Key, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
