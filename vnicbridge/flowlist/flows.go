package flowlist

import (
	"cmp"
	"container/heap"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// Flow is a flow at one moment. The client opened it, and the server answers. For ICMP, the
// client's port is the identifier of its echo requests, and the server's port is 0.
type Flow struct {
	Protocol  config.Protocol `json:"protocol"`
	State     State           `json:"state"`
	Direction FlowDirection   `json:"direction"`

	Bridge  string `json:"bridge,omitempty"` // by which it comes in or goes out; a reach flow has none
	Segment string `json:"segment"`          // that serves it, or that opened it if it is an egress flow
	Peer    string `json:"peer,omitempty"`   // the segment that opened a reach flow

	// The first name of the steer rule that has chosen the segment. It is empty if no rule with
	// names has, or if the configuration no longer has the rule.
	Name string `json:"name,omitempty"`

	Client      netip.AddrPort `json:"client"`
	Destination netip.AddrPort `json:"destination"` // to which the client sends: the pseudo address, or an alias of the server
	Source      netip.AddrPort `json:"source"`      // under which the server sees the client: an alias, or the pseudo address
	Server      netip.AddrPort `json:"server"`

	IdleSeconds float64 `json:"idle_seconds"` // since the last packet, in steps of 0.067 s
	Packets     Traffic `json:"packets"`      // modulo 2²⁴
	Bytes       Traffic `json:"bytes"`        // of Ethernet frames, without offload headers; modulo 2⁴⁰
}

// Traffic is a count for each direction of a flow.
type Traffic struct {
	FromClient uint64 `json:"from_client"`
	FromServer uint64 `json:"from_server"`
}

// State is the phase of a flow. UDP and ICMP flows are half-open until they are answered, and
// are never closing.
type State string

// The states of a flow.
const (
	FlowHalfOpen State = "half_open"   // its handshake is not complete, or nothing has answered
	Established  State = "established" // both sides talk
	FlowClosing  State = "closing"     // after a RST, or a FIN of each side
)

// FlowDirection says between which networks a flow is.
type FlowDirection string

// The directions of flows.
const (
	Inbound FlowDirection = "inbound" // from the network to a segment
	Egress  FlowDirection = "egress"  // from a segment to the network
	Reach   FlowDirection = "reach"   // from a segment to another one
)

// Bounds of a list of flows.
const (
	DefaultFlowLimit = 100
	MaxLimit         = 10000
)

// Filter selects the flows that match all fields that are set.
type Filter struct {
	Client   netip.Prefix // the network of the client's address
	Segment  string       // that serves the flow, or opened it
	Bridge   string
	Name     string // the first of the steer rule that has chosen the segment
	State    State
	Protocol config.Protocol
	Limit    int // the most flows, or clients, that are listed, up to MaxLimit; 0: DefaultFlowLimit
}

// List is the answer of [View.Flows].
type List struct {
	Matched int    `json:"matched"` // how many flows match, listed or not
	Flows   []Flow `json:"flows"`   // those with the latest packets, the latest first
}

// View is what lists need of a data plane.
type View struct {
	// Each visits every flow. It returns false if the flows moved to another table
	// meanwhile. Then some flows may not have been visited.
	Each func(visit func(*flow.Flow)) (all bool)
	Now  func() int64 // the clock of the flows' times

	Segments, Bridges []string                // the names that a filter may ask for
	BridgeOf          map[*iface.Iface]string // the names of the bridges by their NICs' ifaces

	Names  []string                // the first names of the steer rules, which a filter may ask for
	NameOf func(*flow.Flow) string // the one of the rule that has chosen a flow's segment
}

// Flows lists the flows that match a filter. The error says what of the filter is impossible.
func (v *View) Flows(filter Filter) (List, error) {
	if err := v.complete(&filter); err != nil {
		return List{}, err
	}
	for {
		l := lister{flowMatcher: flowMatcher{filter, v}, now: v.Now()}
		if v.Each(l.visit) {
			return l.list(), nil
		}
	}
}

// complete checks a filter, and sets its default limit.
func (v *View) complete(filter *Filter) error {
	if filter.Segment != "" && !slices.Contains(v.Segments, filter.Segment) {
		return config.UnknownSegment(filter.Segment, v.Segments)
	}
	if filter.Bridge != "" && !slices.Contains(v.Bridges, filter.Bridge) {
		return config.UnknownBridge(filter.Bridge, v.Bridges)
	}
	if filter.Name != "" {
		if err := v.completeName(filter); err != nil {
			return err
		}
	}
	switch filter.State {
	case "", FlowHalfOpen, Established, FlowClosing:
	default:
		return fmt.Errorf("unknown state %q: want %s, %s or %s", filter.State, FlowHalfOpen, Established, FlowClosing)
	}
	if filter.Limit < 0 || filter.Limit > MaxLimit {
		return fmt.Errorf("limit %d: want 1 to %d", filter.Limit, MaxLimit)
	}
	filter.Limit = cmp.Or(filter.Limit, DefaultFlowLimit)
	return nil
}

// completeName puts the name of a filter into its normal form. It must be the first one of a rule.
func (v *View) completeName(filter *Filter) error {
	name, err := config.HostPattern(filter.Name)
	if err != nil {
		return err
	}
	if filter.Name = name; slices.Contains(v.Names, name) {
		return nil
	}
	const most = 10
	known := strings.Join(v.Names[:min(len(v.Names), most)], ", ")
	switch {
	case known == "":
		return fmt.Errorf("name %s: no steer rule has names", name)
	case len(v.Names) > most:
		known += fmt.Sprintf(" and %d more", len(v.Names)-most)
	}
	return fmt.Errorf("name %s: want the first name of a steer rule, which are %s", name, known)
}

// flowMatcher finds the flows of a view that match a filter.
type flowMatcher struct {
	filter Filter
	*View
}

// lister gathers the flows of a list.
type lister struct {
	flowMatcher
	now int64

	matched int
	kept    idlest
}

func (l *lister) visit(f *flow.Flow) {
	if !l.matches(f) {
		return
	}
	l.matched++
	idle := max(f.Idle(l.now), 0).Seconds()
	switch {
	case len(l.kept) < l.filter.Limit:
		heap.Push(&l.kept, l.describe(f, idle))
	case idle < l.kept[0].IdleSeconds:
		l.kept[0] = l.describe(f, idle)
		heap.Fix(&l.kept, 0)
	}
}

// list returns what was gathered, the flow with the latest packet first.
func (l *lister) list() List {
	flows := make([]Flow, len(l.kept))
	for i := range flows {
		flows[len(flows)-1-i] = heap.Pop(&l.kept).(Flow)
	}
	return List{l.matched, flows}
}

// idlest is a heap of flows, with the one that has been idle for the longest on top.
type idlest []Flow

func (h idlest) Len() int      { return len(h) }
func (h idlest) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h idlest) Less(i, j int) bool {
	a, b := &h[i], &h[j]
	return cmp.Or(
		cmp.Compare(a.IdleSeconds, b.IdleSeconds),
		a.Client.Compare(b.Client), a.Server.Compare(b.Server), cmp.Compare(a.Protocol, b.Protocol),
	) > 0
}
func (h *idlest) Push(f any) { *h = append(*h, f.(Flow)) }
func (h *idlest) Pop() any {
	last := len(*h) - 1
	f := (*h)[last]
	*h = (*h)[:last]
	return f
}

