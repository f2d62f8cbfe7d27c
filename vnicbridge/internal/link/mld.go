package link

import (
	"encoding/binary"
	"errors"
	"net"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// mldHopLimit is the hop limit of every message of MLD (RFC 3810 §5).
const mldHopLimit = 1

// Lengths of queries in bytes, by which their versions differ (RFC 3810 §8.1).
const (
	queryLenV1 = 24
	queryLen   = 28 // without sources
)

// The groups that reports go to.
var (
	allRouters     = packet.Addr{0: 0xff, 1: 0x02, 15: 2}    // ff02::2 (RFC 4291 §2.7.1)
	allMLDv2Router = packet.Addr{0: 0xff, 1: 0x02, 15: 0x16} // ff02::16 (RFC 3810 §5.2.14)
)

// query asks the hosts on a link which multicast groups they are in.
type query struct {
	old   bool          // it is of MLDv1
	group packet.Addr   // :: stands for all groups
	delay time.Duration // answers are due in this time
}

var errInvalidQuery = errors.New("not a valid query of MLD")

// parseQuery parses a message of the type MLDQuery. It returns an error if the query is
// invalid by RFC 3810 §5.1.14 and §6.2. A query about some sources of a group counts as one
// about the group.
func (m *icmpv6) parseQuery() (q query, err error) {
	length := len(m.body)
	if m.hopLimit != mldHopLimit || !m.routerAlert || !isLinkLocal(m.src) || length < queryLenV1 {
		return q, errInvalidQuery
	}
	code := binary.BigEndian.Uint16(m.body[4:])
	q = query{old: length == queryLenV1, group: packet.Addr(m.body[8:]), delay: time.Duration(code) * time.Millisecond}
	if q.group != unspecified && !isMulticast(q.group) {
		return q, errInvalidQuery
	}
	if q.old {
		return q, nil
	}
	if length < queryLen || length < queryLen+16*int(binary.BigEndian.Uint16(m.body[26:])) {
		return q, errInvalidQuery
	}
	q.delay = responseDelay(code)
	return q, nil
}

// responseDelay decodes a Maximum Response Code: from 0x8000 on, it is a floating-point number
// with 3 bits of exponent and 12 bits of mantissa (RFC 3810 §5.1.3).
func responseDelay(code uint16) time.Duration {
	if code < 0x8000 {
		return time.Duration(code) * time.Millisecond
	}
	mantissa, exponent := time.Duration(code&0x0fff|0x1000), code>>12&7
	return mantissa << (exponent + 3) * time.Millisecond
}

// recordKind is what a record says about a group (RFC 3810 §5.2.12).
type recordKind = layers.MLDv2MulticastAddressRecordType

const (
	isIn  = layers.MLDv2MulticastAddressRecordTypeModeIsExcluded      // answers a query
	joins = layers.MLDv2MulticastAddressRecordTypeChangeToExcludeMode // no source is excluded
	parts = layers.MLDv2MulticastAddressRecordTypeChangeToIncludeMode // no source is included
)

// record says something about one group.
type record struct {
	kind  recordKind
	group packet.Addr
}

// reportFrame returns a frame with a report of MLDv2.
func reportFrame(src config.MAC, from packet.Addr, records []record) packet.Frame {
	report := &layers.MLDv2MulticastListenerReportMessage{}
	for _, r := range records {
		report.MulticastAddressRecords = append(report.MulticastAddressRecords,
			layers.MLDv2MulticastAddressRecord{RecordType: r.kind, MulticastAddress: net.IP(r.group[:])})
	}
	return icmpv6Frame(src, GroupMAC(allMLDv2Router), mldHeader(from, allMLDv2Router), packet.MLDv2Report, report)
}

// reportFrameV1 returns a frame that tells a querier of MLDv1 the same.
func reportFrameV1(src config.MAC, from packet.Addr, r record) packet.Frame {
	message := layers.MLDv1Message{MulticastAddress: net.IP(r.group[:])}
	if r.kind == parts {
		return icmpv6Frame(src, GroupMAC(allRouters), mldHeader(from, allRouters), packet.MLDv1Done,
			&layers.MLDv1MulticastListenerDoneMessage{MLDv1Message: message})
	}
	return icmpv6Frame(src, GroupMAC(r.group), mldHeader(from, r.group), packet.MLDv1Report,
		&layers.MLDv1MulticastListenerReportMessage{MLDv1Message: message})
}

// mldHeader returns the IPv6 header of a message of MLD, with the Router Alert option.
func mldHeader(from, to packet.Addr) *layers.IPv6 {
	ip := ipv6Header(from, to, mldHopLimit)
	ip.HopByHop = &layers.IPv6HopByHop{Options: []*layers.IPv6HopByHopOption{
		{OptionType: optionRouterAlert, OptionData: []byte{0, 0}},
		{OptionType: optionPadN}, // gopacket pads wrongly
	}}
	ip.HopByHop.NextHeader = layers.IPProtocolICMPv6
	return ip
}
