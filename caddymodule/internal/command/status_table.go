package command

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/upgrade"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// writeStatus writes a status as tables: the bridges and segments, the packets that their
// devices carried, and the packets that they dropped. The details of a single segment or bridge
// are a list.
func writeStatus(w screen, answer api.Status, details bool) {
	s := answer.Status
	fmt.Fprintf(w, "Data path %s, %d of %d flows, caddy-vnic %s.\n", s.Datapath, s.Flows, s.MaxFlows, answer.Version)
	if s.DatapathReason != "" {
		fmt.Fprintf(w, "The kernel data path cannot be used: %s.\n", s.DatapathReason)
	}
	if r := answer.Restart; r != "" && r != upgrade.Kept {
		fmt.Fprintf(w, "A restart interrupts connections: %s.\n", r)
	}
	carried := s
	if answer.Role != "" {
		fmt.Fprintf(w, "This is of segment %s alone.\n", answer.Role)
		carried.Bridges = nil // what they carried for others is not told
	}
	for _, o := range s.Obstacles {
		fmt.Fprintf(w, "Warning: %s.\n", o)
	}
	section := func(g *grid, write func(*grid, screen)) {
		if len(g.rows) > 0 {
			fmt.Fprintln(w)
			write(g, w)
		}
	}
	main := (*grid).write
	if details {
		main = (*grid).writeRecords
	}
	section(bridges(s), main)
	section(segments(s), main)
	for _, g := range []*grid{failovers(s), announcements(s), rules(s), candidates(s), overrides(s), unhealthy(s), limits(s), peers(s), counters(carried), drops(carried)} {
		section(g, (*grid).write)
	}
}

func bridges(s vnicbridge.Status) *grid {
	g := newGrid("BRIDGE", "NIC", "LINK", "MAC", "ADDRESS", "GATEWAY", "LB POLICY", "ELSE")
	g.details = []string{"MAC"}
	for _, name := range sortedKeys(s.Bridges) {
		b := s.Bridges[name]
		g.row(name, b.NIC, link(b.Up), b.MAC, list(b.Addresses), gatewaysOf(b), policy(b.Policy), b.OnNoSegment)
	}
	return g
}

func segments(s vnicbridge.Status) *grid {
	g := newGrid("SEGMENT", "STATE", "HEALTH", "VNIC", "MAC", "ADDRESS", "ALIASES", "PORTS", "EGRESS", "CLIENT IP", "WEIGHT", "NETNS")
	g.details = []string{"MAC", "ALIASES", "EGRESS", "CLIENT IP"}
	for _, name := range sortedKeys(s.Segments) {
		seg := s.Segments[name]
		g.row(name, state(seg.State), health(seg.Health), seg.Interface, seg.MAC, list(seg.Addresses), list(seg.Aliases), list(seg.Ports), seg.Egress, seg.ClientIP, seg.Weight, placeOf(seg))
	}
	return g
}

// counters returns the table of what the NICs and VNICs carried.
func counters(s vnicbridge.Status) *grid {
	g := newGrid("DEVICE", "FLOWS", "NEW FLOWS", "PACKETS FROM", "PACKETS TO", "BYTES FROM", "BYTES TO")
	for _, d := range counted(s) {
		g.row(d.name, d.Flows, d.NewFlows, d.Packets.From, d.Packets.To, d.Bytes.From, d.Bytes.To)
	}
	return g
}

func drops(s vnicbridge.Status) *grid {
	g := newGrid("DEVICE", "DROPPED", "REASON")
	for _, d := range counted(s) {
		for _, reason := range sortedKeys(d.Drops) {
			g.row(d.name, d.Drops[reason], reason)
		}
	}
	return g
}

func state(s config.State) any {
	if s == config.Active {
		return s
	}
	return warning(s.String())
}

func health(h vnicbridge.HealthStatus) any {
	if h.Healthy {
		return "healthy"
	}
	return failure("unhealthy")
}

// unhealthy returns the unhealthy segments, if any, and the reasons. Such segments get
// no new flows.
func unhealthy(s vnicbridge.Status) *grid {
	g := newGrid("UNHEALTHY", "SINCE", "BECAUSE")
	for _, name := range sortedKeys(s.Segments) {
		if h := s.Segments[name].Health; !h.Healthy {
			g.row(name, h.Since.Local().Format(time.DateTime), h.Reason)
		}
	}
	return g
}

// limits returns the limits of segments, and how many packets they have kept from beginning
// a flow, if there are any.
func limits(s vnicbridge.Status) *grid {
	g := newGrid("SEGMENT", "FLOWS", "REFUSED", "LIMITS")
	for _, name := range sortedKeys(s.Segments) {
		if seg := s.Segments[name]; seg.Limits != (config.Limits{}) {
			g.row(name, seg.Flows, seg.Refused, seg.Limits)
		}
	}
	return g
}

// failovers returns which bridges have their addresses, of those that fail over.
func failovers(s vnicbridge.Status) *grid {
	g := newGrid("BRIDGE", "ROLE", "SINCE", "KEEPALIVED", "SAYS", "FIT", "CONFLICTS")
	for _, name := range sortedKeys(s.Bridges) {
		if f := s.Bridges[name].Failover; f != nil {
			g.row(name, roleNow(f.RoleStatus), f.Since.Local().Format(time.DateTime), f.Instance, orNothing(f.Says), fit(f.RoleStatus), s.Bridges[name].Conflicts)
		}
	}
	return g
}

