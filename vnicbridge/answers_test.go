package vnicbridge

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// sharedConfig is remoteConfig of one of several machines that announce the pseudo address.
func sharedConfig() *config.Config {
	cfg := remoteConfig(config.Preserve)
	cfg.Segments["b"].Ports = []config.PortRange{{Protocol: config.TCP, First: 80, Last: 80}, {Protocol: config.UDP, First: 80, Last: 80}}
	lan := cfg.Bridges["lan"]
	lan.LBPolicy = &config.Policy{Policy: config.PolicyFlowHash, Segments: []string{"b"}}
	lan.Announce = &config.Announce{Table: 176}
	return cfg
}

// answersTo are what a server can answer a client with whose request another machine has carried.
func answersTo(client string) map[string][]byte {
	ping := fromB(client, 0, 77)
	return map[string][]byte{
		"a SYN-ACK": fromB(client, 80, 4000).tcp("SA", ""), "a refusal": fromB(client, 80, 4001).tcp("RA", ""),
		"data": fromB(client, 80, 4002).tcp("A", "x"), "the end": fromB(client, 80, 4003).tcp("FA", ""),
		"a datagram": fromB(client, 80, 4000).udp("x"), "an echo reply": ping.echo("pong"),
	}
}

// Row H12: an answer of a server behind a device tells whose it is, also if another machine has
// carried the request; and the flow goes on by this machine.
func TestAnswersOfFlowsElsewhere(t *testing.T) {
	inIPv6(t, sharedConfig(), func(t *testing.T, r *rig) {
		r.serverIs(farMAC)
		for client, own := range map[string]string{farHost: pseudo, farHost6: pseudo6} {
			for name, answer := range answersTo(client) {
				r.put(device, answer)
				got := r.got("nic0")
				if len(got) != 1 {
					t.Errorf("%s to %s: the client gets %d frames", name, client, len(got))
					continue
				}
				if d := decode(got[0]); d.src != own || d.dst != client || d.dstMAC != routerMAC || !d.valid {
					t.Errorf("%s: the client gets %+v", name, d)
				}
			}
			c := fromRouter(client, 4000, 80)
			if strings.Contains(client, ":") {
				c = in6(client, 4000, 80)
			}
			for _, next := range [][]byte{c.tcp("A", ""), c.udp("y")} {
				r.put("nic0", next)
				if d := decode(r.one(device)); d.src != client || d.dport != 80 || !d.valid {
					t.Errorf("the server gets %+v", d)
				}
			}
		}
	})
}

// Rows H12 and S2: nothing but an answer leaves so, and only if other machines may have its flow.
func TestWhatIsNoAnswerStaysInside(t *testing.T) {
	cases := map[string]struct {
		change func(cfg *config.Config)
		puts   func(client string) map[string][]byte
	}{
		"nobody else has the address": {
			func(cfg *config.Config) { cfg.Bridges["lan"].Announce = nil },
			func(client string) map[string][]byte {
				all := answersTo(client)
				delete(all, "data") // F5+ picks it up
				delete(all, "the end")
				return all
			},
		},
		"it is none, or of a port that is not open": {func(*config.Config) {}, func(client string) map[string][]byte {
			ping := fromB(client, 77, 0)
			return map[string][]byte{
				"a SYN": fromB(client, 80, 4000).tcp("S", ""), "a bare RST": fromB(client, 80, 4000).tcp("R", ""), "an echo request": ping.echo("ping"),
				"a datagram of another port": fromB(client, 81, 4000).udp("x"), "a SYN-ACK of another port": fromB(client, 81, 4000).tcp("SA", ""),
			}
		}},
		"another segment has the flow": {
			func(cfg *config.Config) {
				cfg.Bridges["lan"].Steer = []config.Rule{{Segment: "a", Ports: []config.PortRange{{Protocol: config.TCP, First: 80, Last: 80}, {Protocol: config.UDP, First: 80, Last: 80}}}}
			},
			func(client string) map[string][]byte {
				all := answersTo(client)
				delete(all, "an echo reply")
				return all
			},
		},
		"nobody can know which segment has the flow": {
			func(cfg *config.Config) { cfg.Bridges["lan"].LBPolicy.Policy = config.PolicyRoundRobin }, answersTo,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			cfg := sharedConfig()
			tc.change(cfg)
			inIPv6(t, cfg, func(t *testing.T, r *rig) {
				r.serverIs(farMAC)
				for _, client := range []string{farHost, farHost6} {
					for what, frame := range tc.puts(client) {
						r.put(device, frame)
						if got := r.got("nic0"); len(got) > 0 {
							t.Errorf("%s leaves as %+v", what, decode(got[0]))
						}
					}
				}
			})
		})
	}
}

// Row H12: machines that announce the address at the same time have MACs of their own behind a
// device, if they have aliases of their own; machines that have it by turns have the same one.
func TestMACsBehindADevice(t *testing.T) {
	machines := int64(0)
	mac := func(change func(cfg *config.Config)) config.MAC {
		cfg := sharedConfig()
		cfg.Key = config.Key{1, 2, 3}
		cfg.Segments["b"].MAC = config.MAC{}
		cfg.Segments["b"].Addresses = cfg.Segments["b"].Addresses[:1]
		change(cfg)
		machines++
		return (&Plane{started: time.Unix(machines, 0)}).vnicSpecOf(cfg, "b").MAC
	}
	aliases := func(text string) config.AddrRange {
		var r config.AddrRange
		must(t, r.UnmarshalText([]byte(text)))
		return r
	}
	first := func(cfg *config.Config) { cfg.Segments["b"].Aliases = aliases("192.168.60.2-192.168.60.99") }
	second := func(cfg *config.Config) { cfg.Segments["b"].Aliases = aliases("192.168.60.100-192.168.60.199") }
	byTurns := func(of func(*config.Config)) func(*config.Config) {
		return func(cfg *config.Config) {
			of(cfg)
			cfg.Bridges["lan"].Announce, cfg.Bridges["lan"].Failover = nil, &config.Failover{Engine: config.Keepalived, Instance: "VI_lan"}
		}
	}
	if mac(first) == mac(second) {
		t.Error("machines with aliases of their own have one MAC")
	}
	if mac(byTurns(first)) != mac(byTurns(second)) {
		t.Error("machines that have the address by turns have different MACs")
	}
}
