package vnicbridge

import "github.com/google/gopacket/layers"

// end ends flows at once, and tells both sides of those that are TCP
// connections (F10).
func (fw *forwarder) end(condition func(*flow) bool) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	var out outbox
	now := fw.clock()
	for _, f := range fw.flows.removeIf(condition) {
		if f.orig.proto == TCP && f.class() != classClosing {
			f.reset(forward, now, &out)
			f.reset(reverse, now, &out)
		}
	}
	out.flush()
}

// reset sends a RST to one side of a flow, in the name of the other: to the side
// whose packets are of the direction dir. A side that has acknowledged nothing
// yet will send its SYN again, and be answered.
func (f *flow) reset(dir direction, now int64, out *outbox) {
	if f.flags.Load()&(flowAcked<<dir) == 0 {
		return
	}
	to, tuple := f.otherEnd(1 - dir)
	ip := &layers.IPv4{
		Version: 4, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolTCP,
		SrcIP: tuple.src.v4(), DstIP: tuple.dst.v4(),
	}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(tuple.sport), DstPort: layers.TCPPort(tuple.dport), Seq: f.sent[dir].ack.Load(), RST: true}
	// It fails for another network layer than IP only.
	_ = tcp.SetNetworkLayerForChecksum(ip)
	fr := buildFrame(to.mac(), MAC{}, layers.EthernetTypeIPv4, ip, tcp)
	_ = to.emit(&arrival{frame: &fr, now: now, out: out}, tuple.dst)
}
