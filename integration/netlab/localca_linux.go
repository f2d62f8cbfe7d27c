package netlab

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// RootCertificate is the PEM file with the root of Caddy's internal issuer.
func (c *Caddy) RootCertificate() string {
	return filepath.Join(c.opts.State, "caddy", "pki", "authorities", "local", "root.crt")
}

// Roots believe the internal issuer's certificates, and nobody else's.
func (c *Caddy) Roots() (*x509.CertPool, error) {
	pem, err := os.ReadFile(c.RootCertificate())
	if err != nil {
		return nil, fmt.Errorf("lab: the internal issuer's root: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("lab: no certificate in " + c.RootCertificate())
	}
	return roots, nil
}
