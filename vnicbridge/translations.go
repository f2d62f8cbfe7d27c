package vnicbridge

// origOf returns the tuple of a client's packets. reply is the tuple of the packets with
// which a segment answers the client.
func (fw *forwarder) origOf(segment string, reply tuple) (orig tuple, ok bool) {
	for _, vnic := range fw.currentRules().vnicsOf[segment] {
		if f, dir := fw.lookup(flowKey{reply, vnic.index}); f != nil && dir == reverse {
			return f.orig, true
		}
	}
	return tuple{}, false
}

// replyOf is the reverse of origOf, for a server of a segment. If orig.dst is noAddr, the
// client may have dialed any address, and replyOf returns the first flow that it finds.
func (fw *forwarder) replyOf(segment string, orig tuple, server addr) (reply tuple, ok bool) {
	dialed := orig.dst
	for port, address := range fw.currentRules().entrances(segment) {
		if dialed != noAddr && dialed != address {
			continue
		}
		orig.dst = address
		f, dir := fw.lookup(flowKey{orig, port.index})
		if f != nil && dir == forward && f.reply.src == server {
			return f.reply, true
		}
	}
	return tuple{}, false
}
