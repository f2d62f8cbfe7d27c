// Package metrics exports what the data plane counts as Prometheus metrics.
package metrics

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Register adds the metrics of a data plane to a configuration's registry. A registry
// that already has them stays as it is.
func Register(registry *prometheus.Registry, status func() vnicbridge.Status) error {
	err := registry.Register(collector{status})
	if errors.As(err, new(prometheus.AlreadyRegisteredError)) {
		return nil
	}
	return err
}

// collector reads the metrics from the data plane, whose counters survive reloads.
type collector struct{ status func() vnicbridge.Status }

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{datapathInfo, flowsNow, flowsLimit, bansNow, segmentHealthy, segmentState, segmentRefused, bridgeByName, bridgeLinkUp, gatewaySilent, bridgeState, bridgeFit, bridgeConflicts} {
		ch <- d
	}
	segmentCounts.describe(ch)
	bridgeCounts.describe(ch)
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.status()
	if s.Datapath == "" {
		return // no configuration is in force
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(datapathInfo, 1, string(s.Datapath))
	gauge(flowsNow, float64(s.Flows))
	gauge(flowsLimit, float64(s.MaxFlows))
	gauge(bansNow, float64(s.Bans))
	for name, segment := range s.Segments {
		gauge(segmentHealthy, truth(segment.Health.Healthy), name)
		for _, state := range []config.State{config.Active, config.Draining, config.Stopped} {
			gauge(segmentState, truth(segment.State == state), name, state.String())
		}
		ch <- prometheus.MustNewConstMetric(segmentRefused, prometheus.CounterValue, float64(segment.Refused), name)
		segmentCounts.collect(ch, name, segment.Counters)
	}
	for name, bridge := range s.Bridges {
		gauge(bridgeLinkUp, truth(bridge.Up), name)
		ch <- prometheus.MustNewConstMetric(bridgeConflicts, prometheus.CounterValue, float64(bridge.Conflicts), name)
		if f := bridge.Role(); f != nil {
			for _, state := range []vnicbridge.BridgeState{vnicbridge.BridgeIsActive, vnicbridge.BridgeStandsBy, vnicbridge.BridgeIsDraining} {
				gauge(bridgeState, truth(f.State == state), name, string(state))
			}
			gauge(bridgeFit, truth(f.Fit), name)
		}
		for _, gateway := range bridge.Gateways {
			gauge(gatewaySilent, truth(gateway.Silent), name, gateway.Address.String())
		}
		for rule, flows := range bridge.FlowsByName {
			ch <- prometheus.MustNewConstMetric(bridgeByName, prometheus.CounterValue, float64(flows), name, rule)
		}
		bridgeCounts.collect(ch, name, bridge.Counters)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

var (
	datapathInfo   = describe("datapath_info", "The data path that carries packets: kernel or userspace. Always 1.", "datapath")
	flowsNow       = describe("flows", "Flows in the flow table.")
	flowsLimit     = describe("flows_limit", "The most flows that the flow table holds (max_flows).")
	bansNow        = describe("bans", "Networks that are banned, at run time and by the configuration. What they send counts as dropped, for the reason denied.")
	segmentHealthy = describe("segment_healthy", "Whether the segment's VNIC is there and its health checks pass.", "segment")
	segmentState   = describe("segment_state", "1 for the state that the segment has been set to by hand (active, draining or stopped), 0 for the others.", "segment", "state")
	segmentRefused = describe("segment_refused_packets_total", "Packets beyond a limit of the segment: they would have begun a flow, or exceeded its rate.", "segment")
	bridgeByName   = describe("bridge_flows_by_name_total", "Flows whose segment a steer rule with names has chosen, by the first name of the rule. An empty one: the client asked for no such name.", "bridge", "rule")
	bridgeLinkUp   = describe("bridge_link_up", "Whether the bridge's NIC is up and has a carrier.", "bridge")
	bridgeState    = describe("bridge_state", "Of a bridge that fails over: 1 for its state (active, standby or draining), 0 for the others.", "bridge", "state")
	bridgeFit      = describe("bridge_fit", "Of a bridge that fails over: whether its elector is told that this machine is fit for its addresses.", "bridge")
	gatewaySilent  = describe("bridge_gateway_silent", "1: the gateway does not answer.", "bridge", "gateway")

	bridgeConflicts = describe("bridge_conflicts_total", "How often another host was seen that uses an address of the bridge, at most once in 10 s for each address.", "bridge")

	segmentCounts = newDeviceMetrics("segment", "segment")
	bridgeCounts  = newDeviceMetrics("bridge", "network")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("caddy", "vnic", name), help, labels, nil)
}

// deviceMetrics are the counters of a segment's VNIC, or of a bridge's NIC. The names
// differ, because a packet that crosses counts at both devices.
type deviceMetrics struct {
	flows, newFlows, packets, bytes, drops *prometheus.Desc

	from, to string // the directions
}

// newDeviceMetrics describes the counters. what names the device's other side: the
// segment, or the network of a bridge's NIC.
func newDeviceMetrics(kind, what string) deviceMetrics {
	from, to := "from_"+what, "to_"+what
	directions := "Direction " + from + " is what the " + what + " has sent, " + to + " what was sent to it."
	return deviceMetrics{
		from: from, to: to,
		flows:    describe(kind+"_flows", "Flows in the flow table that go by the "+kind+".", kind),
		newFlows: describe(kind+"_new_flows_total", "Flows that began.", kind),
		packets:  describe(kind+"_packets_total", "Packets carried. "+directions, kind, "direction"),
		bytes:    describe(kind+"_bytes_total", "Bytes of the Ethernet frames carried. "+directions, kind, "direction"),
		drops:    describe(kind+"_dropped_packets_total", "Packets from the "+what+" that went no further.", kind, "reason"),
	}
}

func (m deviceMetrics) describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.flows, m.newFlows, m.packets, m.bytes, m.drops} {
		ch <- d
	}
}

func (m deviceMetrics) collect(ch chan<- prometheus.Metric, name string, c vnicbridge.Counters) {
	count := func(d *prometheus.Desc, value uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), append([]string{name}, labels...)...)
	}
	ch <- prometheus.MustNewConstMetric(m.flows, prometheus.GaugeValue, float64(c.Flows), name)
	count(m.newFlows, c.NewFlows)
	count(m.packets, c.Packets.From, m.from)
	count(m.packets, c.Packets.To, m.to)
	count(m.bytes, c.Bytes.From, m.from)
	count(m.bytes, c.Bytes.To, m.to)
	for _, reason := range vnicbridge.DropReasons() { // also those that count 0, because rate() needs a first value
		count(m.drops, c.Drops[reason], reason)
	}
}

var _ prometheus.Collector = collector{}