// announcements returns which bridges are announced to routers.
func announcements(s vnicbridge.Status) *grid {
	g := newGrid("BRIDGE", "ROLE", "TABLE", "ANNOUNCED")
	for _, name := range sortedKeys(s.Bridges) {
		if a := s.Bridges[name].Announce; a != nil {
			g.row(name, roleNow(a.RoleStatus), a.Table, fit(a.RoleStatus))
		}
	}
	return g
}

func roleNow(f vnicbridge.RoleStatus) any {
	if f.State == vnicbridge.BridgeIsDraining {
		return warning(string(f.State))
	}
	return f.State
}

func orNothing(said string) any {
	if said == "" {
		return warning("nothing")
	}
	return said
}

func fit(f vnicbridge.RoleStatus) any {
	switch {
	case f.Fit:
		return "yes"
	case f.Unfit == "":
		return "soon"
	}
	return failure("no: " + f.Unfit)
}

// placeOf names a segment's namespace, or the device behind which its server is. The host's
// namespace is named explicitly, because all segments there are one trust domain.
func placeOf(s vnicbridge.SegmentStatus) string {
	switch {
	case s.Device != "":
		return "behind " + s.Device
	case s.Netns != "":
		return s.Netns
	default:
		return "host's"
	}
}

// rules returns the steer rules in their order, if there are any.
func rules(s vnicbridge.Status) *grid {
	g := newGrid("BRIDGE", "STEERS TO", "CLIENTS", "NAMES", "PORTS", "PROTOCOLS")
	for _, name := range sortedKeys(s.Bridges) {
		for _, rule := range s.Bridges[name].Steer {
			g.row(name, rule.To(), list(rule.Clients), abridged(rule.Names), list(rule.PortsOrDefault()), list(rule.Protocols))
		}
	}
	return g
}

// candidates returns which segments new flows of each family can get, for the bridges
// that have an IPv6 address.
func candidates(s vnicbridge.Status) *grid {
	g := newGrid("BRIDGE", "NEW FLOWS", "GO TO")
	for _, name := range sortedKeys(s.Bridges) {
		candidates := s.Bridges[name].Candidates
		if _, ok := candidates[config.IPv6]; !ok {
			continue
		}
		for f := range config.Families {
			if segments, ok := candidates[f]; ok {
				g.row(name, f, strings.Join(segments, " "))
			}
		}
	}
	return g
}

// overrides returns the values that were set by hand and differ from the
// configuration, if any.
func overrides(s vnicbridge.Status) *grid {
	g := newGrid("SET BY HAND", "IS", "CONFIGURED")
	for _, name := range sortedKeys(s.Bridges) {
		if b := s.Bridges[name]; b.SwitchedTo != "" {
			g.row("bridge "+name, "switched to "+b.SwitchedTo, policy(b.Policy))
		}
	}
	for _, name := range sortedKeys(s.Segments) {
		seg := s.Segments[name]
		if seg.State != config.Active {
			g.row("segment "+name, seg.State, config.Active)
		}
		if seg.Weight != seg.ConfiguredWeight {
			g.row("segment "+name, fmt.Sprintf("weight %d", seg.Weight), fmt.Sprintf("weight %d", seg.ConfiguredWeight))
		}
	}
	return g
}

// peers returns the aliases under which segments see each other, if any.
func peers(s vnicbridge.Status) *grid {
	g := newGrid("SEGMENT", "SEES", "AS")
	for _, name := range sortedKeys(s.Segments) {
		peers := s.Segments[name].Peers
		for _, peer := range sortedKeys(peers) {
			g.row(name, peer, list(peers[peer]))
		}
	}
	return g
}

// device is a NIC or VNIC with its counters.
type device struct {
	name string
	vnicbridge.Counters
}

// counted returns the NICs, then the VNICs.
func counted(s vnicbridge.Status) []device {
	var devices []device
	for _, name := range sortedKeys(s.Bridges) {
		devices = append(devices, device{s.Bridges[name].NIC, s.Bridges[name].Counters})
	}
	for _, name := range sortedKeys(s.Segments) {
		devices = append(devices, device{s.Segments[name].Interface, s.Segments[name].Counters})
	}
	return devices
}

// abridged lists the first names of a rule, which may have thousands. The JSON has all.
func abridged(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], " "), len(names)-most)
}

func list[T fmt.Stringer](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = v.String()
	}
	return strings.Join(texts, " ")
}

func link(up bool) any {
	if up {
		return "up"
	}
	return failure("down")
}

func gatewaysOf(b vnicbridge.BridgeStatus) any {
	texts, silent := make([]string, len(b.Gateways)), false
	for i, g := range b.Gateways {
		state := g.MAC.String()
		if g.MAC.IsZero() {
			state = "not resolved"
		}
		if g.Silent {
			state += ", silent"
		}
		silent = silent || g.Silent
		texts[i] = fmt.Sprintf("%s (%s)", g.Address, state)
	}
	text := strings.Join(texts, " ")
	if silent {
		return failure(text)
	}
	return text
}

func policy(p *config.Policy) string {
	if p == nil {
		return ""
	}
	return p.String()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
