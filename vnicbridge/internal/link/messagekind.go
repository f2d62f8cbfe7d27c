package link

import "github.com/caddy-vnic/caddy-vnic/vnicbridge/config"

// MessageKind classifies messages of ARP, NDP and MLD: enum message_kind of bpf/types.h has
// the same values. Each kind has its own rate limit, so that a flood of one kind does not keep
// out another. ARP has only the first four.
type MessageKind uint32

const (
	MessageAnybody   MessageKind = iota // about the pseudo address, from a host to which no frames go
	MessageAnswer                       // a reply, or an advertisement, to the pseudo address
	MessageNeighbour                    // from a host to which frames go
	MessageGateway                      // from the gateway
	MessageLinkLocal                    // about a link-local address, which may be the bridge's
	MessageMLD                          // a query
	MessageIgnored                      // about routers, or truncated: userspace only counts it
	MessageKinds                        // the number of kinds
)

// KindOf returns the kind of the messages that a host sends. mac is the MAC to which frames
// for the host go, or zero if none go there.
func KindOf(mac config.MAC, gateway bool) MessageKind {
	switch {
	case gateway:
		return MessageGateway
	case mac.IsZero():
		return MessageAnybody
	default:
		return MessageNeighbour
	}
}
