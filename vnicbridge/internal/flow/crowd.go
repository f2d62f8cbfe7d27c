package flow

import "github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"

// crowdShare is the part of the established flows, 1/crowdShare, from which on the client that
// has most of them makes room for others.
const crowdShare = 16

// crowd is what the last survey found of the client that has most established flows, if these
// fill the table beyond their share (EstablishedShare). A client is a site, or a segment.
type crowd struct {
	site  packet.Addr
	flows []victim            // some of its flows, the idlest first
	of    map[packet.Addr]int // the flows of each client in the sample
}

// crowdOf returns the client that has most flows of a sample, whose flows come first, unless it
// has few. of says how many of the sample each client has.
func (t *Table) crowdOf(sample []victim, of map[packet.Addr]int) crowd {
	c := crowd{site: t.siteOf(sample[0]), of: of}
	if c.of[c.site]*crowdShare < len(sample) {
		return crowd{}
	}
	for _, v := range sample[:len(sample)/crowdShare] {
		if t.siteOf(v) == c.site {
			c.flows = append(c.flows, v)
		}
	}
	return c
}

// evictOfCrowd ends an established flow that is not idle, of the client that has most of them,
// so that another client, which has less than half as many, can open one. Otherwise one client
// that keeps all its connections busy could keep everybody else out. It returns false if there
// is no such flow.
func (t *Table) evictOfCrowd(now int64, opener packet.Addr) bool {
	c := &t.crowd
	if 2*c.of[packet.SiteOf(opener)] >= c.of[c.site] {
		return false
	}
	for len(c.flows) > 0 {
		v := c.flows[0]
		c.flows = c.flows[1:]
		if found, ok := victimOf(&t.Records[v.number], v.number); !ok || found.class != ClassEstablished || t.siteOf(v) != c.site {
			continue
		}
		t.end(v.number, now)
		c.of[c.site]--
		c.of[packet.SiteOf(opener)]++
		return true
	}
	return false
}
