package paper

import (
	_ "embed"
	"fmt"
)

// caddyfileFig19 is the configuration for two networks.
//
//go:embed Caddyfile.fig19
var caddyfileFig19 string

// pictureFig19 is the network with the second NIC, and fits reportWidth.
const pictureFig19 = `
 PC1                router                          server
┌──────────────┐   ┌───────────────────────────┐   ┌───────────────────────────┐
│ 192.168.10.2 ├───┤ 192.168.10.1  192.168.1.1 ├───┤ nic0 ─ vnic-A 192.168.50.1│
└──────────────┘   └───────────────────────────┘   │ 192.168.1.2               │
 PC2                router2                        │                           │
┌──────────────┐   ┌───────────────────────────┐   │                           │
│ 192.168.20.2 ├───┤ 192.168.20.1  192.168.2.1 ├───┤ 192.168.2.2               │
└──────────────┘   └───────────────────────────┘   │ nic1 ─ vnic-B 192.168.60.1│
                                                   └───────────────────────────┘`

// noAnswer is what one network gets of the other.
const noAnswer = "no answer"

// attempt is one try to reach something, and what came of it.
type attempt struct{ what, want, got string }

func (a attempt) check() Check { return same(a.what, a.want, a.got) }

// ownSection shows that each network reaches its own segment.
func ownSection(attempts []attempt) Section {
	return attemptsSection("Fig-19", "Each network reaches its own segment", "its own segment answers", attempts)
}

// otherSection shows that a network reaches nothing of the other. leaked counts
// the packets that came out on the other side all the same.
func otherSection(title string, attempts []attempt, leaked int) Section {
	attempts = append(attempts, attempt{"packets that came through", "0", fmt.Sprint(leaked)})
	return attemptsSection("Fig-19", title, "nothing of the other answers", attempts)
}

func attemptsSection(figure, title, gist string, attempts []attempt) Section {
	s := Section{Figure: figure, Title: title, Expected: "expected"}
	for _, a := range attempts {
		s.Checks = append(s.Checks, a.check())
	}
	s.Gist = Gist{gist, gist}
	if differing := len(s.differing()); differing > 0 {
		s.Gist.Here = fmt.Sprintf("not so in %d of %d tries", differing, len(attempts))
	}
	return s
}
