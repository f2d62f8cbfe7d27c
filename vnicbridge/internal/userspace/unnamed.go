package userspace

import (
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// The rate of clients that go on without a name because they have not finished what could tell one.
// Beyond it they wait. So a flood of them, each of which costs a server a connection, does not keep
// the servers from others.
const (
	unnamedCost  = 4 * time.Millisecond // what one takes of the rate: 250 a second
	unnamedBurst = 64                   // how many may go on at once after a pause
)

// goOn lets a client go on without a name. If the rate is used up, the next tick tries again.
func (fw *Forwarder) goOn(c *greeting, out *iface.Outbox, now int64) {
	g := fw.greetings
	g.unnamedUsed = max(g.unnamedUsed, now)
	if g.unnamedUsed-now >= unnamedBurst*int64(unnamedCost) {
		return
	}
	g.unnamedUsed += int64(unnamedCost)
	if c.isDatagram() {
		fw.openUnnamed(c, out, now)
	} else {
		fw.askFor(c, "", out, now)
	}
}
