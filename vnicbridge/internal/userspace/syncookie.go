package userspace

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// If SYNs come too fast, or if there are half as many greetings as there may be, the bridge answers a SYN
// and keeps nothing: its sequence number, a SYN cookie (RFC 4987 §3.6), tells all that it needs when
// the client acknowledges it. So a flood of SYNs costs no memory, and drives no client out. A cookie
// rounds the client's MSS down, and makes the client's SYN anew without options that the bridge does
// not know. On the kernel path the program makes the cookies (syncookie.h), and userspace checks them.

// The rate of SYNs beyond which the bridge answers with cookies: SYN_COST and SYN_BURST in
// syncookie.h.
const (
	synCost  = 1 << 20 // what a SYN takes of the rate, in ns: 954 a second
	SYNBurst = 256     // how many may come at once after a pause
)

// cookieMSS are the sizes that a cookie can tell: what common links leave of their MTU, as in
// tcp_v4_init_sequence of Linux's net/ipv4/syncookies.c.
var cookieMSS = [8]uint16{536, 1220, 1300, 1360, 1400, 1440, 1460, 8940}

// What the low 8 bits of a cookie tell; the others are a hash.
const (
	cookieMSSBits = 0x07 // the index of the MSS
	cookieSACK    = 0x08
	cookieScale   = 4    // where the scale begins
	noScale       = 0x0f // windows are not scaled
)

// mayKeep tells whether the bridge keeps a greeting for a SYN that comes now. Half of the room is for
// clients that acknowledge, who would drive the others out.
func (g *greetings) mayKeep(now int64) bool {
	g.synsUsed = max(g.synsUsed, now)
	if len(g.known) >= MaxGreetings/2 || g.synsUsed-now >= SYNBurst*synCost {
		return false
	}
	g.synsUsed += synCost
	return true
}

// cookiePeriod returns the number of a time of 69 s. A client can answer a cookie for so long, at
// least; twice as long at most.
func cookiePeriod(now int64) uint64 { return uint64(now) >> 36 }

// cookieFor returns the cookie for a client's SYN, which has an offer.
func cookieFor(a *Arrival, hashes *rules.DecisionTable, asks packet.Offer) uint32 {
	data := uint32(0)
	for i, mss := range cookieMSS {
		if mss <= max(asks.MSS, cookieMSS[0]) {
			data = uint32(i)
		}
	}
	if asks.SACK {
		data |= cookieSACK
	}
	scale := uint32(noScale)
	if asks.Scaled {
		scale = uint32(asks.Scale)
	}
	return cookie(a, hashes, a.Seq(), cookiePeriod(a.Now), data|scale<<cookieScale)
}

// cookie returns the cookie that tells data to a client, whose first number is first, in a period.
func cookie(a *Arrival, hashes *rules.DecisionTable, first uint32, period uint64, data uint32) uint32 {
	return uint32(hashes.HashCookie(a.Tuple, first, period<<8|uint64(data)))<<8 | data
}

// answeredCookie returns the greeting whose cookie a client's segment acknowledges, or nil.
func (g *greetings) answeredCookie(a *Arrival, hashes *rules.DecisionTable) *greeting {
	if !a.Continues() {
		return nil
	}
	period := cookiePeriod(a.Now)
	number, first := a.Ack()-1, a.Seq()-1
	data := number & 0xff
	if number != cookie(a, hashes, first, period, data) && number != cookie(a, hashes, first, period-1, data) {
		return nil
	}
	asks := packet.Offer{MSS: cookieMSS[data&cookieMSSBits], SACK: data&cookieSACK != 0}
	if scale := data >> cookieScale; scale != noScale {
		asks.Scaled, asks.Scale = true, uint8(scale)
	}
	var echo uint32
	asks.Time, echo, asks.Timed = a.Times()
	c := &greeting{
		key: a.key(), in: a.In, syn: a.synOf(first, asks), first: first, number: number, asks: asks, offer: offerTo(a, asks), began: a.Now,
	}
	c.offer.Time = echo
	g.add(c)
	return c
}

// synOf returns the frame of the SYN with which the connection of a client's segment has begun.
func (a *Arrival) synOf(first uint32, asks packet.Offer) packet.Frame {
	syn := a.SYN(first, asks)
	return syn.Frame(a.Frame.SrcMAC(), a.Frame.DstMAC())
}
