package userspace

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// OrigOf returns the tuple of a client's packets as they come in. reply is the tuple of the
// packets with which a segment answers the client. ok is false if there is no such flow.
func (fw *Forwarder) OrigOf(segment string, reply packet.Tuple) (orig packet.Tuple, ok bool) {
	for _, vnic := range fw.CurrentRules().VnicsOf[segment] {
		if f, dir := fw.Lookup(flow.Key{Tuple: reply, Iface: vnic.Index}); f != nil && dir == flow.Reverse {
			return f.Orig, true
		}
	}
	return packet.Tuple{}, false
}

// ReplyOf is the inverse of OrigOf. server is the server's address on the segment. If
// orig.Dst is NoAddr, the client may have dialed any address, and ReplyOf returns the first
// flow that it finds.
func (fw *Forwarder) ReplyOf(segment string, orig packet.Tuple, server packet.Addr) (reply packet.Tuple, ok bool) {
	dialed := orig.Dst
	for ifc, address := range fw.CurrentRules().Entrances(segment) {
		if dialed != packet.NoAddr && dialed != address || address.Family() != orig.Src.Family() {
			continue
		}
		orig.Dst = address
		f, dir := fw.Lookup(flow.Key{Tuple: orig, Iface: ifc.Index})
		if f != nil && dir == flow.Forward && f.Reply.Src == server {
			return f.Reply, true
		}
	}
	return packet.Tuple{}, false
}
