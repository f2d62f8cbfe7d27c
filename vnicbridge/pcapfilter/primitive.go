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
)

var (
	isIP     = etherType(0x0800)
	isARP    = etherType(0x0806)
	isIPv6   = etherType(0x86dd)
	isTCP    = ipProtocol(6)
	isUDP    = ipProtocol(17)
	isICMP   = ipProtocol(1)
	unbroken = not{test{absolute(offFragment, 2), bpf.JumpBitsSet, 0x1fff}} // it has a transport header
)

// protocols are conditions that need no value.
var protocols = map[string]node{"ip": isIP, "ip6": isIPv6, "arp": isARP, "tcp": isTCP, "udp": isUDP, "icmp": isICMP}

func absolute(offset, size uint32) []bpf.Instruction {
	return []bpf.Instruction{bpf.LoadAbsolute{Off: offset, Size: int(size)}}
}

// transport loads bytes from an offset behind the IP header.
func transport(offset, size uint32) []bpf.Instruction {
	return []bpf.Instruction{bpf.LoadMemShift{Off: offIP}, bpf.LoadIndirect{Off: offIP + offset, Size: int(size)}}
}

func etherType(n uint32) node { return test{absolute(offType, 2), bpf.JumpEqual, n} }

func ipProtocol(n uint32) node { return all(isIP, test{absolute(offProto, 1), bpf.JumpEqual, n}) }

// qualifiers say what a value is compared with.
type qualifiers struct {
	proto     string // ether, ip, arp, tcp, udp or none
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
	if n := map[string]node{"tcp": isTCP, "udp": isUDP, "icmp": isICMP}[value]; n != nil {
		return n, nil
	}
	n, err := number(value)
	if q.proto != "ip" || err != nil || n > 255 {
		return nil, fmt.Errorf("proto %s: want ip proto and a number, tcp, udp or icmp", value)
	}
	return ipProtocol(n), nil
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
	proto := map[string]node{"": or{isTCP, isUDP}, "ip": or{isTCP, isUDP}, "tcp": isTCP, "udp": isUDP}[q.proto]
	if proto == nil {
		return nil, fmt.Errorf("%s has no ports", q.proto)
	}
	at := func(offset uint32) node {
		load := transport(offset, 2)
		if from == to {
			return test{load, bpf.JumpEqual, uint32(from)}
		}
		return and{test{load, bpf.JumpGreaterOrEqual, uint32(from)}, test{load, bpf.JumpLessOrEqual, uint32(to)}}
	}
	return all(proto, unbroken, q.either(at(0), at(2))), nil
}

func (q qualifiers) address(value string) (node, error) {
	prefix, err := parsePrefix(value, q.kind == "net")
	if err != nil {
		return nil, err
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
	default:
		return nil, fmt.Errorf("%s has no addresses: write `%s and host %s`", q.proto, q.proto, value)
	}
}

// parsePrefix parses an address, or a network if isNet is set.
func parsePrefix(value string, isNet bool) (netip.Prefix, error) {
	if isNet {
		prefix, err := netip.ParsePrefix(value)
		if err != nil || !prefix.Addr().Is4() || prefix != prefix.Masked() {
			return prefix, fmt.Errorf("net %s: want a network, as in 10.20.0.0/16", value)
		}
		return prefix, nil
	}
	a, err := netip.ParseAddr(value)
	if err != nil || !a.Is4() {
		return netip.Prefix{}, fmt.Errorf("%q is no IPv4 address: names are not resolved", value)
	}
	return netip.PrefixFrom(a, 32), nil
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
}
