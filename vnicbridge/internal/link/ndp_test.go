package link

import (
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Row A1: both addresses are answered for, and no other.
func TestSolicitationsAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		for _, target := range []packet.Addr{pseudo, ownLocal} {
			for _, from := range []packet.Addr{host, hostLocal} {
				for _, toAll := range []bool{true, false} {
					for _, option := range []config.MAC{otherMAC, {}} {
						if reason := l.solicits(NDPMessage{From: from, Target: target, MAC: option}, hostMAC, toAll); reason != packet.Keep {
							t.Errorf("dropped for %s", reason)
						}
						frames := l.take()
						if len(frames) != 1 {
							t.Fatalf("%d answers", len(frames))
						}
						want := NDPMessage{Advertisement: true, From: target, To: from, Target: target, MAC: nicMAC, Solicited: true, Override: true}
						if m, err := ParseNDP(&frames[0]); err != nil || m != want {
							t.Errorf("answered by %+v, %v", m, err)
						}
						to := hostMAC
						if !option.IsZero() {
							to = option
						}
						if f := frames[0]; f.DstMAC() != to || f.SrcMAC() != nicMAC {
							t.Errorf("the answer goes from %s to %s, want to %s", f.SrcMAC(), f.DstMAC(), to)
						}
					}
				}
			}
		}
		for _, target := range []packet.Addr{host, addr("fd00:50::1"), addr("fd00:50::2"), addr("2001:db8:2::2")} {
			if reason := l.solicits(NDPMessage{From: hostLocal, Target: target}, hostMAC, true); reason != packet.DropARP || len(l.take()) > 0 {
				t.Errorf("a solicitation for %s is handled as %s", target.Netip(), reason)
			}
		}
		stray := NDPMessage{From: host, To: hostLocal, Target: pseudo}
		if reason := l.put(stray.Frame(hostMAC, nicMAC)); reason != packet.DropARP || len(l.take()) > 0 {
			t.Errorf("a solicitation that is sent to another host's address is handled as %s", reason)
		}
		lost := NDPMessage{From: host, To: pseudo, Target: pseudo}
		if reason := l.put(lost.Frame(hostMAC, otherMAC)); reason != packet.DropNotForUs || len(l.take()) > 0 {
			t.Errorf("a solicitation that is sent to another host's MAC is handled as %s", reason)
		}
	})
}

// Row A1: another host that asks whether an address of ours is free gives it up.
func TestDuplicateAddressDetectionOfOthersIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		for _, target := range []packet.Addr{pseudo, ownLocal} {
			l.solicits(NDPMessage{Target: target, Nonce: "abcdef"}, hostMAC, true)
			frames := l.take()
			if len(frames) != 1 {
				t.Fatalf("%d answers", len(frames))
			}
			want := NDPMessage{Advertisement: true, From: target, To: allNodes, Target: target, MAC: nicMAC, Override: true}
			if m, err := ParseNDP(&frames[0]); err != nil || m != want || frames[0].DstMAC() != GroupMAC(allNodes) {
				t.Errorf("answered by %+v, %v, to %s", m, err, frames[0].DstMAC())
			}
		}
	})
}

