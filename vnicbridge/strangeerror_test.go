package vnicbridge

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/userspace"
)

// certainConfig is dualConfig with a policy that gives each flow its segment for certain.
func certainConfig(policy config.PolicyName, clientIP config.ClientIP) *config.Config {
	cfg := dualConfig()
	cfg.Segments["a"].ClientIP = clientIP
	cfg.Segments["a"].Ports = []config.PortRange{{Protocol: config.TCP, First: 80, Last: 80}, {Protocol: config.UDP, First: 80, Last: 80}}
	cfg.Bridges["lan"].LBPolicy = &config.Policy{Policy: policy, Segments: []string{"a"}}
	return cfg
}

// quotedBy decodes the packet that an ICMP error quotes.
func quotedBy(raw []byte) decoded {
	headers, etherType := packet.EthHeaderLen+packet.IPv4MinLen+packet.ICMPHeaderLen, []byte{8, 0}
	if raw[12] == 0x86 {
		headers, etherType = packet.EthHeaderLen+ipv6HeaderLen+packet.ICMPHeaderLen, []byte{0x86, 0xdd}
	}
	return decode(slices.Concat(make([]byte, 12), etherType, raw[headers:]))
}

// errorsAbout are a router, a client, and what is unreachable, in one family.
type errorsAbout struct {
	client, router, pseudo, server string
	kind                           uint8
}

var bothFamilies = []errorsAbout{
	{farHost, "203.0.113.77", pseudo, serverA, packet.ICMPUnreachable},
	{farHost6, "2001:db8:77::1", pseudo6, serverA6, packet.ICMPv6PacketTooBig},
}

// answerOf is a packet of an unknown flow, as the bridge would have sent it to the client.
func (e errorsAbout) answerOf(port, clientPort uint16) ends {
	return ends{nicMAC, routerMAC, e.pseudo, e.client, port, clientPort}
}

// Row H8: an ICMP error about an unknown flow reaches the server that the rules give the flow for
// certain, as if the flow were known. No flow is opened.
func TestErrorsAboutStrangeFlows(t *testing.T) {
	inIPv6(t, certainConfig(config.PolicyFlowHash, config.Preserve), func(t *testing.T, r *rig) {
		for _, e := range bothFamilies {
			for name, about := range map[string][]byte{"TCP": e.answerOf(80, 4000).tcp("A", "answer"), "UDP": e.answerOf(80, 4000).udp("answer")} {
				for _, from := range []string{e.router, e.client} {
					r.put("nic0", ends{routerMAC, nicMAC, from, e.pseudo, 0, 0}.icmpErrorAbout(e.kind, about, 576))
					raw := r.one("vnic-A")
					if d := decode(raw); d.src != from || d.dst != e.server || d.icmp != e.kind || !d.valid {
						t.Errorf("%s, from %s: the server gets %+v", name, from, d)
					}
					if q := quotedBy(raw); q.src != e.server || q.dst != e.client || q.sport != 80 || q.dport != 4000 || !q.valid {
						t.Errorf("%s: it quotes %+v", name, q)
					}
				}
			}
			before := r.drops("nic0", "no_flow")
			for _, about := range [][]byte{e.answerOf(81, 4000).tcp("A", "from a closed port"), ends{nicMAC, routerMAC, e.pseudo, e.client, 0, 77}.echo("pong"),
				ends{nicMAC, routerMAC, e.server, e.client, 80, 4000}.tcp("A", "not ours")} {
				r.put("nic0", ends{routerMAC, nicMAC, e.router, e.pseudo, 0, 0}.icmpErrorAbout(e.kind, about, 576))
			}
			if n := r.drops("nic0", "no_flow") - before; n != 3 {
				t.Errorf("%d errors about other packets are dropped as of no flow, want 3", n)
			}
			r.silent("vnic-A", "vnic-B", "nic0")
		}
		if n := r.plane.Status().Flows; n != 0 {
			t.Errorf("%d flows were opened", n)
		}
	})
}

// Row H8: a server's ICMP error about an unknown flow reaches its client.
func TestErrorsOfServersAboutStrangeFlows(t *testing.T) {
	inIPv6(t, certainConfig(config.PolicyIPHash, config.Preserve), func(t *testing.T, r *rig) {
		for _, e := range bothFamilies {
			about := ends{routerMAC, vnicAMAC, e.client, e.server, 4000, 80}.udp("question")
			r.put("vnic-A", ends{vnicAMAC, routerMAC, e.server, e.client, 0, 0}.icmpErrorAbout(e.kind, about, 576))
			raw := r.one("nic0")
			if d := decode(raw); d.src != e.pseudo || d.dst != e.client || d.icmp != e.kind || d.srcMAC != nicMAC || !d.valid {
				t.Errorf("the client gets %+v", d)
			}
			if q := quotedBy(raw); q.src != e.client || q.dst != e.pseudo || q.sport != 4000 || q.dport != 80 || !q.valid {
				t.Errorf("it quotes %+v", q)
			}
			before := r.drops("vnic-A", "no_flow")
			for _, about := range [][]byte{ends{routerMAC, vnicAMAC, e.client, e.server, 4000, 81}.udp("to a closed port"), ends{routerMAC, vnicAMAC, e.client, e.router, 4000, 80}.udp("not to the server")} {
				r.put("vnic-A", ends{vnicAMAC, routerMAC, e.server, e.client, 0, 0}.icmpErrorAbout(e.kind, about, 576))
			}
			if n := r.drops("vnic-A", "no_flow") - before; n != 2 {
				t.Errorf("%d errors about other packets are dropped as of no flow, want 2", n)
			}
		}
		r.silent("nic0", "vnic-B")
		if n := r.plane.Status().Flows; n != 0 {
			t.Errorf("%d flows were opened", n)
		}
	})
}

