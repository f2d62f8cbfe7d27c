package vnicbridge

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// The second family of the paper's system. The names are those of IPv4's.
const (
	router6    = "fe80::1"
	pseudo6    = "2001:db8:1::2"
	farHost6   = "2001:db8:9::9"
	serverA6   = "fd00:50::1"
	routerOnA6 = "fd00:50::2"
	serverB6   = "fd00:60::1"
)

// The parts of IPv6 that decode reads by itself.
const (
	ipv6HeaderLen  = 40
	headerHop      = 0
	headerFragment = 44
	headerICMPv6   = 58
	headerOptions  = 60
)

// dualConfig is paperConfig with addresses of both families.
func dualConfig() *config.Config {
	cfg := paperConfig()
	for name, address := range map[string]string{"a": serverA6 + "/64", "b": serverB6 + "/64"} {
		cfg.Segments[name].Addresses = append(cfg.Segments[name].Addresses, netip.MustParsePrefix(address))
	}
	lan := cfg.Bridges["lan"]
	lan.Addresses = append(lan.Addresses, netip.MustParsePrefix(pseudo6+"/64"))
	lan.Gateways = append(lan.Gateways, netip.MustParseAddr(router6))
	return cfg
}

// inIPv6 runs a conformance test of IPv6 on each data path. The router is resolved.
func inIPv6(t *testing.T, cfg *config.Config, test func(t *testing.T, r *rig)) {
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		time.Sleep(5 * time.Second) // announcements are over
		r.plane.bridges["lan"].links[config.IPv6].Table().Hear(mustAddr(router6), routerMAC, true, r.plane.now())
		for _, d := range r.machine.devices {
			d.take()
		}
		test(t, r)
	})
}

// in6 are the ends of a packet that the router forwards to the pseudo address.
func in6(src string, sport, dport uint16) ends {
	return ends{routerMAC, nicMAC, src, pseudo6, sport, dport}
}

// fromA6 are the ends of a packet that segment a sends to an alias.
func fromA6(alias string, sport, dport uint16) ends {
	return ends{vnicAMAC, routerMAC, serverA6, alias, sport, dport}
}

// open6 is open for IPv6.
func (r *rig) open6(client string, port uint16) (alias string) {
	r.t.Helper()
	c := in6(client, port, 80)
	r.put("nic0", c.tcp("S", ""))
	alias = decode(r.one("vnic-A")).src
	r.put("vnic-A", fromA6(alias, 80, port).tcp("SA", ""))
	r.put("nic0", c.tcp("A", ""))
	r.got("vnic-A")
	r.got("nic0")
	return alias
}

func (e ends) ipv6(proto config.Protocol) *layers.IPv6 {
	if proto == config.ICMP {
		proto = headerICMPv6
	}
	return &layers.IPv6{
		Version: 6, HopLimit: 63, TrafficClass: 0x2, FlowLabel: 0x12345, NextHeader: layers.IPProtocol(proto),
		SrcIP: netip.MustParseAddr(e.src).AsSlice(), DstIP: netip.MustParseAddr(e.dst).AsSlice(),
	}
}

// icmpv6 builds an ICMPv6 message. value are the four bytes behind the checksum.
func (e ends) icmpv6(kind, code uint8, value uint32, body []byte) []byte {
	ip := e.ipv6(config.ICMP)
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, code)}
	_ = icmp.SetNetworkLayerForChecksum(ip)
	return e.build(ip, icmp, gopacket.Payload(append(binary.BigEndian.AppendUint32(nil, value), body...)))
}

func (e ends) echoIPv6(payload string) []byte {
	kind := uint8(packet.ICMPv6Echo)
	if e.sport == 0 {
		kind = packet.ICMPv6EchoReply
	}
	return e.icmpv6(kind, 0, uint32(e.sport+e.dport)<<16|95, []byte(payload))
}

// extension is an extension header, but for its first byte.
type extension struct {
	kind byte
	rest []byte
}

func optionsOf(kind byte, length int) extension {
	return extension{kind, append([]byte{byte(length/8 - 1), 1, byte(length - 4)}, make([]byte, length-4)...)}
}

func fragmentOf(offset int, more bool, id uint32) extension {
	bits := uint16(offset)
	if more {
		bits |= 1
	}
	return extension{headerFragment, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16([]byte{0}, bits), id)}
}

