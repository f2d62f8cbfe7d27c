package userspace

import (
	"hash/maphash"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// If there are as many greetings as there may be, the bridge answers a SYN and keeps nothing: its
// sequence number, a SYN cookie (RFC 4987 §3.6), tells all that it needs when the client
// acknowledges it. So a flood of SYNs costs no memory, and drives no client out. A cookie rounds the
// client's MSS down, and makes the client's SYN anew without options that the bridge does not know.

// cookieTime is for how long a client can answer a cookie, at least; twice as long at most.
const cookieTime = time.Minute

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

// cookieFor returns the cookie for a client's SYN, which has an offer.
func (g *greetings) cookieFor(a *Arrival, asks packet.Offer) uint32 {
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
	g.lastCookie = a.Now
	return g.cookie(a, a.Seq(), a.Now/int64(cookieTime), data|scale<<cookieScale)
}

// cookie returns the cookie that tells data to a client, whose first number is first, in a minute.
func (g *greetings) cookie(a *Arrival, first uint32, minute int64, data uint32) uint32 {
	type told struct {
		packet.Tuple
		first, data uint32
		minute      int64
	}
	return uint32(maphash.Comparable(g.seed, told{a.Tuple, first, data, minute}))<<8 | data
}

// answeredCookie returns the greeting whose cookie a client's segment acknowledges, or nil.
func (g *greetings) answeredCookie(a *Arrival) *greeting {
	minute := a.Now / int64(cookieTime)
	if !g.cookiesAreOut(a.Now) || !a.Continues() {
		return nil
	}
	number, first := a.Ack()-1, a.Seq()-1
	data := number & 0xff
	if number != g.cookie(a, first, minute, data) && number != g.cookie(a, first, minute-1, data) {
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

// cookiesAreOut tells whether a client may still answer a cookie.
func (g *greetings) cookiesAreOut(now int64) bool {
	return g.lastCookie != 0 && now-g.lastCookie < 2*int64(cookieTime)
}

// synOf returns the frame of the SYN with which the connection of a client's segment has begun.
func (a *Arrival) synOf(first uint32, asks packet.Offer) packet.Frame {
	ip := packet.IPHeader(a.Src, a.Dst, a.Proto)
	return packet.BuildPacket(a.Frame.SrcMAC(), a.Frame.DstMAC(), ip, a.SYN(ip, first, asks))
}