// Row H8: errors about unknown flows are limited in rate. Those about known flows are not.
func TestErrorsAboutStrangeFlowsAreLimited(t *testing.T) {
	inIPv6(t, certainConfig(config.PolicyFlowHash, config.Preserve), func(t *testing.T, r *rig) {
		for range 2 {
			for _, e := range bothFamilies {
				time.Sleep(2 * time.Second)
				r.got("vnic-A")
				before := r.plane.Status().Bridges["lan"].Drops["overload"]
				const flood = 3 * userspace.StrangeErrorRate
				for port := range uint16(flood) {
					r.put("nic0", ends{routerMAC, nicMAC, e.router, e.pseudo, 0, 0}.icmpErrorAbout(e.kind, e.answerOf(80, 10000+port).udp("answer"), 576))
				}
				n, dropped := len(r.got("vnic-A")), r.plane.Status().Bridges["lan"].Drops["overload"]-before
				if n != userspace.StrangeErrorRate || dropped != flood-userspace.StrangeErrorRate {
					t.Errorf("of %d errors the server gets %d, and %d are counted", flood, n, dropped)
				}
				known := ends{routerMAC, nicMAC, e.client, e.pseudo, 4000, 80}
				r.put("nic0", known.udp("question"))
				r.got("vnic-A")
				r.put("nic0", ends{routerMAC, nicMAC, e.router, e.pseudo, 0, 0}.icmpErrorAbout(e.kind, e.answerOf(80, 4000).udp("answer"), 576))
				r.one("vnic-A")
			}
		}
	})
}

// Row H8: under translate, the quote has the alias that the client prefers, unless another client's
// flow has that tuple.
func TestErrorsAboutStrangeFlowsHaveAliases(t *testing.T) {
	inIPv6(t, certainConfig(config.PolicyFlowHash, config.Translate), func(t *testing.T, r *rig) {
		errorTo := func(host string) (alias string) {
			r.put("nic0", fromRouter(host, 0, 0).icmpErrorAbout(packet.ICMPUnreachable, ends{nicMAC, routerMAC, pseudo, host, 80, 4000}.tcp("A", "x"), 576))
			if all := r.got("vnic-A"); len(all) == 1 {
				return quotedBy(all[0]).dst
			}
			return ""
		}
		alias := errorTo(farHost)
		if got := r.open(farHost, 4000); got != alias || !strings.HasPrefix(alias, "192.168.50.") {
			t.Fatalf("the error has the alias %q, and the flow %q", alias, got)
		}
		taken := 0
		for i := range 1000 {
			switch errorTo(client(i)) {
			case alias:
				t.Fatalf("an error about %s reaches the flow of another client", client(i))
			case "":
				taken++
			}
			time.Sleep(20 * time.Millisecond) // within the rate
		}
		if uint64(taken) != r.drops("nic0", "no_flow") || taken == 0 {
			t.Errorf("of 1000 errors %d have no tuple, and %d are counted", taken, r.drops("nic0", "no_flow"))
		}
	})
}

// Row H8: where the policy does not make the segment certain, or the client is banned, errors about
// unknown flows are dropped.
func TestErrorsAboutUncertainFlows(t *testing.T) {
	inIPv6(t, certainConfig(config.PolicyRoundRobin, config.Preserve), func(t *testing.T, r *rig) {
		for _, e := range bothFamilies {
			before, beforeOut := r.plane.Status().Bridges["lan"].Drops["no_flow"], r.drops("vnic-A", "no_flow")
			r.put("nic0", ends{routerMAC, nicMAC, e.router, e.pseudo, 0, 0}.icmpErrorAbout(e.kind, e.answerOf(80, 4000).udp("answer"), 576))
			r.put("vnic-A", ends{vnicAMAC, routerMAC, e.server, e.client, 0, 0}.icmpErrorAbout(e.kind, ends{routerMAC, vnicAMAC, e.client, e.server, 4000, 80}.udp("question"), 576))
			if n, out := r.plane.Status().Bridges["lan"].Drops["no_flow"]-before, r.drops("vnic-A", "no_flow")-beforeOut; n != 1 || out != 1 {
				t.Errorf("%d and %d errors are dropped as of no flow, want 1 each", n, out)
			}
		}
		r.silent("nic0", "vnic-A", "vnic-B")
	})
}
