package paper

import (
	"cmp"
	"strings"
)

// pictureFig18 is the network with the front, and fits reportWidth.
const pictureFig18 = `
 PC1                router                          server, www.example.com
┌──────────────┐   ┌───────────────────────────┐   ┌───────────────────────────┐
│ 192.168.10.2 ├───┤ 192.168.10.1  192.168.1.1 ├───┤ nic0 ─ vnic-F 192.168.40.1│
└──────────────┘   └───────────────────────────┘   │ /test1/ ┬ vnic-A          │
                                                   │ /test2/ └ vnic-B          │
                                                   └───────────────────────────┘`

// The URLs of Fig-18: test1 is served by segment a, test2 by segment b.
const (
	siteURL = "https://www.example.com"
	test1   = "/test1/index.html"
	test2   = "/test2/index.html"
)

// pathsSection shows which segment served which path.
func pathsSection(visits []attempt) Section {
	return attemptsSection("Fig-18", "Each URL path is served by its own segment", "/test1 by A, /test2 by B", visits)
}

// alternatingSection shows requests for both segments on one connection.
func alternatingSection(visits []attempt) Section {
	return attemptsSection("Fig-18", "One connection carries requests for both segments", "each goes to its own segment", visits)
}

// passedSection shows all that the two segments got to see: paths, and the
// clients that the sites have logged.
func (f *family) passedSection(onA, onB, clients []string) Section {
	return attemptsSection("Fig-18", "All the requests that passed the VNICs", "each VNIC saw its own only", []attempt{
		{"requests on vnic-A", test1, list(onA)},
		{"requests on vnic-B", test2, list(onB)},
		{"the sites see as client", f.pc1.String(), list(clients)},
	})
}

func list(names []string) string { return cmp.Or(strings.Join(names, ", "), "none") }
