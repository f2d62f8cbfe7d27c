package userspace

import (
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// End ends the flows for which a condition holds, and sends RSTs to both sides of open TCP
// connections (F10). It sends none for flows for which comesBack is true, because they will
// be picked up. If comesBack is nil, no flow comes back.
func (fw *Forwarder) End(condition, comesBack func(*flow.Flow) bool) {
	fw.endIf(condition, func(f *flow.Flow) []flow.Direction {
		if comesBack != nil && comesBack(f) {
			return nil
		}
		return bothSides
	})
}

var bothSides = []flow.Direction{flow.Forward, flow.Reverse}

// EndDenied ends the flows of hosts that are denied (S7). Of a TCP connection, the segment's
// side gets a RST. The host outside gets nothing.
func (fw *Forwarder) EndDenied() {
	fw.endDeniedGreetings()
	fw.endIf(func(f *flow.Flow) bool {
		return slices.ContainsFunc(bothSides, func(dir flow.Direction) bool {
			nic, tuple := f.OtherEnd(dir)
			vnic, _ := f.OtherEnd(1 - dir)
			return nic.NIC != nil && (fw.denied.Has(nic, tuple.Dst) || fw.denied.Has(vnic, tuple.Dst))
		})
	}, func(f *flow.Flow) []flow.Direction {
		if f.In.VNIC != nil {
			return bothSides[:1]
		}
		return bothSides[1:]
	})
}

// endIf ends the flows for which a condition holds. Of an open TCP connection, the sides whose
// packets have the directions told get a RST.
func (fw *Forwarder) endIf(condition func(*flow.Flow) bool, told func(*flow.Flow) []flow.Direction) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	var out iface.Outbox
	now := fw.Clock()
	for _, f := range fw.Flows.RemoveIf(condition) {
		if f.Orig.Proto != config.TCP || f.Class() == flow.ClassClosing {
			continue
		}
		for _, dir := range told(f) {
			resetSide(f, dir, now, &out)
		}
	}
	out.Flush()
}

// resetSide sends RSTs to the side of a flow whose packets have the direction dir, in the
// name of the other side. A side that has acknowledged nothing gets no RST. It will send its
// SYN again, and get an answer then.
//
// A side accepts a RST only if its number is the next one that the side expects (RFC 5961
// §3.2). This is the number that the side last acknowledged or, because acknowledgments are
// delayed, the one after everything that was sent to it. So it gets a RST with each.
func resetSide(f *flow.Flow, dir flow.Direction, now int64, out *iface.Outbox) {
	if f.Flags.Load()&(flow.Acked<<dir) == 0 {
		return
	}
	to, tuple := f.OtherEnd(1 - dir)
	acknowledged, sent := f.Sent[dir].Ack.Load(), f.Sent[1-dir].Next.Load()
	if shift, ok := f.Shift(dir); ok && dir == flow.Forward { // the flow has the server's numbers
		acknowledged, sent = acknowledged+shift.Seq, sent+shift.Seq
	}
	_ = sendReset(to, tuple, acknowledged, now, out)
	if sent != acknowledged {
		_ = sendReset(to, tuple, sent, now, out)
	}
}

// sendReset sends a RST with a tuple and a number by an iface, or returns why it does not leave. None
// leaves by an iface that stands by, because another machine may have picked the connection up (H2).
func sendReset(to *iface.Iface, tuple packet.Tuple, seq uint32, now int64, out *iface.Outbox) packet.DropReason {
	if to.StandsBy() {
		return packet.DropStandby
	}
	reset := packet.Segment{Tuple: tuple, Flags: packet.TCPRST, Seq: seq}
	fr := reset.Frame(to.MAC(), config.MAC{})
	a := Arrival{Frame: &fr, Now: now, Out: out}
	return a.leaveBy(to, tuple.Dst)
}
