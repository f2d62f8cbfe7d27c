package pcapfilter

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/bpf"
)

// Offsets in an Ethernet frame.
const (
	offDst, offSrc, offType  = 0, 6, 12
	offIP, offProto          = 14, 14 + 9
	offFragment              = 14 + 6
	offIPSrc, offIPDst       = 14 + 12, 14 + 16
	offARPSender, offARPDest = 14 + 14, 14 + 24

	offNextHeader          = 14 + 6
	offIPv6Src, offIPv6Dst = 14 + 8, 14 + 24
	offIPv6Payload         = 14 + 40
)

// Numbers of protocols, and of IPv6's fragment header.
const (
	protoICMP, protoTCP, protoUDP = 1, 6, 17
	protoFragment, protoICMPv6    = 44, 58
)

var (
	isIP     = etherType(0x0800)
	isARP    = etherType(0x0806)
	isIPv6   = etherType(0x86dd)
	unbroken = not{test{absolute(offFragment, 2), bpf.JumpBitsSet, 0x1fff}} // it has a transport header
)

// protocols are conditions that need no value.
var protocols = map[string]node{
	"ip": isIP, "ip6": isIPv6, "arp": isARP, "tcp": eitherProtocol(protoTCP), "udp": eitherProtocol(protoUDP),
	"icmp": ipv4Protocol(protoICMP), "icmp6": ipv6Protocol(protoICMPv6),
}

// protocolNumbers are the values of proto that have a name.
var protocolNumbers = map[string]uint32{"tcp": protoTCP, "udp": protoUDP, "icmp": protoICMP, "icmp6": protoICMPv6}

func absolute(offset, size uint32) []bpf.Instruction {
	return []bpf.Instruction{bpf.LoadAbsolute{Off: offset, Size: int(size)}}
}

// transport loads bytes from an offset behind the IP header.
func transport(offset, size uint32) []bpf.Instruction {
	return []bpf.Instruction{bpf.LoadMemShift{Off: offIP}, bpf.LoadIndirect{Off: offIP + offset, Size: int(size)}}
}

// transportIPv6 loads bytes from an offset behind an IPv6 header. As in tcpdump, extension
// headers are not skipped.
func transportIPv6(offset, size uint32) []bpf.Instruction {
	return absolute(offIPv6Payload+offset, size)
}

func etherType(n uint32) node { return test{absolute(offType, 2), bpf.JumpEqual, n} }

func ipv4Protocol(n uint32) node { return and{isIP, protocolIs(n)} }

// ipv6Protocol is the condition that a packet of IPv6 has a protocol, also behind a fragment
// header. As in tcpdump, no other extension header is skipped.
func ipv6Protocol(n uint32) node {
	behindFragment := and{test{nil, bpf.JumpEqual, protoFragment}, test{absolute(offIPv6Payload, 1), bpf.JumpEqual, n}}
	return and{isIPv6, or{nextHeader(n), behindFragment}}
}

func eitherProtocol(n uint32) node { return or{ipv4Protocol(n), ipv6Protocol(n)} }

// protocolIs is the condition that a packet of IPv4 has one of some protocols.
func protocolIs(numbers ...uint32) node { return oneOf{absolute(offProto, 1), numbers} }

// nextHeader is the condition that one of some headers follows that of IPv6.
func nextHeader(numbers ...uint32) node { return oneOf{absolute(offNextHeader, 1), numbers} }

// qualifiers say what a value is compared with.
type qualifiers struct {
	proto     string // ether, ip, ip6, arp, tcp, udp or none
	direction string // src, dst, "src and dst" or none, which is either
	kind      string // host, net, port, portrange, proto or none, which is host
}

// either joins the conditions on source and destination as the direction says.
func (q qualifiers) either(src, dst node) node {
	switch q.direction {
	case "src":
		return src
	case "dst":
		return dst
	case "src and dst":
		return and{src, dst}
	default:
		return or{src, dst}
	}
}

// matches returns the condition for a value.
func (q qualifiers) matches(value string) (node, error) {
	switch {
	case q.proto == "ether":
		return q.ether(value)
	case q.kind == "proto":
		return q.protocol(value)
	case q.kind == "port", q.kind == "portrange":
		return q.port(value)
	default:
		return q.address(value)
	}
}

