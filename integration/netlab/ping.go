package netlab

import (
	"net/netip"
	"time"
)

// PingOptions say how [Host.Ping] pings. Zero values take the defaults.
type PingOptions struct {
	Source   netip.Addr      // default: what the routing table says
	Count    int             // echo requests; default 1
	Interval time.Duration   // between requests; default 100 ms
	Timeout  time.Duration   // for the replies, after the last request; default 1 s
	Size     int             // bytes of payload, at least 16; default 56, as ping's
	OnReply  func(PingReply) // called at each reply
}

// PingReply is an echo reply.
type PingReply struct {
	From  netip.Addr
	Seq   int // from 1
	TTL   int // of IPv6, the hop limit
	Bytes int // of the ICMP message: what ping prints
	RTT   time.Duration
}

// PingResult is what a ping has found.
type PingResult struct {
	ID         uint16 // the ICMP identifier of all the requests
	Sent       int
	Replies    []PingReply // one per sequence number, as they came
	Duplicates int         // further replies to a request
}

// Lost is the number of requests without a reply.
func (r *PingResult) Lost() int { return r.Sent - len(r.Replies) }

// RTT sums up the round-trip times.
func (r *PingResult) RTT() RTT {
	times := make([]time.Duration, len(r.Replies))
	for i, reply := range r.Replies {
		times[i] = reply.RTT
	}
	return SumUpRTT(times)
}
