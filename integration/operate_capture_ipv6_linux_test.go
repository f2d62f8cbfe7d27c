package integration_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

// A capture has IPv6 on both sides, by filter and client, with what routers ask about the
// pseudo address. Lists of flows and clients have it, too, and know a client by its /64.
func TestCaptureIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.start(caddyfile{datapath: datapath, families: "46", policy: "lb_policy first a b"})
		r := s.startCapture(filepath.Join(s.dir, "lan.pcapng"), "lan", "--filter", "icmp6")
		s.ip(s.Router, "-6 neighbour flush dev wan")
		s.run(s.Router, "ping", "-6", "-c", "1", "-W", "5", "2001:db8:1::2")
		s.wantFrames(r.file, []string{
			"nic0 0x00000001 2001:db8:1::1 2001:db8:1::2 128",
			"vnic-A 0x00000001 fd00:50::2 fd00:50::1 128",
			"vnic-A 0x00000002 fd00:50::1 fd00:50::2 129",
			"nic0 0x00000002 2001:db8:1::2 2001:db8:1::1 129",
		}, "frame.interface_name", "frame.packet_flags", "ipv6.src", "ipv6.dst", "icmpv6.type")
		s.wantFrames(r.file, []string{"nic0 0x00000001 135"}, "frame.interface_name", "frame.packet_flags", "icmpv6.type")
		r.finish()

		r = s.startCapture(filepath.Join(s.dir, "a.pcapng"), "a", "--client", "2001:db8:10::/64", "--filter", "tcp port 80")
		s.getFrom(s.Router, "http://"+pseudo6+"/") // another client
		s.get("http://192.168.1.2/")               // of another family
		s.get("http://" + pseudo6 + "/")
		s.wantFrames(r.file, []string{"nic0 0x0012", "vnic-A 0x0012"}, "frame.interface_name", "tcp.flags")
		r.finish()
		for _, line := range s.tshark(r.file, "frame.interface_name", "ipv6.addr") {
			of := strings.Fields(line)
			if len(of) != 2 || of[0] == "nic0" && !strings.Contains(of[1], paper.PC1Addr6.String()) {
				t.Errorf("the capture has a frame of %q", line)
			}
		}

		s.run(s.PC1, "ip", "-6", "address", "add", "2001:db8:10::77/64", "dev", "eth0", "nodad")
		s.run(s.PC1, "curl", "-sS", "--interface", "2001:db8:10::77", "http://"+pseudo6+"/")
		var flows flowlist.List
		var clients flowlist.ClientList
		for path, list := range map[string]any{
			"/vnic/flows?client=2001:db8:10::77":              &flows,
			"/vnic/clients?client=2001:db8:10::/64&segment=a": &clients,
		} {
			if err := json.Unmarshal([]byte(s.fromAdmin(path)), list); err != nil {
				t.Fatal(err)
			}
		}
		if len(flows.Flows) != 1 || flows.Flows[0].Bridge != "lan" || flows.Flows[0].Destination.Addr() != paper.PseudoAddr6 || !isDerivedAlias(flows.Flows[0].Source.Addr()) {
			t.Errorf("the flows of one address are %+v", flows)
		}
		if len(clients.Clients) != 1 || clients.Clients[0].Address != flowlist.SiteOf(paper.PC1Addr6) || clients.Clients[0].Flows < 2 ||
			!slices.Equal(clients.Clients[0].Segments, []string{"a"}) {
			t.Errorf("the clients are %+v, want one", clients)
		}
	})
}
