package vnicbridge

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// outsider is a client beyond the router that a test bans, and another one of its family.
type outsider struct {
	name, host, network, other string

	open     func(r *rig, client string, port uint16) (alias string)
	from     func(src string, sport, dport uint16) ends
	toClient func(alias string, sport, dport uint16) ends
}

var outsiders = []outsider{
	{"IPv4", farHost, "203.0.113.0/24", "198.51.100.1", (*rig).open, fromRouter, fromA},
	{"IPv6", farHost6, "2001:db8:9::/48", "2001:db8:a::1", (*rig).open6, in6, fromA6},
}

// banConfig is dualConfig whose segment a may reach every host outside.
func banConfig() *config.Config {
	cfg := dualConfig()
	cfg.Segments["a"].Egress = config.EgressAny
	return cfg
}

// networksOf parses addresses and networks.
func networksOf(texts ...string) (networks []netip.Prefix) {
	for _, text := range texts {
		network, err := config.ParseClient(text)
		if err != nil {
			panic(err)
		}
		networks = append(networks, network)
	}
	return networks
}

func (r *rig) ban(request BanRequest, networks ...string) {
	r.t.Helper()
	request.Networks = networksOf(networks...)
	if err := r.plane.Ban(request); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) unban(bridge string, networks ...string) {
	r.t.Helper()
	if err := r.plane.Unban(bridge, networksOf(networks...)...); err != nil {
		r.t.Fatal(err)
	}
}

// wantBanned checks that a host's SYN goes nowhere and is not answered, or that it is carried.
func (r *rig) wantBanned(o outsider, host string, port uint16, banned bool) {
	r.t.Helper()
	r.put("nic0", o.from(host, port, 80).tcp("S", ""))
	if got := len(r.got("vnic-A")); (got == 0) != banned {
		r.t.Errorf("of a SYN of %s %d come to segment a, banned: %v", host, got, banned)
	}
	r.silent("vnic-B")
	for _, frame := range r.got("nic0") { // others are questions to the router
		if d := decode(frame); d.dst == host {
			r.t.Errorf("%s is answered by %+v", host, d)
		}
	}
}

// Row S7: who is banned reaches nothing, whatever it sends, and nothing reaches it. Its flows
// end: the server is told, and the banned host is not. Others go on.
func TestABannedHostReachesNothing(t *testing.T) {
	for _, o := range outsiders {
		t.Run(o.name, func(t *testing.T) {
			inIPv6(t, banConfig(), func(t *testing.T, r *rig) {
				alias, other := o.open(r, o.host, 4000), o.open(r, o.other, 4000)
				r.ban(BanRequest{}, o.network)
				for _, frame := range r.got("vnic-A") {
					if d := decode(frame); answerKind(d) != "RST" || d.src != alias || d.dport != 80 {
						t.Errorf("the server gets %+v, want a RST in the name of the client", d)
					}
				}
				r.silent("nic0", "vnic-B")

				c := o.from(o.host, 4000, 80)
				frames := [][]byte{c.tcp("A", "more"), c.tcp("R", ""), c.tcp("S", ""), c.udp("x"), o.from(o.host, 4001, 9).tcp("S", "")}
				if o.name == "IPv4" {
					frames = append(append(frames, c.echo("x"), c.icmpErrorAbout(3, r.answerTo(o.other, other), 28)), cut(c.udp(filled('x', 3000)), 7, 1480)...)
				} else {
					frames = append(append(frames, c.echoIPv6("x")), cut6(c.udp(filled('x', 3000)), 7, 1400)...)
				}
				r.got("nic0")
				r.put("nic0", frames...)
				r.silent("vnic-A", "vnic-B", "nic0")
				if n := r.drops("nic0", "denied"); n != uint64(len(frames)) {
					t.Errorf("%d of %d are counted", n, len(frames))
				}

				r.put("vnic-A", o.toClient(alias, 80, 4000).tcp("A", "an answer"), o.toClient(o.host, 5000, 443).tcp("S", ""), o.toClient(o.host, 5000, 53).udp("x"))
				r.silent("nic0")
				if n := r.drops("vnic-A", "denied"); n < 2 {
					t.Errorf("%d packets to the banned host are counted, want 2", n)
				}
				r.got("vnic-A")
				r.put("nic0", o.from(o.other, 4000, 80).tcp("A", "more"))
				r.one("vnic-A")

				r.unban("", o.network)
				o.open(r, o.host, 4002)
				r.put("vnic-A", o.toClient(o.host, 5001, 443).tcp("S", ""))
				r.one("nic0")
			})
		})
	}
}

