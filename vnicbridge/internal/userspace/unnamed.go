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

// goOn lets a client go on without a name, after those that wait for their turn already.
func (fw *Forwarder) goOn(c *greeting, out *iface.Outbox, now int64) {
	if c.order != waitTurn {
		fw.greetings.put(c, waitTurn)
	}
	fw.takeTurns(out, now)
}

// takeTurns lets those go on without a name whose turn it is. Packets of greetings call it, so that in
// a flood clients go on one by one, and not many at a tick, behind which packets would wait.
func (fw *Forwarder) takeTurns(out *iface.Outbox, now int64) {
	g := fw.greetings
	g.unnamedUsed = max(g.unnamedUsed, now)
	for c := range g.in(waitTurn) {
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
}
