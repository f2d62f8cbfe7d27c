package link

import (
	"errors"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// NDPMessage is a Neighbor Solicitation or a Neighbor Advertisement (RFC 4861 §4.3, §4.4).
type NDPMessage struct {
	Advertisement bool // else it is a solicitation
	From, To      packet.Addr
	Target        packet.Addr

	// MAC is what the option with a MAC says: the sender's in a solicitation, the target's
	// in an advertisement. It is zero if the message has no such option.
	MAC config.MAC

	Nonce string // of a solicitation (RFC 7527 §4.1); empty if there is none

	// Flags of an advertisement.
	Solicited, Override bool
}

// ndpHopLimit is the hop limit of every message of NDP. No router lets a packet through with
// it, so the message comes from the link.
const ndpHopLimit = 255

// optionNonce is the type of the nonce option (RFC 3971 §5.3.2).
const optionNonce layers.ICMPv6Opt = 14

// Flags of an advertisement (RFC 4861 §4.4).
const (
	flagSolicited = 0x40
	flagOverride  = 0x20
)

// ICMPv6 types of NDP (RFC 4861 §4).
const (
	routerSolicitation    = layers.ICMPv6TypeRouterSolicitation
	neighborSolicitation  = layers.ICMPv6TypeNeighborSolicitation
	neighborAdvertisement = layers.ICMPv6TypeNeighborAdvertisement
	redirect              = layers.ICMPv6TypeRedirect
)

// isNDP tells whether the message is one of NDP.
func (m *icmpv6) isNDP() bool { return m.kind() >= routerSolicitation && m.kind() <= redirect }

var errInvalidNDP = errors.New("not a valid message of NDP")

// ParseNDP parses a frame whose Ethernet type is IPv6. It returns an error unless the message
// is a solicitation or an advertisement that is valid by RFC 4861 §7.1.
func ParseNDP(f *packet.Frame) (NDPMessage, error) {
	m, err := parseICMPv6(f)
	if err != nil {
		return NDPMessage{}, err
	}
	return m.parseNDP()
}

func (m *icmpv6) parseNDP() (n NDPMessage, err error) {
	if m.code() != 0 {
		return n, errInvalidNDP
	}
	n.From, n.To = m.src, m.dst
	switch m.kind() {
	case neighborSolicitation:
		err = n.parseSolicitation(m.body[4:])
	case neighborAdvertisement:
		err = n.parseAdvertisement(m.body[4:])
	default:
		err = errInvalidNDP
	}
	if err == nil && (isMulticast(n.Target) || !n.Target.IsIPv6() || n.Target == unspecified) {
		err = errInvalidNDP
	}
	return n, err
}

// parseSolicitation reads what follows the checksum of a solicitation (RFC 4861 §7.1.1).
// gopacket checks the lengths of the message and of its options.
func (n *NDPMessage) parseSolicitation(body []byte) error {
	var l layers.ICMPv6NeighborSolicitation
	if err := l.DecodeFromBytes(body, gopacket.NilDecodeFeedback); err != nil {
		return err
	}
	n.Target = packet.Addr(l.TargetAddress)
	for _, option := range l.Options {
		if option.Type == optionNonce && n.Nonce == "" {
			n.Nonce = string(option.Data)
		}
	}
	err := n.parseMAC(l.Options, layers.ICMPv6OptSourceAddress)
	if n.From == unspecified && (n.To != SolicitedNode(n.Target) || !n.MAC.IsZero()) {
		return errInvalidNDP
	}
	return err
}

// parseAdvertisement reads what follows the checksum of an advertisement (RFC 4861 §7.1.2).
func (n *NDPMessage) parseAdvertisement(body []byte) error {
	var l layers.ICMPv6NeighborAdvertisement
	if err := l.DecodeFromBytes(body, gopacket.NilDecodeFeedback); err != nil {
		return err
	}
	n.Advertisement = true
	n.Target = packet.Addr(l.TargetAddress)
	n.Solicited, n.Override = l.Solicited(), l.Override()
	if n.Solicited && isMulticast(n.To) || n.From == unspecified {
		return errInvalidNDP
	}
	return n.parseMAC(l.Options, layers.ICMPv6OptTargetAddress)
}

// parseMAC reads the first option of a type that has a MAC. On Ethernet the option has 8
// bytes, and the MAC is that of one host.
func (n *NDPMessage) parseMAC(options layers.ICMPv6Options, kind layers.ICMPv6Opt) error {
	for _, option := range options {
		if option.Type != kind {
			continue
		}
		if len(option.Data) != len(n.MAC) || !config.MAC(option.Data).IsUnicast() {
			return errInvalidNDP
		}
		n.MAC = config.MAC(option.Data)
		return nil
	}
	return nil
}

// Frame returns an Ethernet frame that carries the message.
func (n NDPMessage) Frame(src, dst config.MAC) packet.Frame {
	ip := ipv6Header(n.From, n.To, ndpHopLimit)
	if n.Advertisement {
		return icmpv6Frame(src, dst, ip, neighborAdvertisement, &layers.ICMPv6NeighborAdvertisement{
			Flags: n.flags(), TargetAddress: n.Target[:], Options: n.options(layers.ICMPv6OptTargetAddress),
		})
	}
	return icmpv6Frame(src, dst, ip, neighborSolicitation, &layers.ICMPv6NeighborSolicitation{
		TargetAddress: n.Target[:], Options: n.options(layers.ICMPv6OptSourceAddress),
	})
}

func (n *NDPMessage) flags() (flags uint8) {
	if n.Solicited {
		flags |= flagSolicited
	}
	if n.Override {
		flags |= flagOverride
	}
	return flags
}

func (n *NDPMessage) options(kind layers.ICMPv6Opt) (options layers.ICMPv6Options) {
	if !n.MAC.IsZero() {
		options = append(options, layers.ICMPv6Option{Type: kind, Data: n.MAC[:]})
	}
	if n.Nonce != "" {
		options = append(options, layers.ICMPv6Option{Type: optionNonce, Data: []byte(n.Nonce)})
	}
	return options
}

// senderOf returns the MAC of the host that sent a message: what the message says, else what
// the frame says.
func (n *NDPMessage) senderOf(f *packet.Frame) config.MAC {
	if !n.MAC.IsZero() {
		return n.MAC
	}
	return f.SrcMAC()
}