// Rows A1, A7: RFC 4861 §7.1.1 and §7.1.2, RFC 6980 §5.
func TestInvalidMessagesAreDropped(t *testing.T) {
	solicitation := NDPMessage{From: host, To: SolicitedNode(pseudo), Target: pseudo, MAC: hostMAC}
	advertisement := NDPMessage{Advertisement: true, From: host, To: pseudo, Target: host, MAC: hostMAC, Solicited: true, Override: true}
	const ip, icmp = packet.EthHeaderLen, packet.EthHeaderLen + packet.IPv6HeaderLen
	flaws := []struct {
		name  string
		spoil func(m *NDPMessage) // nil: none
		bytes func(eth []byte) []byte
	}{
		{"hop limit", nil, func(eth []byte) []byte { eth[ip+7] = 254; return eth }},
		{"protocol", nil, func(eth []byte) []byte { eth[ip+6] = byte(layers.IPProtocolUDP); return eth }},
		{"no MAC in the option", nil, func(eth []byte) []byte { clear(eth[icmp+26 : icmp+32]); return summed(eth) }},
		{"code", nil, func(eth []byte) []byte { eth[icmp+1] = 1; return summed(eth) }},
		{"checksum", nil, func(eth []byte) []byte { eth[icmp+2]++; return eth }},
		{"version", nil, func(eth []byte) []byte { eth[ip] = 0x45; return eth }},
		{"length beyond the frame", nil, func(eth []byte) []byte { eth[ip+5]++; return eth }},
		{"no target", nil, func(eth []byte) []byte { return summed(cut(eth, 20)) }},
		{"nothing", nil, func(eth []byte) []byte { return cut(eth, 0) }},
		{"part of an option", nil, func(eth []byte) []byte { return summed(cut(eth, 31)) }},
		{"part of an option's header", nil, func(eth []byte) []byte { return summed(cut(eth, 25)) }},
		{"option of length 0", nil, func(eth []byte) []byte { eth[icmp+25] = 0; return summed(eth) }},
		{"option beyond the message", nil, func(eth []byte) []byte { eth[icmp+25] = 2; return summed(eth) }},
		{"group's MAC", func(m *NDPMessage) { m.MAC[0] |= 1 }, nil},
		{"multicast target", func(m *NDPMessage) { m.Target = allNodes }, nil},
		{"no address as target", func(m *NDPMessage) { m.Target = unspecified }, nil},
		{"IPv4 target", func(m *NDPMessage) { m.Target = addr("10.0.0.1") }, nil},
		{"IPv4 source", func(m *NDPMessage) { m.From = addr("10.0.0.1") }, nil},
		{"multicast source", func(m *NDPMessage) { m.From = allNodes }, nil},
		{"from ::, with a MAC", func(m *NDPMessage) { m.From = unspecified }, nil},
		{"fragment", nil, func(eth []byte) []byte { return extended(eth, layers.IPProtocolIPv6Fragment) }},
		{"destination options", nil, func(eth []byte) []byte { return extended(eth, layers.IPProtocolIPv6Destination) }},
	}
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		for _, valid := range []NDPMessage{solicitation, advertisement} {
			if f := valid.Frame(hostMAC, GroupMAC(allNodes)); l.put(f) == packet.DropMalformed {
				t.Errorf("a valid message is dropped: %+v", valid)
			}
			for _, flaw := range flaws {
				m := valid
				if flaw.spoil != nil {
					flaw.spoil(&m)
				}
				f := m.Frame(hostMAC, GroupMAC(allNodes))
				if flaw.bytes != nil {
					f.Data = append(f.Data[:packet.VNetHeaderLen:packet.VNetHeaderLen], flaw.bytes(f.Eth())...)
				}
				if reason := l.put(f); reason != packet.DropMalformed {
					t.Errorf("%s: %v is handled as %s", flaw.name, m, reason)
				}
			}
		}
		l.take()
		for name, m := range map[string]NDPMessage{
			"answer to all":                 {Advertisement: true, From: host, To: allNodes, Target: host, MAC: hostMAC, Solicited: true},
			"from :: to one":                {To: pseudo, Target: pseudo},
			"from :: to another's group":    {To: SolicitedNode(host), Target: pseudo},
			"advertisement from no address": {Advertisement: true, To: allNodes, Target: host, MAC: hostMAC},
		} {
			if reason := l.put(m.Frame(hostMAC, nicMAC)); reason != packet.DropMalformed {
				t.Errorf("%s is handled as %s", name, reason)
			}
		}
		if reason := l.put(NDPMessage{From: host, To: pseudo, Target: pseudo}.Frame(GroupMAC(allNodes), nicMAC)); reason != packet.DropMalformed {
			t.Errorf("a message from a group's MAC is handled as %s", reason)
		}
		if sent := l.take(); len(sent) > 0 {
			t.Errorf("%d frames were sent", len(sent))
		}
	})
}

