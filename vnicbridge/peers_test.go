package vnicbridge

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// frontConfig is the paper's system with a front that may reach both segments.
func frontConfig() *config.Config {
	cfg := paperConfig()
	cfg.Segments["front"] = &config.Segment{
		Interface: "vnic-F", Addresses: prefixes("192.168.40.1/24"), MAC: mustMAC("50:01:02:03:04:0f"),
		Ports: []config.PortRange{config.AnyPort}, Reach: []string{"a", "b"},
	}
	cfg.Bridges["lan"].LBPolicy.Segments = []string{"front"}
	return cfg
}

// Row S3: a segment reaches one that its reach names, and gets the answers; under
// an alias on either side, by the ports that the other opens. Everything else
// between segments stays impossible.
func TestReach(t *testing.T) {
	cfg := frontConfig()
	cfg.Segments["a"].Ports = []config.PortRange{{Protocol: config.TCP, First: 80, Last: 80}}
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		here, _ := cfg.PeerAlias("front", "a", config.IPv4)
		there, _ := cfg.PeerAlias("a", "front", config.IPv4)
		frontMAC := cfg.Segments["front"].MAC
		front := func(dst string, sport, dport uint16) ends {
			return ends{frontMAC, vnicAMAC, "192.168.40.1", dst, sport, dport}
		}
		r.put("vnic-F", front(here.String(), 4000, 80).tcp("S", ""))
		d := decode(r.one("vnic-A"))
		if d.src != there.String() || d.dst != serverA || d.srcMAC != frontMAC || d.dstMAC != vnicAMAC || !d.valid {
			t.Errorf("to a: %+v", d)
		}
		r.put("vnic-A", fromA(there.String(), 80, 4000).tcp("SA", ""))
		if d := decode(r.one("vnic-F")); d.src != here.String() || d.dst != "192.168.40.1" || d.dstMAC != frontMAC || !d.valid {
			t.Errorf("back: %+v", d)
		}
		if macs := r.machine.devices["vnic-F"].settings.Neighbours; macs[here] != vnicAMAC {
			t.Errorf("a's alias resolves to %s", macs[here])
		}

		// A port that a does not open is refused at once.
		r.put("vnic-F", front(here.String(), 4001, 81).tcp("S", ""))
		if answerKind(decode(r.one("vnic-F"))) != "RST" {
			t.Error("a closed port is not refused")
		}
		// a may not reach the front, nor b; the front's way to b is not a's.
		bThere, _ := cfg.PeerAlias("b", "front", config.IPv4)
		for _, dst := range []string{there.String(), "192.168.40.1", here.String(), serverB, bThere.String()} {
			r.put("vnic-A", fromA(dst, 9, 80).tcp("S", ""))
		}
		// The front reaches neither by their own addresses.
		r.put("vnic-F", front(serverA, 4002, 80).tcp("S", ""), front(serverB, 4003, 80).tcp("S", ""))
		r.silent("vnic-A", "vnic-B", "vnic-F", "nic0")
		if n := r.drops("vnic-A", "egress_denied"); n != 5 {
			t.Errorf("%d of a's are counted, want 5", n)
		}
	})
}

// Clients from outside never get an alias that stands for a segment.
func TestPeerAliasesAreReserved(t *testing.T) {
	cfg := frontConfig()
	cfg.Segments["a"].Aliases = config.AddrRange{First: mustIP("192.168.50.2"), Last: mustIP("192.168.50.5")}
	cfg.Bridges["lan"].LBPolicy.Segments = []string{"a"}
	reserved, _ := cfg.PeerAlias("a", "front", config.IPv4)
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		for i := range 200 {
			r.put("nic0", fromRouter(fmt.Sprintf("203.0.113.%d", i+1), 123, 123).udp("x"))
			if d := decode(r.one("vnic-A")); d.src == reserved.String() {
				t.Fatalf("a client is %s, which stands for the front", d.src)
			}
		}
		if peers := r.plane.Status().Segments["a"].Peers; peers["front"][0] != reserved {
			t.Errorf("the status says %v", peers)
		}
	})
}

// The aliases of a pair follow from its names: they stay when other pairs come and
// go, as long as no two names meet.
func TestPeerAliasesStay(t *testing.T) {
	cfg := frontConfig()
	before, _ := cfg.PeerAlias("front", "a", config.IPv4)
	cfg.Segments["front"].Reach = []string{"a"}
	if after, _ := cfg.PeerAlias("front", "a", config.IPv4); after != before {
		t.Errorf("%s became %s when the front no longer reaches b", before, after)
	}
	seen := make(map[string]bool)
	for i := range 30 {
		name := fmt.Sprintf("s%d", i)
		cfg.Segments[name] = &config.Segment{Addresses: prefixes(fmt.Sprintf("10.0.%d.1/24", i))}
		cfg.Segments["front"].Reach = append(cfg.Segments["front"].Reach, name)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, peer := range cfg.Segments["front"].Reach {
		alias, ok := cfg.PeerAlias("front", peer, config.IPv4)
		if !ok || seen[alias.String()] || !strings.HasPrefix(alias.String(), "192.168.40.") {
			t.Errorf("%s is %s", peer, alias)
		}
		seen[alias.String()] = true
	}
}