// answerTo is what the server answers to a client whose flow it knows by an alias, as it
// leaves the NIC.
func (r *rig) answerTo(client, alias string) []byte {
	r.t.Helper()
	r.put("vnic-A", fromA(alias, 80, 4000).tcp("A", "a page"))
	return r.one("nic0")
}

// Row S7: a ban that has a time ends then, and not before.
func TestBansEnd(t *testing.T) {
	const term = 5 * time.Minute
	for _, o := range outsiders {
		t.Run(o.name, func(t *testing.T) {
			inIPv6(t, banConfig(), func(t *testing.T, r *rig) {
				r.ban(BanRequest{For: 2 * term}, o.other)
				r.ban(BanRequest{For: term}, o.network)
				r.ban(BanRequest{}, "192.0.2.1/32")
				time.Sleep(term - time.Second)
				r.wantBanned(o, o.host, 4000, true)
				time.Sleep(2 * time.Second)
				r.wantBanned(o, o.host, 4001, false)
				r.wantBanned(o, o.other, 4000, true)
				r.ban(BanRequest{For: 3 * term}, o.other) // a new end
				time.Sleep(term)
				r.wantBanned(o, o.other, 4001, true)
				time.Sleep(2*term + time.Second)
				r.wantBanned(o, o.other, 4002, false)
				if left := r.plane.Bans(); len(left) != 1 || left[0] != (Ban{Network: netip.MustParsePrefix("192.0.2.1/32")}) {
					t.Errorf("the bans left are %v", left)
				}
			})
		})
	}
}

// Row S7: bans survive reloads, changes of the data path, and a NIC that is opened again. A
// bridge that comes later has those of all bridges. `deny` of the configuration holds beside
// them, and ends with the configuration.
func TestBansSurvive(t *testing.T) {
	for _, o := range outsiders {
		t.Run(o.name, func(t *testing.T) {
			inIPv6(t, banConfig(), func(t *testing.T, r *rig) {
				r.ban(BanRequest{}, o.network)
				r.ban(BanRequest{Bridge: "lan"}, "192.0.2.0/24")
				port := uint16(4000)
				apply := func(change func(*config.Config)) {
					t.Helper()
					cfg := banConfig()
					change(cfg)
					if err := r.plane.Apply(cfg); err != nil {
						t.Fatal(err)
					}
					r.settle()
					for _, device := range []string{"nic0", "vnic-A", "vnic-B"} {
						r.got(device)
					}
					port++
					r.wantBanned(o, o.host, port, true)
				}
				apply(func(cfg *config.Config) { cfg.Segments["a"].Weight = 7 })
				apply(func(cfg *config.Config) { cfg.Datapath = config.DatapathUserspace })
				apply(func(*config.Config) {})
				apply(func(cfg *config.Config) { cfg.Bridges["lan"].Deny = networksOf(o.network, o.other) })
				r.wantBanned(o, o.other, port, true)
				r.unban("", o.network)
				r.wantBanned(o, o.host, 6000, true) // by the configuration
				r.ban(BanRequest{}, o.network)
				apply(func(*config.Config) {})
				r.wantBanned(o, o.other, 6001, false)
				apply(func(cfg *config.Config) { // another bridge of the same NIC
					cfg.Bridges["wan"] = cfg.Bridges["lan"]
					delete(cfg.Bridges, "lan")
				})
				r.unban("", o.network)
				r.wantBanned(o, o.host, 6002, false)
			})
		})
	}
}

// Row S7: a reload that fails leaves what is denied as it was.
func TestAFailedReloadChangesNoBan(t *testing.T) {
	for _, o := range outsiders {
		t.Run(o.name, func(t *testing.T) {
			inForce, next := banConfig(), banConfig()
			inForce.Bridges["lan"].Deny = networksOf(o.other)
			next.Bridges["lan"].Deny = networksOf(o.network)
			inIPv6(t, inForce, func(t *testing.T, r *rig) {
				r.machine.unguard = 2 // before anything is prepared, and after the bans
				if err := r.plane.Apply(next); err == nil {
					t.Fatal("the reload does not fail")
				}
				if r.machine.unguard != 0 {
					t.Fatal("the reload fails before the bans are prepared")
				}
				r.wantBanned(o, o.host, 4000, false)
				r.wantBanned(o, o.other, 4001, true)
			})
		})
	}
}

