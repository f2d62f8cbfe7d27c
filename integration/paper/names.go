package paper

import _ "embed"

// caddyfileNames is the configuration for a segment by host name.
//
//go:embed Caddyfile.names
var caddyfileNames string

// pictureNames is the network with two domains, and fits reportWidth.
const pictureNames = `
 PC1                router                          server, 192.168.1.2
┌──────────────┐   ┌───────────────────────────┐   ┌───────────────────────────┐
│ 192.168.10.2 ├───┤ 192.168.10.1  192.168.1.1 ├───┤ nic0 ┬ vnic-A             │
└──────────────┘   └───────────────────────────┘   │      │  a.example.com     │
                                                   │      └ vnic-B             │
                                                   │         b.example.com     │
                                                   └───────────────────────────┘`

// namesSection shows which segment served which domain, and which client it saw.
func namesSection(visits []attempt) Section {
	return attemptsSection("Fig-18", "In the bridge: a segment and a certificate for each domain", "a by A, b by B", visits)
}