// cut returns a frame whose IPv6 packet has a number of bytes behind its header.
func cut(eth []byte, length int) []byte {
	eth[packet.EthHeaderLen+4], eth[packet.EthHeaderLen+5] = byte(length>>8), byte(length)
	return eth[:packet.EthHeaderLen+packet.IPv6HeaderLen+length]
}

// summed corrects the checksum of a frame with an ICMPv6 message.
func summed(eth []byte) []byte {
	ip := slices.Clone(eth[packet.EthHeaderLen:])
	message := ip[packet.IPv6HeaderLen:]
	header := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(message[0], message[1])}
	_ = header.SetNetworkLayerForChecksum(&layers.IPv6{SrcIP: net.IP(ip[8:24]), DstIP: net.IP(ip[24:40])})
	buf := gopacket.NewSerializeBuffer()
	_ = gopacket.SerializeLayers(buf, gopacket.SerializeOptions{ComputeChecksums: true}, header, gopacket.Payload(message[4:]))
	return append(eth[:packet.EthHeaderLen+packet.IPv6HeaderLen], buf.Bytes()...)
}

// extended returns a frame with an extension header of 8 bytes before the message: a whole
// datagram in one fragment, or padding.
func extended(eth []byte, kind layers.IPProtocol) []byte {
	const ip, rest = packet.EthHeaderLen, packet.EthHeaderLen + packet.IPv6HeaderLen
	header := []byte{byte(layers.IPProtocolICMPv6), 0, 0, 0, 0, 0, 0, 0}
	if kind != layers.IPProtocolIPv6Fragment {
		header[2], header[3] = optionPadN, 4
	}
	eth = slices.Concat(eth[:rest], header, eth[rest:])
	eth[ip+6] = byte(kind)
	eth[ip+5] += 8
	return eth
}

// Row S6: routers' messages change nothing, whatever they say.
func TestRoutersMessagesAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		l.SetGateway(router.Netip())
		l.pass(time.Second)
		l.advertises(router, routerMAC, true, true)
		before := len(l.Neighbours.Table.Entries)
		prefix := layers.ICMPv6Option{Type: layers.ICMPv6OptPrefixInfo, Data: make([]byte, 30)}
		mac := layers.ICMPv6Option{Type: layers.ICMPv6OptSourceAddress, Data: otherMAC[:]}
		toUs := net.IP(pseudo[:])
		for kind, message := range map[uint8]gopacket.SerializableLayer{
			routerSolicitation:                   &layers.ICMPv6RouterSolicitation{Options: layers.ICMPv6Options{mac}},
			layers.ICMPv6TypeRouterAdvertisement: &layers.ICMPv6RouterAdvertisement{RouterLifetime: 1800, ReachableTime: 1, RetransTimer: 1, Options: layers.ICMPv6Options{mac, prefix}},
			redirect:                             &layers.ICMPv6Redirect{TargetAddress: net.IP(hostLocal[:]), DestinationAddress: toUs, Options: layers.ICMPv6Options{mac}},
		} {
			for _, from := range []packet.Addr{router, hostLocal} {
				if reason := l.put(icmpv6Frame(otherMAC, nicMAC, ipv6Header(from, pseudo, ndpHopLimit), kind, message)); reason != packet.DropARP {
					t.Errorf("a message of type %d is handled as %s", kind, reason)
				}
				if reason := l.put(icmpv6Frame(otherMAC, nicMAC, ipv6Header(from, pseudo, 64), kind, message)); reason != packet.DropMalformed {
					t.Errorf("a message of type %d from beyond the link is handled as %s", kind, reason)
				}
			}
		}
		if gateway, mac := l.Router(); gateway != router || mac != routerMAC {
			t.Errorf("the gateway is %s at %s", gateway.Netip(), mac)
		}
		if after := len(l.Neighbours.Table.Entries); after != before {
			t.Errorf("%d neighbours after, %d before", after, before)
		}
	})
}
