package app

import (
	"fmt"
	"net"
	"time"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/rpc"
	"github.com/snower/forsun/rpc/access"
)

// access sets who may come in and do what, and reads the files that say so, now
// and at SIGHUP. actions are the names that tokens may be limited to.
func (a *app) access(opts *rpc.Options, actions []string) error {
	opts.AllowCIDR, opts.TrustedProxies = a.o.AllowCIDR, a.o.TrustedProxies
	if a.o.TokenFile != "" {
		tokens, err := access.LoadTokens(a.o.TokenFile, actions)
		if err != nil {
			return fmt.Errorf("--auth-token-file: %w", err)
		}
		a.tellTokens(tokens)
		a.reloads.add("tokens", func() error {
			err := tokens.Reload()
			if err == nil {
				a.tellTokens(tokens)
			}
			return err
		})
		opts.Tokens = tokens
	}
	if a.o.TLSCert != "" {
		certs, err := access.LoadCertificates(a.o.TLSCert, a.o.TLSKey, a.o.TLSClientCA)
		if err != nil {
			return fmt.Errorf("--tls-cert, --tls-key, --tls-client-ca: %w", err)
		}
		a.tellCertificates(certs)
		a.reloads.add("certificates", func() error {
			err := certs.Reload()
			if err == nil {
				a.tellCertificates(certs)
			}
			return err
		})
		opts.TLS = certs
	}
	return a.openAudit(opts)
}

// tellTokens logs how many tokens there are, and whether others can read them.
func (a *app) tellTokens(tokens *access.Tokens) {
	a.log.Info().Int("tokens", tokens.Count()).Str("file", a.o.TokenFile).Msg("tokens read")
	if why := tokens.Exposed(); why != "" {
		a.log.Warn().Str("file", a.o.TokenFile).Str("why", why).Msg("the file of tokens is no secret")
	}
}

// tellCertificates logs until when the certificate is good.
func (a *app) tellCertificates(certs *access.Certificates) {
	line := a.log.Info()
	if time.Now().After(certs.Expires()) {
		line = a.log.Error()
	}
	line.Time("expires", certs.Expires()).Bool("client_certificates", certs.AsksClients()).Msg("certificates read")
}

// openAudit says where changes are told.
func (a *app) openAudit(opts *rpc.Options) error {
	switch path := a.o.auditFile(); {
	case a.o.AuditLog == auditOff:
		opts.Audit = zerolog.Nop()
	case path == "":
		opts.Audit, opts.AuditLines = a.log, a.logLines
	default:
		file := &logFile{path: path, rotate: a.o.LogRotate, keep: a.o.LogBackups, now: time.Now}
		if err := file.Reopen(); err != nil {
			return fmt.Errorf("--audit-log: %w", err)
		}
		a.reloads.add("audit log", file.Reopen)
		opts.Audit, opts.AuditLines = newLogger(file, zerolog.InfoLevel), file
	}
	return nil
}

// warnOpen warns of what it means to listen beyond this machine.
func (a *app) warnOpen(l net.Listener, opts *rpc.Options) {
	from := "loopback and private networks (--allow-cidr changes that)"
	switch {
	case a.o.AllowCIDR == nil:
	case len(a.o.AllowCIDR) == 0:
		from = "loopback"
	default:
		from = "loopback and " + fmt.Sprint(a.o.AllowCIDR)
	}
	line := a.log.Warn().Str("address", l.Addr().String()).Str("let_in", from)
	if opts.Tokens != nil || opts.TLS != nil && opts.TLS.AsksClients() {
		line = line.Bool("with_token", opts.Tokens != nil).Bool("with_certificate", opts.TLS != nil && opts.TLS.AsksClients())
	}
	line.Str("shell_plans_from", string(a.o.ShellFrom)).Msg("listening beyond this machine: whoever is let in may create, read and remove plans")
	if opts.Tokens != nil && opts.TLS == nil {
		a.log.Warn().Str("address", l.Addr().String()).Msg("tokens come in the clear, for want of --tls-cert: whoever sees the packets has them")
	}
}
