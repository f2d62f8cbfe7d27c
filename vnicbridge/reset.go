package vnicbridge

import "github.com/google/gopacket/layers"

// end ends flows at once, and tells both sides of those that are TCP connections (F10),
// but for those that come back. If comesBack is nil, none does.
func (fw *forwarder) end(condition, comesBack func(*flow) bool) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	var out outbox
	now := fw.clock()
	for _, f := range fw.flows.removeIf(condition) {
		if f.orig.proto == TCP && f.class() != classClosing && (comesBack == nil || !comesBack(f)) {
			resetSide(f, forward, now, &out)
			resetSide(f, reverse, now, &out)
		}
	}
	out.flush()
}

// resetSide sends RSTs to one side of a flow, in the name of the other: to the side whose
// packets are of the direction dir. A side that has acknowledged nothing yet will send
// its SYN again, and be answered.
//
// A side believes a RST only if that has the number that it waits for (RFC 5961 §3.2).
// This is what it has acknowledged or, because acknowledgments are delayed, what follows
// all that has been sent to it.
func resetSide(f *flow, dir direction, now int64, out *outbox) {
	if f.flags.Load()&(flowAcked<<dir) == 0 {
		return
	}
	acknowledged, sent := f.sent[dir].ack.Load(), f.sent[1-dir].next.Load()
	sendReset(f, dir, acknowledged, now, out)
	if sent != acknowledged {
		sendReset(f, dir, sent, now, out)
	}
}

func sendReset(f *flow, dir direction, seq uint32, now int64, out *outbox) {
	to, tuple := f.otherEnd(1 - dir)
	ip := &layers.IPv4{
		Version: 4, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolTCP,
		SrcIP: tuple.src.v4(), DstIP: tuple.dst.v4(),
	}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(tuple.sport), DstPort: layers.TCPPort(tuple.dport), Seq: seq, RST: true}
	// It fails for another network layer than IP only.
	_ = tcp.SetNetworkLayerForChecksum(ip)
	fr := buildFrame(to.mac(), MAC{}, layers.EthernetTypeIPv4, ip, tcp)
	a := arrival{frame: &fr, now: now, out: out}
	_ = a.leaveBy(to, tuple.dst)
}
