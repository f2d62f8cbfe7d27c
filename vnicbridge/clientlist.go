package vnicbridge

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Client is a host that opens flows, with what its flows in the table add up to.
type Client struct {
	Address  netip.Addr `json:"address"`
	Flows    int        `json:"flows"`
	Segments []string   `json:"segments"` // that serve it; of egress flows, that it is in

	IdleSeconds float64     `json:"idle_seconds"` // since the last packet of any flow
	Packets     FlowTraffic `json:"packets"`
	Bytes       FlowTraffic `json:"bytes"` // of Ethernet frames, without offload headers
}

// ClientList is an answer to a FlowFilter.
type ClientList struct {
	Matched int      `json:"matched"` // how many flows match, of whatever client
	Clients []Client `json:"clients"` // those with the most flows, in that order
}

// MaxClients is how many clients a list of them tells apart, and so the most that it
// has.
const MaxClients = 1024

// clients lists the clients with the most flows that match a filter.
func (v *flowView) clients(filter FlowFilter) (ClientList, error) {
	if err := v.complete(&filter); err != nil {
		return ClientList{}, err
	}
	for {
		c := census{flowMatcher: flowMatcher{filter, v.bridgeOf}, now: v.now(), candidates: make(map[addr]int)}
		if !v.each(c.nominate) {
			continue
		}
		c.found = make(map[addr]*Client, len(c.candidates))
		if v.each(c.add) {
			return c.list(), nil
		}
	}
}

// census finds the clients with the most flows: one look at the table finds who they
// may be, and a second one counts theirs.
type census struct {
	flowMatcher
	now int64

	candidates map[addr]int
	matched    int
	found      map[addr]*Client
}

// nominate is a step of the algorithm of Misra and Gries ("Finding repeated
// elements", 1982): who has more than one in MaxClients of all flows is a candidate in
// the end.
func (c *census) nominate(f *flow) {
	if !c.matches(f) {
		return
	}
	client := f.orig.src
	if _, known := c.candidates[client]; known || len(c.candidates) < MaxClients {
		c.candidates[client]++
		return
	}
	for other := range c.candidates {
		if c.candidates[other]--; c.candidates[other] == 0 {
			delete(c.candidates, other)
		}
	}
}

func (c *census) add(f *flow) {
	if !c.matches(f) {
		return
	}
	c.matched++
	if _, ok := c.candidates[f.orig.src]; !ok {
		return
	}
	d := c.describe(f, max(f.idle(c.now), 0).Seconds())
	client := c.found[f.orig.src]
	if client == nil {
		client = &Client{Address: d.Client.Addr(), IdleSeconds: d.IdleSeconds}
		c.found[f.orig.src] = client
	}
	client.Flows++
	if !slices.Contains(client.Segments, d.Segment) {
		client.Segments = append(client.Segments, d.Segment)
	}
	client.IdleSeconds = min(client.IdleSeconds, d.IdleSeconds)
	client.Packets.add(d.Packets)
	client.Bytes.add(d.Bytes)
}

func (t *FlowTraffic) add(other FlowTraffic) {
	t.FromClient += other.FromClient
	t.FromServer += other.FromServer
}

// list is what was counted, in order.
func (c *census) list() ClientList {
	clients := slices.SortedFunc(maps.Values(c.found), func(a, b *Client) int {
		return cmp.Or(cmp.Compare(b.Flows, a.Flows), a.Address.Compare(b.Address))
	})
	l := ClientList{c.matched, make([]Client, min(len(clients), c.filter.Limit))}
	for i := range l.Clients {
		slices.Sort(clients[i].Segments)
		l.Clients[i] = *clients[i]
	}
	return l
}