// Row S7: who is banned from one segment reaches the others. A ban of a segment survives reloads, a
// change of the data path and a failed reload, and is another one than that of a bridge.
func TestABanFromASegment(t *testing.T) {
	for _, o := range outsiders {
		t.Run(o.name, func(t *testing.T) {
			inIPv6(t, banConfig(), func(t *testing.T, r *rig) {
				alias := o.open(r, o.host, 4000)
				o.open(r, o.other, 4000)
				r.ban(BanRequest{Segment: "a"}, o.network)
				told := r.got("vnic-A")
				if len(told) != 1 {
					t.Errorf("the server is told %d times that the connection is over", len(told))
				}
				for _, frame := range told {
					if d := decode(frame); answerKind(d) != "RST" || d.src != alias {
						t.Errorf("the server gets %+v, want a RST in the name of the client", d)
					}
				}
				r.wantBanned(o, o.host, 4001, true)
				r.put("nic0", o.from(o.host, 4001, 9).tcp("S", ""), o.from(o.host, 4001, 80).udp("x"))
				r.silent("vnic-A", "vnic-B", "nic0")
				r.put("vnic-A", o.toClient(o.host, 5000, 443).tcp("S", ""), o.toClient(o.host, 5000, 53).udp("x"))
				r.silent("nic0")
				if in, out := r.drops("nic0", "denied"), r.drops("vnic-A", "denied"); in != 3 || out != 2 {
					t.Errorf("%d packets to the segment and %d of it are counted, want 3 and 2", in, out)
				}
				r.got("vnic-A")
				r.put("nic0", o.from(o.other, 4000, 80).tcp("A", "more"))
				r.one("vnic-A")

				reaches := func(port uint16, want string) {
					t.Helper()
					r.put("nic0", o.from(o.host, port, 80).tcp("S", ""))
					r.one(want)
				}
				r.plane.SetState("a", config.Draining)
				reaches(4002, "vnic-B")
				r.plane.SetState("a", config.Active)
				for i, datapath := range []config.Datapath{config.DatapathUserspace, config.DatapathAuto} {
					cfg := banConfig()
					cfg.Datapath = datapath
					if err := r.plane.Apply(cfg); err != nil {
						t.Fatal(err)
					}
					r.settle()
					r.got("nic0")
					r.wantBanned(o, o.host, 4003+uint16(i), true)
				}
				want := Ban{Network: networksOf(o.network)[0], Segment: "a"}
				if listed := r.plane.Bans(); len(listed) != 1 || listed[0] != want {
					t.Errorf("the bans are %v, want %v", listed, want)
				}
				if err := r.plane.Unban("", want.Network); err == nil || !strings.Contains(err.Error(), "is not banned at all bridges") {
					t.Errorf("the ban of a segment as one of all bridges: %v", err)
				}
				if err := r.plane.UnbanFrom("b", want.Network); err == nil || !strings.Contains(err.Error(), "is not banned from segment b") {
					t.Errorf("the ban of another segment: %v", err)
				}
				if err := r.plane.UnbanFrom("a", want.Network); err != nil {
					t.Fatal(err)
				}
				reaches(4006, "vnic-A")
				r.put("vnic-A", o.toClient(o.host, 5001, 443).tcp("S", ""))
				r.one("nic0")
			})
		})
	}
}

// Row S7: who is banned from the segment whose name he asks for gets no answer, and reaches the segment
// of another name.
func TestABanFromANamedSegment(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		r.ban(BanRequest{Segment: "a"}, o.network)
		c := r.talk(o, 4000)
		c.greet().sends(c.says(0, headOfA))
		r.silent("vnic-A", "vnic-B", "nic0")
		c = r.talk(o, 4001)
		c.greet().sends(c.says(0, "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n"))
		c.asksForSegment("b")
	})
}

