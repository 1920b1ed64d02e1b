package redistest

import (
	"fmt"
	"testing"
)

func TestPortThatIsTakenIsTriedAgain(t *testing.T) {
	t.Parallel()
	other := Start(t)
	for _, row := range []struct {
		why  string
		conf func(s *Server, taken bool) []string
	}{
		{"the port", func(s *Server, taken bool) []string {
			if taken {
				s.Port, s.Addr = other.Port, other.Addr
			}
			return nil
		}},
		{"the port of the cluster's bus", func(s *Server, taken bool) []string {
			bus := FreePort(t)
			if taken {
				bus = other.Port
			}
			return []string{"cluster-enabled yes", fmt.Sprintf("cluster-port %d", bus)}
		}},
		{"the port for TLS", func(s *Server, taken bool) []string {
			if !taken {
				return nil
			}
			c := NewCertificates(t)
			return []string{
				fmt.Sprintf("tls-port %d", other.Port), "tls-ca-cert-file " + c.CAFile,
				"tls-cert-file " + c.ServerCertFile, "tls-key-file " + c.ServerKeyFile,
			}
		}},
	} {
		s := newServer(t)
		attempts := 0
		onFreePorts(t, func() error {
			attempts++
			s.choosePort()
			s.configure(row.conf(s, attempts == 1)...)
			return s.start()
		})
		if attempts != 2 {
			t.Errorf("%s is taken: started after %d attempts, want 2", row.why, attempts)
		}
		Do(t, s.Addr, "PING")
	}
}
