package userspace

import (
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// End ends flows at once, and tells both sides of those that are TCP connections (F10),
// but for those that come back. If comesBack is nil, none does.
func (fw *Forwarder) End(condition, comesBack func(*flow.Flow) bool) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	var out iface.Outbox
	now := fw.Clock()
	for _, f := range fw.Flows.RemoveIf(condition) {
		if f.Orig.Proto == config.TCP && f.Class() != flow.ClassClosing && (comesBack == nil || !comesBack(f)) {
			resetSide(f, flow.Forward, now, &out)
			resetSide(f, flow.Reverse, now, &out)
		}
	}
	out.Flush()
}

// resetSide sends RSTs to one side of a flow, in the name of the other: to the side whose
// packets are of the direction dir. A side that has acknowledged nothing yet will send
// its SYN again, and be answered.
//
// A side believes a RST only if that has the number that it waits for (RFC 5961 §3.2).
// This is what it has acknowledged or, because acknowledgments are delayed, what follows
// all that has been sent to it.
func resetSide(f *flow.Flow, dir flow.Direction, now int64, out *iface.Outbox) {
	if f.Flags.Load()&(flow.Acked<<dir) == 0 {
		return
	}
	acknowledged, sent := f.Sent[dir].Ack.Load(), f.Sent[1-dir].Next.Load()
	sendReset(f, dir, acknowledged, now, out)
	if sent != acknowledged {
		sendReset(f, dir, sent, now, out)
	}
}

func sendReset(f *flow.Flow, dir flow.Direction, seq uint32, now int64, out *iface.Outbox) {
	to, tuple := f.OtherEnd(1 - dir)
	ip := &layers.IPv4{
		Version: 4, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolTCP,
		SrcIP: tuple.Src.V4(), DstIP: tuple.Dst.V4(),
	}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(tuple.Sport), DstPort: layers.TCPPort(tuple.Dport), Seq: seq, RST: true}
	// It fails for another network layer than IP only.
	_ = tcp.SetNetworkLayerForChecksum(ip)
	fr := packet.BuildFrame(to.MAC(), config.MAC{}, layers.EthernetTypeIPv4, ip, tcp)
	a := Arrival{Frame: &fr, Now: now, Out: out}
	_ = a.leaveBy(to, tuple.Dst)
}
