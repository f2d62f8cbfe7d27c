package vnicbridge

import (
	"cmp"
	"container/heap"
	"fmt"
	"net/netip"
	"slices"
)

// Flow is a conversation that the bridge carries, as it is at one moment. Who opened
// it is its client, whoever answers is its server. For ICMP the client's port is the
// identifier of its echo requests, and the server's is 0.
type Flow struct {
	Protocol  Protocol      `json:"protocol"`
	State     FlowState     `json:"state"`
	Direction FlowDirection `json:"direction"`

	Bridge  string `json:"bridge,omitempty"` // by which it comes in or goes out; none for a reach flow
	Segment string `json:"segment"`          // that serves it; of an egress flow, that opened it
	Peer    string `json:"peer,omitempty"`   // the segment that opened a reach flow

	Client      netip.AddrPort `json:"client"`
	Destination netip.AddrPort `json:"destination"` // where the client sends to: the pseudo address, or an alias of the server
	Source      netip.AddrPort `json:"source"`      // as whom the server sees the client: an alias, or the pseudo address
	Server      netip.AddrPort `json:"server"`

	IdleSeconds float64     `json:"idle_seconds"` // since the last packet, in steps of 0.067 s
	Packets     FlowTraffic `json:"packets"`      // modulo 2²⁴
	Bytes       FlowTraffic `json:"bytes"`        // of Ethernet frames, without offload headers; modulo 2⁴⁰
}

// FlowTraffic is a count for each direction of a flow.
type FlowTraffic struct {
	FromClient uint64 `json:"from_client"`
	FromServer uint64 `json:"from_server"`
}

// FlowState is the phase of a flow's life. UDP and ICMP flows are half-open until
// they are answered, and never closing.
type FlowState string

// The states of a flow.
const (
	FlowHalfOpen    FlowState = "half_open"   // its handshake is not complete, or nothing has answered
	FlowEstablished FlowState = "established" // both sides talk
	FlowClosing     FlowState = "closing"     // after a RST, or a FIN of each side
)

// FlowDirection says between what a flow is.
type FlowDirection string

// The directions of flows.
const (
	FlowInbound FlowDirection = "inbound" // from the network to a segment
	FlowEgress  FlowDirection = "egress"  // from a segment to the network
	FlowReach   FlowDirection = "reach"   // from a segment to another one
)

// Bounds of a list of flows.
const (
	DefaultFlowLimit = 100
	MaxFlowLimit     = 10000
)

// FlowFilter says which flows are wanted: those that match all that is set.
type FlowFilter struct {
	Client   netip.Prefix // the network of the client's address
	Segment  string       // that serves the flow, or opened it
	Bridge   string
	State    FlowState
	Protocol Protocol
	Limit    int // the most flows that are listed, to MaxFlowLimit; 0: DefaultFlowLimit
}

// FlowList is an answer to a FlowFilter.
type FlowList struct {
	Matched int    `json:"matched"` // how many flows match, listed or not
	Flows   []Flow `json:"flows"`   // those of them that had a packet last, the latest first
}

// flowView is what lists see of a data plane.
type flowView struct {
	// each visits every flow. If it returns false, the flows have moved to another
	// table meanwhile, and some may not have been visited.
	each func(visit func(*flow)) (all bool)
	now  func() int64 // the clock of the flows' times

	segments, bridges []string         // the names that a filter may ask for
	bridgeOf          map[*port]string // the names of the bridges by their NICs' ports
}

// flows lists the flows that a filter asks for.
func (v *flowView) flows(filter FlowFilter) (FlowList, error) {
	if err := v.complete(&filter); err != nil {
		return FlowList{}, err
	}
	for {
		l := lister{flowMatcher: flowMatcher{filter, v.bridgeOf}, now: v.now()}
		if v.each(l.visit) {
			return l.list(), nil
		}
	}
}

// complete fills in what a filter leaves open. The error is for what cannot be.
func (v *flowView) complete(filter *FlowFilter) error {
	if filter.Segment != "" && !slices.Contains(v.segments, filter.Segment) {
		return UnknownSegment(filter.Segment, v.segments)
	}
	if filter.Bridge != "" && !slices.Contains(v.bridges, filter.Bridge) {
		return UnknownBridge(filter.Bridge, v.bridges)
	}
	switch filter.State {
	case "", FlowHalfOpen, FlowEstablished, FlowClosing:
	default:
		return fmt.Errorf("unknown state %q: want %s, %s or %s", filter.State, FlowHalfOpen, FlowEstablished, FlowClosing)
	}
	if filter.Limit < 0 || filter.Limit > MaxFlowLimit {
		return fmt.Errorf("limit %d: want 1 to %d", filter.Limit, MaxFlowLimit)
	}
	filter.Limit = cmp.Or(filter.Limit, DefaultFlowLimit)
	return nil
}

