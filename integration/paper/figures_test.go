package paper

import (
	"net/netip"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

func TestRoutesSection(t *testing.T) {
	var fig4 []netlab.Route
	for _, s := range []segmentFigures{segmentA, segmentB} {
		network := netip.PrefixFrom(s.vnic, 24).Masked()
		fig4 = append(fig4,
			netlab.Route{Destination: network, Gateway: s.vnic, Flags: "UG", Device: s.device},
			netlab.Route{Destination: network, Gateway: netip.IPv4Unspecified(), Flags: "U", Device: s.device})
	}
	if differ := familyIPv4.routesSection(fig4).differing(); len(differ) > 0 {
		t.Errorf("the table of Fig-4 differs: %v", differ)
	}
	foreign := []netlab.Route{{
		Destination: netip.MustParsePrefix("10.0.0.1/32"), Gateway: netip.MustParseAddr("10.0.0.2"), Flags: "UGH", Metric: 100, Device: "eth0",
	}}
	if s := familyIPv4.routesSection(foreign); len(s.differing()) != len(familyIPv4.routes) {
		t.Errorf("a foreign table passes for Fig-4: %v", s.Checks)
	}
}
