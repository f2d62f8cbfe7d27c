package link

import (
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// FuzzHandleNeighbour gives a link any bytes as a frame of IPv6 (row L6). What the link sends
// is valid, carries the NIC's MAC, and is about our addresses or a host that is asked for.
func FuzzHandleNeighbour(f *testing.F) {
	for _, frame := range []packet.Frame{
		NDPMessage{From: host, To: pseudoGroup, Target: pseudo, MAC: hostMAC}.Frame(hostMAC, GroupMAC(pseudoGroup)),
		NDPMessage{To: pseudoGroup, Target: pseudo, Nonce: "abcdef"}.Frame(hostMAC, GroupMAC(pseudoGroup)),
		NDPMessage{Advertisement: true, From: host, To: pseudo, Target: host, MAC: hostMAC, Solicited: true}.Frame(hostMAC, nicMAC),
		NDPMessage{Advertisement: true, From: pseudo, To: allNodes, Target: pseudo, MAC: hostMAC, Override: true}.Frame(hostMAC, nicMAC),
		queryFrame(hostLocal, unspecified, 0, false, 0),
		queryFrame(hostLocal, pseudoGroup, 0, false, 2),
		queryFrame(hostLocal, unspecified, 0, true, 0),
		reportFrame(hostMAC, hostLocal, both(joins)),
	} {
		f.Add(byte(0), frame.Eth())
		f.Add(byte(packet.VNetNeedsCsum), frame.Eth()) // its checksum need not be right
	}
	l := newTestLink("fe80::b")
	if err := l.Acquire(false); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, flags byte, eth []byte) {
		if len(eth) < packet.EthHeaderLen {
			return
		}
		data := append(make([]byte, packet.VNetHeaderLen), eth...)
		data[0] = flags
		if reason := l.put(packet.Frame{Data: data}); reason >= packet.DropReasonCount {
			t.Errorf("handled as %d", reason)
		}
		for _, sent := range l.take() {
			m, err := parseICMPv6(&sent)
			if err != nil || sent.SrcMAC() != nicMAC || m.src != pseudo && m.src != ownLocal {
				t.Errorf("sent % x", sent.Eth())
			}
			if dst := sent.DstMAC(); dst == nicMAC || dst == (config.MAC{}) {
				t.Errorf("sent to %s", dst)
			}
		}
		if known := l.knows(pseudo); !known.IsZero() {
			t.Errorf("the pseudo address is another host's, %s", known)
		}
	})
}
