package caddymodule

import (
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
)

// provisionChallenges lets Caddy answer the ACME challenges of a site on the site's own
// segment. The Caddyfile adapter takes the argument of `bind` as the host of the
// challenge's listener. CertMagic knows no network types, so it would take vnic/<segment>
// for a host name.
func (a *App) provisionChallenges(ctx caddy.Context) error {
	app, err := ctx.AppIfConfigured("tls")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("getting the tls app: %w", err)
	}
	tls := app.(*caddytls.TLS)
	if tls.Automation == nil {
		return nil
	}
	for _, policy := range tls.Automation.Policies {
		changed, err := a.bindIssuers(ctx, policy)
		if err != nil {
			return err
		}
		if !changed {
			continue
		}
		if err := policy.RebuildCertMagic(tls); err != nil {
			return fmt.Errorf("setting up ACME on a segment: %w", err)
		}
	}
	return nil
}

// bindIssuers binds the challenges of a policy's ACME issuers to the addresses of
// the segments that they name.
func (a *App) bindIssuers(ctx caddy.Context, policy *caddytls.AutomationPolicy) (changed bool, err error) {
	for _, issuer := range policy.Issuers {
		wrapper, ok := issuer.(interface{ GetACMEIssuer() *caddytls.ACMEIssuer })
		if !ok {
			continue
		}
		acme := wrapper.GetACMEIssuer()
		if acme == nil || acme.Challenges == nil {
			continue
		}
		segment, ok := strings.CutPrefix(acme.Challenges.BindHost, "vnic/")
		if !ok {
			continue
		}
		if acme.Challenges.BindHost, err = a.challengeHost(segment); err != nil {
			return changed, err
		}
		if err := acme.Provision(ctx); err != nil {
			return changed, fmt.Errorf("setting up ACME on segment %s: %w", segment, err)
		}
		changed = true
	}
	return changed, nil
}

// challengeHost returns the address at which CertMagic listens for a segment's challenges
// if no site listens on the segment; otherwise Caddy's servers there answer them.
// CertMagic stays in the host's network namespace, so it cannot listen on the address of a
// segment with a netns.
func (a *App) challengeHost(segment string) (string, error) {
	s, err := a.segment(segment)
	if err != nil {
		return "", err
	}
	if s.Netns != "" {
		return "127.0.0.1", nil
	}
	return a.address(segment).String(), nil
}
