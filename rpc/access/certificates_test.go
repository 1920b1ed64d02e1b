package access

import (
	"crypto/tls"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/rpc/access/accesstest"
)

// handshake lets a client speak to a server and returns what the server was shown.
func handshake(t *testing.T, c *Certificates, client ClientFiles) (*Shown, error) {
	t.Helper()
	config, err := client.Config()
	if err != nil {
		t.Fatal(err)
	}
	config.ServerName = "localhost"
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	here.SetDeadline(time.Now().Add(20 * time.Second))
	there.SetDeadline(time.Now().Add(20 * time.Second))
	failed := make(chan error, 1)
	go func() {
		secure := tls.Client(here, config)
		err := secure.Handshake()
		if err == nil {
			_, err = secure.Read(make([]byte, 1)) // a refusal of the certificate comes here
		}
		failed <- err
	}()
	secure := tls.Server(there, c.Config())
	if err := secure.Handshake(); err != nil {
		there.Close()
		<-failed
		return nil, err
	}
	if _, err := secure.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err != nil {
		t.Errorf("the client: %v", err)
	}
	return c.Shown(secure.ConnectionState()), nil
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	ours, others := accesstest.NewAuthority(t), accesstest.NewAuthority(t)
	cert, key := ours.Server("forsun")
	c, err := LoadCertificates(cert, key, ours.CA)
	if err != nil {
		t.Fatal(err)
	}
	if !c.AsksClients() || time.Until(c.Expires()) > 25*time.Hour {
		t.Errorf("AsksClients %t, Expires %s", c.AsksClients(), c.Expires())
	}
	shown, err := handshake(t, c, ClientFiles{CA: ours.CA})
	if err != nil || shown != nil || c.Good(shown) {
		t.Errorf("without a certificate: %v, %v", shown, err)
	}
	mineCert, mineKey := ours.Client("billing \n service")
	shown, err = handshake(t, c, ClientFiles{CA: ours.CA, Cert: mineCert, Key: mineKey})
	if err != nil || !c.Good(shown) || shown.Name() != "cert:billing___service" {
		t.Errorf("with one: %v, %v", shown, err)
	}
	// crypto/tls shows none to a server that does not name its authority.
	otherCert, otherKey := others.Client("other")
	if other, err := handshake(t, c, ClientFiles{CA: ours.CA, Cert: otherCert, Key: otherKey}); err == nil && other != nil {
		t.Errorf("of another authority: %v", other)
	}
	// One for servers is none for clients.
	if server, err := handshake(t, c, ClientFiles{CA: ours.CA, Cert: cert, Key: key}); err == nil && c.Good(server) {
		t.Error("a server's certificate is taken for a client's")
	}

	// New authorities: what they do not vouch for is no longer good.
	trusted, err := os.ReadFile(ours.CA)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(others.CA)
	if err != nil {
		t.Fatal(err)
	}
	put := func(data []byte) error {
		if err := os.WriteFile(ours.CA, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return c.Reload()
	}
	if err := put([]byte("nonsense")); err == nil || !strings.Contains(err.Error(), "no certificate in PEM form") || !c.Good(shown) {
		t.Errorf("bad authorities: %v, good %t", err, c.Good(shown))
	}
	if err := put(other); err != nil || c.Good(shown) {
		t.Errorf("other authorities: %v, good %t", err, c.Good(shown))
	}
	if err := put(trusted); err != nil || !c.Good(shown) {
		t.Errorf("the first again: %v, good %t", err, c.Good(shown))
	}

	// A key that is not the certificate's changes nothing.
	_, wrong := ours.Server("wrong")
	right, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(wrong)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Reload(); err == nil || strings.Contains(err.Error(), "BEGIN") {
		t.Errorf("a wrong key: %v", err)
	}
	if _, err := handshake(t, c, ClientFiles{CA: ours.CA}); err != nil {
		t.Errorf("after that: %v", err)
	}
	if err := os.WriteFile(key, right, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Reload(); err != nil {
		t.Error(err)
	}
}

func TestClientFiles(t *testing.T) {
	t.Parallel()
	a := accesstest.NewAuthority(t)
	cert, key := a.Client("c")
	rows := []struct {
		files ClientFiles
		want  string
	}{
		{ClientFiles{}, ""},
		{ClientFiles{CA: a.CA, Cert: cert, Key: key, ServerName: "x"}, ""},
		{ClientFiles{Cert: cert}, "a certificate needs its key"},
		{ClientFiles{Key: key}, "a certificate needs its key"},
		{ClientFiles{CA: "/nonexistent/ca"}, "/nonexistent/ca"},
		{ClientFiles{CA: key}, "no certificate in PEM form"},
		{ClientFiles{Cert: key, Key: cert}, key},
	}
	for _, row := range rows {
		_, err := row.files.Config()
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%+v: got %v, want %q", row.files, err, row.want)
		}
	}
}
