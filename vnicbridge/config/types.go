package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Protocol is the IANA number of an IP protocol. Its text form is "tcp", "udp" or "icmp".
type Protocol uint8

// The protocols that can have flows. ICMP stands for ICMPv6 as well.
const (
	ICMP Protocol = 1
	TCP  Protocol = 6
	UDP  Protocol = 17
)

// Carried tells whether the protocol can have flows. Packets of other protocols are refused.
func (p Protocol) Carried() bool { return p == ICMP || p == TCP || p == UDP }

var protocolNames = map[Protocol]string{ICMP: "icmp", TCP: "tcp", UDP: "udp"}

// String returns the protocol's name, or its number for one that has none here.
func (p Protocol) String() string {
	if name, ok := protocolNames[p]; ok {
		return name
	}
	return "protocol " + strconv.Itoa(int(p))
}

// MarshalText implements encoding.TextMarshaler.
func (p Protocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Protocol) UnmarshalText(text []byte) error {
	for proto, name := range protocolNames {
		if name == string(text) {
			*p = proto
			return nil
		}
	}
	return fmt.Errorf("unknown protocol %q: want tcp, udp or icmp", text)
}

// PortRange is a range of ports of one protocol, both ends included. Its text
// form is "tcp/80", "udp/5000-5010", or "any" for every port of both protocols.
type PortRange struct {
	Protocol    Protocol // TCP or UDP; 0 stands for any
	First, Last uint16
}

// AnyPort is the range "any".
var AnyPort = PortRange{Last: 65535}

// ParsePortRange parses the text form of a PortRange.
func ParsePortRange(text string) (PortRange, error) {
	if text == "any" {
		return AnyPort, nil
	}
	if strings.Contains(text, ",") {
		return PortRange{}, fmt.Errorf("port %q: separate ports by spaces, as in tcp/80 tcp/443", text)
	}
	name, ports, ok := strings.Cut(text, "/")
	if !ok || (name != "tcp" && name != "udp") {
		return PortRange{}, fmt.Errorf("port %q: want tcp/<port>, udp/<port>, a range such as tcp/8000-8099, or any", text)
	}
	r := PortRange{Protocol: TCP}
	if name == "udp" {
		r.Protocol = UDP
	}
	from, to, isRange := strings.Cut(ports, "-")
	if !isRange {
		to = from
	}
	var err error
	if r.First, err = parsePort(from); err == nil {
		r.Last, err = parsePort(to)
	}
	if err != nil || r.First > r.Last {
		return PortRange{}, fmt.Errorf("port %q: ports go from 1 to 65535, the lower first", text)
	}
	return r, nil
}

func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err == nil && n == 0 {
		err = strconv.ErrRange
	}
	return uint16(n), err
}

// Contains tells whether a port of a protocol lies in the range.
func (r PortRange) Contains(proto Protocol, port uint16) bool {
	return (r.Protocol == 0 || r.Protocol == proto) && r.First <= port && port <= r.Last
}

// String returns the text form.
func (r PortRange) String() string {
	switch {
	case r == AnyPort:
		return "any"
	case r.First == r.Last:
		return fmt.Sprintf("%s/%d", r.Protocol, r.First)
	default:
		return fmt.Sprintf("%s/%d-%d", r.Protocol, r.First, r.Last)
	}
}

// MarshalText implements encoding.TextMarshaler.
func (r PortRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *PortRange) UnmarshalText(text []byte) (err error) {
	*r, err = ParsePortRange(string(text))
	return err
}

// ParseClient parses the text form of a rule's client: a network, or an address as the
// network of itself.
func ParseClient(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return prefix, fmt.Errorf("client %q: want an address or a network, as in 10.20.0.0/16 or 2001:db8::/32", text)
	}
	return prefix.Masked(), nil
}

// AddrRange is a range of addresses, both ends included. Its text form is
// "192.168.50.2-192.168.50.254", or one address alone.
type AddrRange struct {
	First, Last netip.Addr
}

// ParseAddrRange parses the text form of an AddrRange.
func ParseAddrRange(text string) (AddrRange, error) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	first, err := netip.ParseAddr(from)
	if err != nil {
		return AddrRange{}, fmt.Errorf("address range %q: %w", text, err)
	}
	last, err := netip.ParseAddr(to)
	if err != nil {
		return AddrRange{}, fmt.Errorf("address range %q: %w", text, err)
	}
	if first.Is4() != last.Is4() || last.Less(first) {
		return AddrRange{}, fmt.Errorf("address range %q: want two addresses of one family, the lower first", text)
	}
	return AddrRange{first, last}, nil
}

// IsZero tells whether the range is unset.
func (r AddrRange) IsZero() bool { return r == AddrRange{} }

// Contains tells whether an address lies in the range.
func (r AddrRange) Contains(a netip.Addr) bool {
	return r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0
}

// String returns the text form.
func (r AddrRange) String() string {
	if r.IsZero() {
		return ""
	}
	return r.First.String() + "-" + r.Last.String()
}

// MarshalText implements encoding.TextMarshaler.
func (r AddrRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. No text is the unset range.
func (r *AddrRange) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*r = AddrRange{}
		return nil
	}
	*r, err = ParseAddrRange(string(text))
	return err
}

// MAC is an Ethernet address. Its text form is "50:01:02:03:04:05".
type MAC [6]byte

// BroadcastMAC addresses all devices on a link.
var BroadcastMAC = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// ParseMAC parses the text form of a MAC.
func ParseMAC(text string) (MAC, error) {
	hw, err := net.ParseMAC(text)
	if err != nil || len(hw) != len(MAC{}) {
		return MAC{}, fmt.Errorf("MAC address %q: want six bytes, as in 50:01:02:03:04:05", text)
	}
	return MAC(hw), nil
}

// IsZero tells whether the address is unset.
func (m MAC) IsZero() bool { return m == MAC{} }

// IsUnicast tells whether the address can be one device's own.
func (m MAC) IsUnicast() bool { return !m.IsGroup() && !m.IsZero() }

// IsGroup tells whether the address is that of several devices: broadcast or
// multicast (IEEE 802: the group bit).
func (m MAC) IsGroup() bool { return m[0]&1 != 0 }

// String returns the text form.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// MarshalText implements encoding.TextMarshaler.
func (m MAC) MarshalText() ([]byte, error) {
	if m.IsZero() {
		return nil, nil
	}
	return []byte(m.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler. No text is the unset
// address.
func (m *MAC) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*m = MAC{}
		return nil
	}
	*m, err = ParseMAC(string(text))
	return err
}
