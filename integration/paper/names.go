package paper

import _ "embed"

// caddyfileNames is the configuration for a segment by host name.
//
//go:embed Caddyfile.names
var caddyfileNames string

// pictureNames is the network with two domains, and fits reportWidth.
const pictureNames = `
   PC1                  router                            server
  ┌──────────────┐     ┌────────────────────────────┐     ┌────────────────────────────────────┐
  │ 192.168.10.2 ├─────┤ 192.168.10.1   192.168.1.1 ├─────┤ nic0 ─┬─ vnic-A  a.example.com     │
  └──────────────┘     └────────────────────────────┘     │       └─ vnic-B  b.example.com     │
                                      answers 192.168.1.2 │                                    │
                                                          └────────────────────────────────────┘`

// namesSection shows which segment served which domain, and which client it saw.
func namesSection(visits []attempt) Section {
	return attemptsSection("Fig-18", "In the bridge: each domain is served by its own segment, with its own certificate", "a by A, b by B", visits)
}