func (m *flowMatcher) matches(f *flow.Flow) bool {
	w := &m.filter
	switch {
	case w.Protocol != 0 && w.Protocol != f.Orig.Proto,
		w.Segment != "" && w.Segment != segmentOf(f.In) && w.Segment != segmentOf(f.Out),
		w.Bridge != "" && w.Bridge != m.BridgeOf[f.In] && w.Bridge != m.BridgeOf[f.Out],
		w.Name != "" && w.Name != m.NameOf(f),
		w.Client.IsValid() && !w.Client.Contains(f.Orig.Src.Netip()),
		w.State != "" && w.State != phaseOf(f):
		return false
	}
	return true
}

func (m *flowMatcher) describe(f *flow.Flow, idle float64) Flow {
	d := Flow{
		Protocol: f.Orig.Proto, State: phaseOf(f),
		Client:      netip.AddrPortFrom(f.Orig.Src.Netip(), f.Orig.Sport),
		Destination: netip.AddrPortFrom(f.Orig.Dst.Netip(), f.Orig.Dport),
		Source:      netip.AddrPortFrom(f.Reply.Dst.Netip(), f.Reply.Dport),
		Server:      netip.AddrPortFrom(f.Reply.Src.Netip(), f.Reply.Sport),
		IdleSeconds: idle,
	}
	d.Packets.FromClient, d.Bytes.FromClient = f.Sent[flow.Forward].Total()
	d.Packets.FromServer, d.Bytes.FromServer = f.Sent[flow.Reverse].Total()
	switch {
	case f.In.NIC != nil:
		d.Direction, d.Bridge, d.Segment = Inbound, m.BridgeOf[f.In], segmentOf(f.Out)
		d.Name = m.NameOf(f)
	case f.Out.NIC != nil:
		d.Direction, d.Bridge, d.Segment = Egress, m.BridgeOf[f.Out], segmentOf(f.In)
	default:
		d.Direction, d.Segment, d.Peer = Reach, segmentOf(f.Out), segmentOf(f.In)
	}
	return d
}

// segmentOf returns the name of the segment that an iface belongs to, or "".
func segmentOf(p *iface.Iface) string {
	if p.VNIC == nil {
		return ""
	}
	return p.VNIC.Segment
}

// phaseOf returns the state of a flow that lists show.
func phaseOf(f *flow.Flow) State {
	switch f.Class() {
	case flow.ClassClosing:
		return FlowClosing
	case flow.ClassEstablished:
		return Established
	case flow.ClassUDP, flow.ClassICMP:
		if f.Sent[flow.Reverse].Count.Load() != 0 {
			return Established
		}
	}
	return FlowHalfOpen
}
