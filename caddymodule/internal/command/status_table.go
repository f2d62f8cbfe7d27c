package command

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// writeStatus writes a status as tables: the bridges and segments, the packets that their
// devices carried, and the packets that they dropped.
func writeStatus(w io.Writer, s vnicbridge.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "Data path %s, %d of %d flows.\n", s.Datapath, s.Flows, s.MaxFlows)
	if s.DatapathReason != "" {
		fmt.Fprintf(t, "The kernel data path cannot be used: %s.\n", s.DatapathReason)
	}
	for _, o := range s.Obstacles {
		fmt.Fprintf(t, "Warning: %s.\n", o)
	}

	row(t, "\nBRIDGE", "NIC", "LINK", "MAC", "ADDRESS", "GATEWAY", "LB POLICY", "ELSE")
	for _, name := range sortedKeys(s.Bridges) {
		b := s.Bridges[name]
		row(t, name, b.NIC, link(b.Up), b.MAC, list(b.Addresses), gatewaysOf(b), policy(b.Policy), b.OnNoSegment)
	}
	row(t, "\nSEGMENT", "STATE", "HEALTH", "VNIC", "MAC", "ADDRESS", "ALIASES", "PORTS", "EGRESS", "CLIENT IP", "WEIGHT", "NETNS")
	for _, name := range sortedKeys(s.Segments) {
		seg := s.Segments[name]
		row(t, name, seg.State, health(seg.Health), seg.Interface, seg.MAC, list(seg.Addresses), list(seg.Aliases), list(seg.Ports), seg.Egress, seg.ClientIP, seg.Weight, orHost(seg.Netns))
	}
	writeRules(t, s)
	writeCandidates(t, s)
	writeOverrides(t, s)
	writeUnhealthy(t, s)
	writeLimits(t, s)
	writePeers(t, s)
	devices := counted(s)
	row(t, "\nDEVICE", "FLOWS", "NEW FLOWS", "PACKETS FROM", "PACKETS TO", "BYTES FROM", "BYTES TO")
	for _, d := range devices {
		row(t, d.name, d.Flows, d.NewFlows, d.Packets.From, d.Packets.To, d.Bytes.From, d.Bytes.To)
	}
	row(t, "\nDEVICE", "DROPPED", "REASON")
	for _, d := range devices {
		for _, reason := range sortedKeys(d.Drops) {
			row(t, d.name, d.Drops[reason], reason)
		}
	}
	return t.Flush()
}

func health(h vnicbridge.HealthStatus) string {
	if h.Healthy {
		return "healthy"
	}
	return "unhealthy"
}

// writeUnhealthy writes the unhealthy segments, if any, and the reasons. Such segments get
// no new flows.
func writeUnhealthy(w io.Writer, s vnicbridge.Status) {
	heading := sync.OnceFunc(func() { row(w, "\nUNHEALTHY", "SINCE", "BECAUSE") })
	for _, name := range sortedKeys(s.Segments) {
		if h := s.Segments[name].Health; !h.Healthy {
			heading()
			row(w, name, h.Since.Local().Format(time.DateTime), h.Reason)
		}
	}
}

// writeLimits writes the limits of segments, and how many packets they have kept from beginning
// a flow, if there are any.
func writeLimits(w io.Writer, s vnicbridge.Status) {
	heading := sync.OnceFunc(func() { row(w, "\nSEGMENT", "FLOWS", "REFUSED", "LIMITS") })
	for _, name := range sortedKeys(s.Segments) {
		if seg := s.Segments[name]; seg.Limits != (config.Limits{}) {
			heading()
			row(w, name, seg.Flows, seg.Refused, seg.Limits)
		}
	}
}

// orHost names a segment's namespace. The host's is named explicitly, because all segments
// there are one trust domain.
func orHost(netns string) string {
	if netns == "" {
		return "host's"
	}
	return netns
}

// writeRules writes the steer rules in their order, if there are any.
func writeRules(w io.Writer, s vnicbridge.Status) {
	heading := sync.OnceFunc(func() { row(w, "\nBRIDGE", "STEERS TO", "CLIENTS", "NAMES", "PORTS", "PROTOCOLS") })
	for _, name := range sortedKeys(s.Bridges) {
		for _, rule := range s.Bridges[name].Steer {
			heading()
			row(w, name, rule.To(), list(rule.Clients), abridged(rule.Names), list(rule.PortsOrDefault()), list(rule.Protocols))
		}
	}
}

// writeCandidates writes which segments new flows of each family can get, for the bridges
// that have an IPv6 address.
func writeCandidates(w io.Writer, s vnicbridge.Status) {
	heading := sync.OnceFunc(func() { row(w, "\nBRIDGE", "NEW FLOWS", "GO TO") })
	for _, name := range sortedKeys(s.Bridges) {
		candidates := s.Bridges[name].Candidates
		if _, ok := candidates[config.IPv6]; !ok {
			continue
		}
		for f := range config.Families {
			if segments, ok := candidates[f]; ok {
				heading()
				row(w, name, f, strings.Join(segments, " "))
			}
		}
	}
}

// writeOverrides writes the values that were set by hand and differ from the
// configuration, if any.
func writeOverrides(w io.Writer, s vnicbridge.Status) {
	heading := sync.OnceFunc(func() { row(w, "\nSET BY HAND", "IS", "CONFIGURED") })
	for _, name := range sortedKeys(s.Bridges) {
		if b := s.Bridges[name]; b.SwitchedTo != "" {
			heading()
			row(w, "bridge "+name, "switched to "+b.SwitchedTo, policy(b.Policy))
		}
	}
	for _, name := range sortedKeys(s.Segments) {
		seg := s.Segments[name]
		if seg.State != config.Active {
			heading()
			row(w, "segment "+name, seg.State, config.Active)
		}
		if seg.Weight != seg.ConfiguredWeight {
			heading()
			row(w, "segment "+name, fmt.Sprintf("weight %d", seg.Weight), fmt.Sprintf("weight %d", seg.ConfiguredWeight))
		}
	}
}

// writePeers writes the aliases under which segments see each other, if any.
func writePeers(w io.Writer, s vnicbridge.Status) {
	heading := sync.OnceFunc(func() { row(w, "\nSEGMENT", "SEES", "AS") })
	for _, name := range sortedKeys(s.Segments) {
		peers := s.Segments[name].Peers
		for _, peer := range sortedKeys(peers) {
			heading()
			row(w, name, peer, list(peers[peer]))
		}
	}
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

// row writes the cells of a line. An empty cell becomes a dash.
func row(w io.Writer, cells ...any) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		if texts[i] = fmt.Sprint(cell); texts[i] == "" {
			texts[i] = "-"
		}
	}
	fmt.Fprintln(w, strings.Join(texts, "\t"))
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

func link(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

func gatewaysOf(b vnicbridge.BridgeStatus) string {
	texts := make([]string, len(b.Gateways))
	for i, g := range b.Gateways {
		if g.MAC.IsZero() {
			texts[i] = g.Address.String() + " (not resolved)"
		} else {
			texts[i] = fmt.Sprintf("%s (%s)", g.Address, g.MAC)
		}
	}
	return strings.Join(texts, " ")
}

func policy(p *config.Policy) string {
	if p == nil {
		return ""
	}
	return p.String()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