// flowMatcher finds the flows that a filter asks for.
type flowMatcher struct {
	filter   FlowFilter
	bridgeOf map[*port]string // the names of the bridges by their NICs' ports
}

// lister gathers the flows of a list.
type lister struct {
	flowMatcher
	now int64

	matched int
	kept    idlest
}

func (l *lister) visit(f *flow) {
	if !l.matches(f) {
		return
	}
	l.matched++
	idle := max(f.idle(l.now), 0).Seconds()
	switch {
	case len(l.kept) < l.filter.Limit:
		heap.Push(&l.kept, l.describe(f, idle))
	case idle < l.kept[0].IdleSeconds:
		l.kept[0] = l.describe(f, idle)
		heap.Fix(&l.kept, 0)
	}
}

// list is what was gathered, in order.
func (l *lister) list() FlowList {
	flows := make([]Flow, len(l.kept))
	for i := range flows {
		flows[len(flows)-1-i] = heap.Pop(&l.kept).(Flow)
	}
	return FlowList{l.matched, flows}
}

// idlest is a heap of flows, the one that was idle for the longest on top.
type idlest []Flow

func (h idlest) Len() int      { return len(h) }
func (h idlest) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h idlest) Less(i, j int) bool {
	a, b := &h[i], &h[j]
	return cmp.Or(cmp.Compare(a.IdleSeconds, b.IdleSeconds), a.Client.Compare(b.Client), a.Server.Compare(b.Server), cmp.Compare(a.Protocol, b.Protocol)) > 0
}
func (h *idlest) Push(f any) { *h = append(*h, f.(Flow)) }
func (h *idlest) Pop() any {
	last := len(*h) - 1
	f := (*h)[last]
	*h = (*h)[:last]
	return f
}

func (m *flowMatcher) matches(f *flow) bool {
	w := &m.filter
	switch {
	case w.Protocol != 0 && w.Protocol != f.orig.proto,
		w.Segment != "" && w.Segment != segmentOf(f.in) && w.Segment != segmentOf(f.out),
		w.Bridge != "" && w.Bridge != m.bridgeOf[f.in] && w.Bridge != m.bridgeOf[f.out],
		w.Client.IsValid() && !w.Client.Contains(f.orig.src.netip()),
		w.State != "" && w.State != phaseOf(f):
		return false
	}
	return true
}

func (m *flowMatcher) describe(f *flow, idle float64) Flow {
	d := Flow{
		Protocol: f.orig.proto, State: phaseOf(f),
		Client:      netip.AddrPortFrom(f.orig.src.netip(), f.orig.sport),
		Destination: netip.AddrPortFrom(f.orig.dst.netip(), f.orig.dport),
		Source:      netip.AddrPortFrom(f.reply.dst.netip(), f.reply.dport),
		Server:      netip.AddrPortFrom(f.reply.src.netip(), f.reply.sport),
		IdleSeconds: idle,
	}
	d.Packets.FromClient, d.Bytes.FromClient = f.sent[forward].total()
	d.Packets.FromServer, d.Bytes.FromServer = f.sent[reverse].total()
	switch {
	case f.in.nic != nil:
		d.Direction, d.Bridge, d.Segment = FlowInbound, m.bridgeOf[f.in], segmentOf(f.out)
	case f.out.nic != nil:
		d.Direction, d.Bridge, d.Segment = FlowEgress, m.bridgeOf[f.out], segmentOf(f.in)
	default:
		d.Direction, d.Segment, d.Peer = FlowReach, segmentOf(f.out), segmentOf(f.in)
	}
	return d
}

// segmentOf is the name of the segment that a port is of, or "".
func segmentOf(p *port) string {
	if p.vnic == nil {
		return ""
	}
	return p.vnic.segment
}

// phaseOf is the phase that a flow is in, for people to read.
func phaseOf(f *flow) FlowState {
	switch f.class() {
	case classClosing:
		return FlowClosing
	case classEstablished:
		return FlowEstablished
	case classUDP, classICMP:
		if f.sent[reverse].count.Load() != 0 {
			return FlowEstablished
		}
	}
	return FlowHalfOpen
}