// escape keeps tcpdump from taking a protocol's name for a keyword. Here it is optional.
const escape = `\`

func (q qualifiers) ether(value string) (node, error) {
	if q.kind == "proto" {
		value = strings.TrimPrefix(value, escape)
		if n, err := number(value); err == nil && n <= 0xffff {
			return etherType(n), nil
		}
		if n := map[string]node{"ip": isIP, "ip6": isIPv6, "arp": isARP}[value]; n != nil {
			return n, nil
		}
		return nil, fmt.Errorf("ether proto %s: want a number, ip, ip6 or arp", value)
	}
	mac, err := net.ParseMAC(value)
	if q.kind != "" && q.kind != "host" || err != nil || len(mac) != 6 {
		return nil, fmt.Errorf("ether %s: want a MAC, as in ether host 50:01:02:03:04:05", value)
	}
	at := func(offset uint32) node {
		return and{
			test{absolute(offset+2, 4), bpf.JumpEqual, binary.BigEndian.Uint32(mac[2:])},
			test{absolute(offset, 2), bpf.JumpEqual, uint32(binary.BigEndian.Uint16(mac))},
		}
	}
	return q.either(at(offSrc), at(offDst)), nil
}

func (q qualifiers) protocol(value string) (node, error) {
	value = strings.TrimPrefix(value, escape)
	n, named := protocolNumbers[value]
	if !named {
		var err error
		if n, err = number(value); err != nil || n > 255 {
			return nil, fmt.Errorf("proto %s: want ip proto and a number, tcp, udp, icmp or icmp6", value)
		}
	}
	of := map[string]func(uint32) node{"": eitherProtocol, "ip": ipv4Protocol, "ip6": ipv6Protocol}[q.proto]
	if of == nil {
		return nil, fmt.Errorf("%s has no protocols: want ip proto or ip6 proto", q.proto)
	}
	return of(n), nil
}

func (q qualifiers) port(value string) (node, error) {
	first, last, isRange := strings.Cut(value, "-")
	if isRange != (q.kind == "portrange") {
		return nil, fmt.Errorf("%s %s: want port and a number, or portrange and two, as in 8000-8080", q.kind, value)
	}
	if !isRange {
		last = first
	}
	from, err := strconv.ParseUint(first, 10, 16)
	to, errTo := strconv.ParseUint(last, 10, 16)
	if err != nil || errTo != nil || from > to {
		return nil, fmt.Errorf("%s %s: want numbers up to 65535", q.kind, value)
	}
	both := []uint32{protoTCP, protoUDP}
	protos := map[string][]uint32{"": both, "ip": both, "ip6": both, "tcp": {protoTCP}, "udp": {protoUDP}}[q.proto]
	if protos == nil {
		return nil, fmt.Errorf("%s has no ports", q.proto)
	}
	within := func(load bpf.Instruction) node {
		loads := []bpf.Instruction{load}
		if from == to {
			return test{loads, bpf.JumpEqual, uint32(from)}
		}
		return and{test{loads, bpf.JumpGreaterOrEqual, uint32(from)}, test{nil, bpf.JumpLessOrEqual, uint32(to)}}
	}
	indirect := func(offset uint32) node { return within(bpf.LoadIndirect{Off: offIP + offset, Size: 2}) }
	direct := func(offset uint32) node { return within(bpf.LoadAbsolute{Off: offIPv6Payload + offset, Size: 2}) }
	ipv4 := all(isIP, protocolIs(protos...), unbroken, after{bpf.LoadMemShift{Off: offIP}, q.either(indirect(0), indirect(2))})
	ipv6 := all(isIPv6, nextHeader(protos...), q.either(direct(0), direct(2)))
	switch q.proto {
	case "ip":
		return ipv4, nil
	case "ip6":
		return ipv6, nil
	default:
		return or{ipv4, ipv6}, nil
	}
}

func (q qualifiers) address(value string) (node, error) {
	prefix, err := parsePrefix(value, q.kind == "net")
	if err != nil {
		return nil, err
	}
	if prefix.Addr().Is6() {
		return q.addressIPv6(prefix)
	}
	at := func(offset uint32) node {
		load := absolute(offset, 4)
		mask := uint32(0xffffffff) << (32 - prefix.Bits())
		if prefix.Bits() < 32 {
			load = append(load, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
		}
		address := prefix.Addr().As4()
		return test{load, bpf.JumpEqual, binary.BigEndian.Uint32(address[:])}
	}
	ip := and{isIP, q.either(at(offIPSrc), at(offIPDst))}
	arp := and{isARP, q.either(at(offARPSender), at(offARPDest))}
	switch q.proto {
	case "":
		return or{ip, arp}, nil
	case "ip":
		return ip, nil
	case "arp":
		return arp, nil
	case "ip6":
		return nil, fmt.Errorf("%s is of IPv4: want an address of IPv6 behind ip6", value)
	default:
		return nil, q.noAddresses(value)
	}
}

func (q qualifiers) noAddresses(value string) error {
	return fmt.Errorf("%s has no addresses: write `%s and host %s`", q.proto, q.proto, value)
}

func (q qualifiers) addressIPv6(prefix netip.Prefix) (node, error) {
	switch q.proto {
	case "", "ip6":
		return and{isIPv6, q.either(inPrefix(offIPv6Src, prefix), inPrefix(offIPv6Dst, prefix))}, nil
	case "ip", "arp":
		return nil, fmt.Errorf("%s is of IPv6: want an address of IPv4 behind %s", prefix.Addr(), q.proto)
	default:
		return nil, q.noAddresses(prefix.Addr().String())
	}
}

// inPrefix is the condition that the IPv6 address at an offset is in a network. It compares
// words of 4 bytes, those of which the network says something, but one at least.
func inPrefix(offset uint32, prefix netip.Prefix) node {
	address := prefix.Addr().As16()
	var words []node
	for at := 0; at == 0 || at*8 < prefix.Bits(); at += 4 {
		load := absolute(offset+uint32(at), 4)
		if bits := prefix.Bits() - at*8; bits < 32 {
			load = append(load, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: uint32(0xffffffff) << (32 - bits)})
		}
		words = append(words, test{load, bpf.JumpEqual, binary.BigEndian.Uint32(address[at:])})
	}
	return all(words...)
}

// parsePrefix parses an address, or a network if isNet is set.
func parsePrefix(value string, isNet bool) (netip.Prefix, error) {
	if isNet {
		prefix, err := netip.ParsePrefix(value)
		if err != nil || prefix != prefix.Masked() {
			return prefix, fmt.Errorf("net %s: want a network, as in 10.20.0.0/16 or 2001:db8::/32", value)
		}
		return prefix, nil
	}
	a, err := netip.ParseAddr(value)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no IP address: names are not resolved", value)
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func number(text string) (uint32, error) {
	if n, ok := constants[text]; ok {
		return n, nil
	}
	n, err := strconv.ParseUint(text, 0, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is no number", text)
	}
	return uint32(n), nil
}

// constants have names in pcap-filter(7).
var constants = map[string]uint32{
	"tcpflags": 13, "icmptype": 0, "icmpcode": 1,
	"tcp-fin": 0x01, "tcp-syn": 0x02, "tcp-rst": 0x04, "tcp-push": 0x08, "tcp-ack": 0x10, "tcp-urg": 0x20,
	"icmp-echoreply": 0, "icmp-unreach": 3, "icmp-echo": 8, "icmp-timxceed": 11, "icmp-paramprob": 12,
	"icmp6type": 0, "icmp6code": 1,
	"icmp6-destinationunreach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3, "icmp6-parameterproblem": 4,
	"icmp6-echo": 128, "icmp6-echoreply": 129,
	"icmp6-multicastlistenerquery": 130, "icmp6-multicastlistenerreportv1": 131, "icmp6-multicastlistenerdone": 132,
	"icmp6-routersolicit": 133, "icmp6-routeradvert": 134, "icmp6-neighborsolicit": 135, "icmp6-neighboradvert": 136,
	"icmp6-redirect": 137, "icmp6-multicastlistenerreportv2": 143,
}
