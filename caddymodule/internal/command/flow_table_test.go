package command

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

// TestFlowTable checks that a row says where a flow comes from and where it goes, in each
// direction.
func TestFlowTable(t *testing.T) {
	at := netip.MustParseAddrPort
	flow := flowlist.Flow{
		Protocol: config.TCP, State: flowlist.Established, Direction: flowlist.Inbound, Bridge: "lan", Segment: "a", Name: "a.example.com",
		Client: at("192.168.1.1:4000"), Destination: at("192.168.1.2:80"), Source: at("192.168.50.2:4000"), Server: at("192.168.50.1:80"),
		IdleSeconds: 63.04, Packets: flowlist.Traffic{FromClient: 5, FromServer: 4}, Bytes: flowlist.Traffic{FromClient: 700, FromServer: 9000},
	}
	egress, reach := flow, flow
	egress.Direction, egress.Name = flowlist.Egress, ""
	reach.Direction, reach.Bridge, reach.Peer, reach.Name = flowlist.Reach, "", "front", ""
	var text strings.Builder
	list := flowlist.List{Matched: 20, Flows: []flowlist.Flow{flow, egress, reach}}
	writeFlows(screen{Writer: &text}, list)
	if !strings.HasPrefix(text.String(), "3 of 20 flows") {
		t.Errorf("the table begins otherwise:\n%s", &text)
	}
	for _, ends := range [][3]string{{"lan", "a", "a.example.com"}, {"a", "lan", "-"}, {"front", "a", "-"}} {
		row := "tcp +established +1m3s +" + ends[0] + ` +192\.168\.1\.1:4000 +192\.168\.1\.2:80 +` + ends[1] + " +" + ends[2] + ` +192\.168\.50\.2:4000 +192\.168\.50\.1:80 +5/4 +700/9000`
		if !regexp.MustCompile("(?m)^" + row + "$").MatchString(text.String()) {
			t.Errorf("there is no row from %s into %s:\n%s", ends[0], ends[1], &text)
		}
	}
	text.Reset()
	writeFlows(screen{Writer: &text, width: 80}, list)
	if !strings.Contains(text.String(), "\nCLIENT    192.168.1.1:4000\n") {
		t.Errorf("a flow is not a list, and a table of flows does not fit 80 columns:\n%s", &text)
	}
}
