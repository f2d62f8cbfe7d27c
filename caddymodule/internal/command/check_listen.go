package command

import (
	"fmt"
	"os"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/listenaddr"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/checkup"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// listenFindings reports mistakes in the addresses that servers listen on, each with its
// line of the Caddyfile.
func listenFindings(config *config.Config, addresses []string, bound places) (findings []checkup.Finding) {
	for _, address := range addresses {
		if err := listenaddr.Check(config, address); err != nil {
			findings = append(findings, checkup.Finding{
				Severity: checkup.SeverityError, Message: fmt.Sprintf("%s: %v", bound.of(address), err),
			})
		}
	}
	return findings
}

// places are the lines of a Caddyfile that bind sites, by the address that they bind to.
type places map[string]string

// findPlaces reads the places of a Caddyfile. In any other file it finds none.
func findPlaces(file string) places {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil // the configuration came by standard input
	}
	blocks, err := caddyfile.Parse(file, text)
	if err != nil {
		return nil
	}
	found := make(places)
	for _, block := range blocks {
		for _, directive := range block.Segments {
			if name := directive.Directive(); name != "bind" && name != "default_bind" {
				continue
			}
			for _, token := range directive[1:] {
				if _, ok := found[token.Text]; !ok {
					found[token.Text] = fmt.Sprintf("%s:%d: %s %s", token.File, token.Line, directive.Directive(), token.Text)
				}
			}
		}
	}
	return found
}

// of names the place that makes a server listen on an address.
func (p places) of(address string) string {
	network, host, _, err := caddy.SplitNetworkAddress(address)
	if err == nil && network != "" {
		host = network + "/" + host
	}
	for _, text := range []string{address, host} {
		if place, ok := p[text]; ok {
			return place
		}
	}
	return "listening on " + address
}