// withHeaders puts extension headers between the IPv6 header of a frame and what follows.
func withHeaders(raw []byte, chain ...extension) []byte {
	ip := packet.EthHeaderLen
	next, body := raw[ip+6], raw[ip+ipv6HeaderLen:]
	for _, h := range slices.Backward(chain) {
		body = slices.Concat([]byte{next}, h.rest, body)
		next = h.kind
	}
	raw = append(bytes.Clone(raw[:ip+ipv6HeaderLen]), body...)
	raw[ip+6] = next
	binary.BigEndian.PutUint16(raw[ip+4:], uint16(len(body)))
	return raw
}

// cut6 cuts a datagram's frame into fragments of at most size bytes of payload.
func cut6(raw []byte, id uint32, size int) (fragments [][]byte) {
	header, body := raw[:packet.EthHeaderLen+ipv6HeaderLen], raw[packet.EthHeaderLen+ipv6HeaderLen:]
	for offset := 0; offset < len(body); offset += size {
		part := body[offset:min(offset+size, len(body))]
		fragments = append(fragments, withHeaders(slices.Concat(header, part), fragmentOf(offset, offset+size < len(body), id)))
	}
	return fragments
}

// joined6 puts fragments together again, and returns their identification. They must be all
// of one datagram.
func joined6(t *testing.T, fragments [][]byte) (whole []byte, id uint32) {
	t.Helper()
	if len(fragments) == 0 {
		t.Fatal("no fragments")
	}
	const at = packet.EthHeaderLen + ipv6HeaderLen
	var body []byte
	total := 0
	for i, f := range fragments {
		if f[packet.EthHeaderLen+6] != headerFragment {
			t.Fatalf("no fragment: %x", f)
		}
		if this := binary.BigEndian.Uint32(f[at+4:]); i > 0 && this != id {
			t.Errorf("identifications %x and %x in one datagram", id, this)
		} else {
			id = this
		}
		offset, part := int(binary.BigEndian.Uint16(f[at+2:])&^7), f[at+8:]
		body = append(body, make([]byte, max(0, offset+len(part)-len(body)))...)
		copy(body[offset:], part)
		total += len(part)
	}
	if total != len(body) {
		t.Errorf("%d bytes in a datagram of %d", total, len(body))
	}
	whole = append(bytes.Clone(fragments[0][:at]), body...)
	whole[packet.EthHeaderLen+6] = fragments[0][at]
	binary.BigEndian.PutUint16(whole[packet.EthHeaderLen+4:], uint16(len(body)))
	return whole, id
}

// readIPv6 is decode for IPv6.
func (d *decoded) readIPv6(ip []byte) {
	first := binary.BigEndian.Uint32(ip)
	d.tos, d.label, d.ttl = uint8(first>>20), first&0xfffff, ip[7]
	d.src, d.dst = netip.AddrFrom16([16]byte(ip[8:])).String(), netip.AddrFrom16([16]byte(ip[24:])).String()
	next, body := ip[6], ip[ipv6HeaderLen:][:binary.BigEndian.Uint16(ip[4:])]
	for next == headerHop || next == headerOptions || next == headerFragment {
		length := 8
		if next != headerFragment {
			length = int(body[1])*8 + 8
		}
		d.headers += string(body[:length])
		if next == headerFragment && binary.BigEndian.Uint16(body[2:])&^7 != 0 {
			return // what follows is a part of a payload
		}
		next, body = body[0], body[length:]
	}
	d.proto = config.Protocol(next)
	pseudoHeader := binary.BigEndian.AppendUint32(bytes.Clone(ip[8:40]), uint32(len(body)))
	d.valid = plainSum(slices.Concat(pseudoHeader, []byte{0, 0, 0, next}, body)) == 0xffff
	switch {
	case d.proto == config.TCP:
		d.sport, d.dport, d.flags = binary.BigEndian.Uint16(body), binary.BigEndian.Uint16(body[2:]), body[13]
		d.payload = string(body[int(body[12]>>4)*4:])
	case d.proto == config.UDP:
		d.sport, d.dport = binary.BigEndian.Uint16(body), binary.BigEndian.Uint16(body[2:])
		d.valid = d.valid || body[6]|body[7] == 0
		d.payload = string(body[8:])
	case next == headerICMPv6:
		d.proto, d.icmp, d.code, d.value = config.ICMP, body[0], body[1], binary.BigEndian.Uint32(body[4:])
		d.payload = string(body[8:])
		switch d.icmp {
		case packet.ICMPv6Echo:
			d.sport = uint16(d.value >> 16)
		case packet.ICMPv6EchoReply:
			d.dport = uint16(d.value >> 16)
		}
	}
}

// quoteIn decodes the packet that an ICMPv6 error quotes, which must be whole for all of it.
func quoteIn(error decoded) decoded {
	return decode(slices.Concat(make([]byte, 12), []byte{0x86, 0xdd}, []byte(error.payload)))
}
