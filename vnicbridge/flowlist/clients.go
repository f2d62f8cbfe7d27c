package flowlist

import (
	"cmp"
	"maps"
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Client is a site that opens flows, with the sums over its flows in the table.
type Client struct {
	Address  Site     `json:"address"`
	Flows    int      `json:"flows"`
	Segments []string `json:"segments"` // that serve it, or that it is in if it opens egress flows

	IdleSeconds float64 `json:"idle_seconds"` // since the last packet of any flow
	Packets     Traffic `json:"packets"`
	Bytes       Traffic `json:"bytes"` // of Ethernet frames, without offload headers
}

// ClientList is the answer of [View.Clients].
type ClientList struct {
	Matched int      `json:"matched"` // how many flows match, of all clients
	Clients []Client `json:"clients"` // those with the most flows, in that order
}

// MaxClients is how many clients are counted, and so the most that a list has.
const MaxClients = 1024

// Clients lists the clients that have the most flows among those that match a filter. The
// error says what of the filter is impossible.
func (v *View) Clients(filter Filter) (ClientList, error) {
	if err := v.complete(&filter); err != nil {
		return ClientList{}, err
	}
	for {
		c := census{flowMatcher: flowMatcher{filter, v}, now: v.Now(), candidates: make(map[packet.Addr]int)}
		if !v.Each(c.nominate) {
			continue
		}
		c.found = make(map[packet.Addr]*Client, len(c.candidates))
		if v.Each(c.add) {
			return c.list(), nil
		}
	}
}

// census finds the clients with the most flows. A first pass over the table finds
// candidates, and a second pass counts their flows. A client is known by its site.
type census struct {
	flowMatcher
	now int64

	candidates map[packet.Addr]int
	matched    int
	found      map[packet.Addr]*Client
}

// nominate is a step of the algorithm of Misra and Gries ("Finding repeated elements",
// 1982): in the end, every client with more than 1/MaxClients of the flows is a candidate.
func (c *census) nominate(f *flow.Flow) {
	if !c.matches(f) {
		return
	}
	client := packet.SiteOf(f.Orig.Src)
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

func (c *census) add(f *flow.Flow) {
	if !c.matches(f) {
		return
	}
	c.matched++
	site := packet.SiteOf(f.Orig.Src)
	if _, ok := c.candidates[site]; !ok {
		return
	}
	d := c.describe(f, max(f.Idle(c.now), 0).Seconds())
	client := c.found[site]
	if client == nil {
		client = &Client{Address: SiteOf(d.Client.Addr()), IdleSeconds: d.IdleSeconds}
		c.found[site] = client
	}
	client.Flows++
	if !slices.Contains(client.Segments, d.Segment) {
		client.Segments = append(client.Segments, d.Segment)
	}
	client.IdleSeconds = min(client.IdleSeconds, d.IdleSeconds)
	client.Packets.Add(d.Packets)
	client.Bytes.Add(d.Bytes)
}

// Add adds another count.
func (t *Traffic) Add(other Traffic) {
	t.FromClient += other.FromClient
	t.FromServer += other.FromServer
}

// list returns what was counted, the clients with the most flows first.
func (c *census) list() ClientList {
	clients := slices.SortedFunc(maps.Values(c.found), func(a, b *Client) int {
		return cmp.Or(cmp.Compare(b.Flows, a.Flows), a.Address.compare(b.Address))
	})
	l := ClientList{c.matched, make([]Client, min(len(clients), c.filter.Limit))}
	for i := range l.Clients {
		slices.Sort(clients[i].Segments)
		l.Clients[i] = *clients[i]
	}
	return l
}