// Row S7: the administrators of one segment leave room for the bans of others.
func TestBansOfASegmentAreBounded(t *testing.T) {
	onEachDataPath(t, banConfig(), func(t *testing.T, r *rig) {
		var networks []string
		for i := range MaxSegmentBans {
			networks = append(networks, fmt.Sprintf("203.0.%d.%d/32", i>>8, i&255))
		}
		r.ban(BanRequest{Segment: "a"}, networks...)
		more := BanRequest{Segment: "a", Networks: networksOf("198.51.100.1")}
		if err := r.plane.Ban(more); err == nil || !strings.Contains(err.Error(), "segment a has 16384 bans") {
			t.Errorf("one ban more: %v", err)
		}
		r.wantBanned(outsiders[0], "203.0.63.255", 4000, true)
		r.ban(BanRequest{Segment: "b"}, "198.51.100.1")
		if err := r.plane.UnbanFrom("a", networksOf(networks[0])...); err != nil {
			t.Fatal(err)
		}
		if err := r.plane.Ban(more); err != nil {
			t.Errorf("after one was lifted: %v", err)
		}
	})
}

// If one network of a ban is protected, or cannot be banned, none of them is banned.
func TestBansAreRefused(t *testing.T) {
	onEachDataPath(t, banConfig(), func(t *testing.T, r *rig) {
		own := netip.MustParseAddr("198.51.100.7")
		for _, tt := range []struct {
			request  BanRequest
			networks string
			want     string
			force    bool // it can be forced
		}{
			{BanRequest{}, "203.0.113.0/24 192.168.1.0/24", "192.168.1.1 is the gateway of bridge lan", true},
			{BanRequest{Bridge: "lan"}, "203.0.113.0/24 fe80::/10", "fe80::1 is the gateway of bridge lan", true},
			{BanRequest{Protected: []netip.Addr{own}}, "203.0.113.0/24 198.51.100.0/25", "198.51.100.7 is who asks for it", true},
			{BanRequest{Bridge: "wan"}, "203.0.113.0/24", `unknown bridge "wan": the configuration has lan`, false},
			{BanRequest{Segment: "c"}, "203.0.113.0/24", `unknown segment "c": the configuration has a, b`, false},
			{BanRequest{Segment: "a", Bridge: "lan"}, "203.0.113.0/24", "want one of them", false},
			{BanRequest{For: -time.Second}, "203.0.113.0/24", "want a time that is to come", false},
			{BanRequest{}, "203.0.113.0/24 203.0.114.1/24", "the network is 203.0.114.0/24", false},
			{BanRequest{}, "203.0.113.0/24 ::ffff:10.0.0.0/104", "write it as IPv4", false},
			{BanRequest{}, "", "no network", false},
		} {
			tt.request.Networks = prefixes(strings.Fields(tt.networks)...)
			err := r.plane.Ban(tt.request)
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, ErrProtected) != tt.force {
				t.Errorf("%s: %v, want %q", tt.networks, err, tt.want)
			}
			if got := r.plane.Bans(); len(got) > 0 {
				t.Errorf("%s is refused, and the bans are %v", tt.networks, got)
			}
			tt.request.Force = true
			if err := r.plane.Ban(tt.request); (err == nil) != tt.force {
				t.Errorf("%s by force: %v", tt.networks, err)
			} else if err == nil {
				r.unban(tt.request.Bridge, strings.Fields(tt.networks)...)
			}
		}
		if err := r.plane.Unban("lan", prefixes("203.0.113.0/24")...); err == nil || !strings.Contains(err.Error(), "203.0.113.0/24 is not banned at bridge lan") {
			t.Errorf("unban of what is not banned: %v", err)
		}
		r.wantBanned(outsiders[0], farHost, 4000, false)
	})
}

// Row S7: 100,000 bans hold on either data path, and their end leaves nothing behind.
func TestManyBans(t *testing.T) {
	onEachDataPath(t, banConfig(), func(t *testing.T, r *rig) {
		var networks []string
		for i := range 100_000 {
			networks = append(networks, fmt.Sprintf("203.%d.%d.%d/32", i>>16, i>>8&255, i&255))
		}
		r.ban(BanRequest{}, networks...)
		for i := 0; i < len(networks); i += 9973 {
			r.wantBanned(outsiders[0], strings.TrimSuffix(networks[i], "/32"), 4000, true)
		}
		r.wantBanned(outsiders[0], "203.9.0.0", 4000, false)
		r.unban("", networks...)
		for i := 0; i < len(networks); i += 9973 {
			r.wantBanned(outsiders[0], strings.TrimSuffix(networks[i], "/32"), 4001, false)
		}
	})
}
