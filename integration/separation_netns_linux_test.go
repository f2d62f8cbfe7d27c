package integration_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows S2, S3 and S4: the paper's Fig-18 with each segment in a network namespace of its
// own. Segment a reaches nothing but by its VNIC: no other segment, nothing of the host, and
// of the LAN only the gateway, by its alias.
func TestNetns(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{Neighbours: 1, IPv6: true})
		s.ip(s.Server, "address add 192.168.1.3/24 dev nic0") // the host's own
		elsewhere := s.addNetwork()
		names := s.namespaces()
		config := exampleInNamespaces(t, datapath, names)
		s.startExample(config)
		s.wantCurl("--http1.1", "1.1")
		s.wantCurl("--http2", "2")
		s.wantHTTP3()

		a, b, front := s.enter(names["a"]), s.enter(names["b"]), s.enter(names["front"])
		for _, h := range []*netlab.Host{b, front, s.Server, elsewhere, s.Router, s.Neighbours[0], s.PC1} {
			s.serveAll(h)
		}
		alias := s.status().Segments["front"].Peers["b"][0].String()
		s.wantHeard(front, alias, b) // as nothing else is, below
		s.wantHeard(s.Neighbours[0], "192.168.1.3", s.Server)
		s.wantHeard(s.Server, "10.9.9.2", elsewhere)
		s.wantShutIn(a)

		// An intruder who is root in the namespace makes himself routes.
		s.ip(a, "route replace default via 192.168.50.2")
		s.wantShutIn(a)
		s.ip(a, "route replace default dev vnic-A scope link")
		s.wantShutIn(a)

		s.write("Caddyfile", strings.Replace(config, "error 404", "error 410", 1))
		if err := s.caddy.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.wantCurl("--http2", "2")
		s.wantHTTP3()
		s.wantShutIn(a)

		s.stop()
		for _, name := range names {
			if _, err := os.Stat(filepath.Join("/run/netns", name)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("after the stop the namespace %s is there (%v)", name, err)
			}
		}
	})
}

// A segment moves into a namespace, and out of it, by a reload.
func TestNetnsByReload(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newFront(t, datapath)
		for _, config := range []string{exampleInNamespaces(t, datapath, s.namespaces()), exampleWith(t, datapath)} {
			s.write("Caddyfile", config)
			if err := s.caddy.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.wantCurl("--http1.1", "1.1")
			s.wantCurl("--http2", "2")
			s.wantHTTP3()
		}
	})
}

// A segment in a namespace sees its clients as one without a namespace does. A server that is
// not Caddy sees them under an alias or, with `client_ip preserve`, as they are. Caddy sees
// them as they are.
func TestNetnsClientIP(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{Neighbours: 1})
		name := s.namespaces()["a"]
		config := preserving(datapath)
		config.a += "\nnetns " + name
		s.start(config)
		s.listen(s.enter(name), ":7001", sayPeer)
		seen := func() string {
			said, err := hear(s.PC1, "192.168.1.2:7001", time.Second)
			if err != nil {
				t.Error(err)
			}
			return said
		}
		if got, caddys := seen(), s.get("http://192.168.1.2/"); got != "192.168.10.2" || caddys != "192.168.10.2" {
			t.Errorf("with preserve PC1 is %s, and %s to Caddy", got, caddys)
		}
		config.a = "ports any\nnetns " + name
		s.load(config)
		if got, caddys := seen(), s.get("http://192.168.1.2/"); !strings.HasPrefix(got, "192.168.50.") || caddys != "192.168.10.2" {
			t.Errorf("with translate PC1 is %s, and %s to Caddy", got, caddys)
		}
	})
}

// Row S4: where the trust domain of segments without `netns` begins,
// as docs/security.md says: a process of the host reaches any segment's address,
// over lo. No packet does, on any VNIC.
func TestTrustDomain(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newFront(t, datapath)
		s.serveAll(s.Server)
		vnics := s.capture(s.Server, "vnic-A", "vnic-B")
		if got, err := s.curl("192.168.50.1", "http://192.168.60.1/test2/index.html"); err != nil || got != "b" {
			t.Errorf("a process of the host, from a's address, gets %q of b (%v)", got, err)
		}
		for _, f := range s.frames(vnics) {
			decoded := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.Default)
			if decoded.Layer(layers.LayerTypeTCP) != nil { // others are what a host says by itself, such as reports of MLD
				t.Errorf("a VNIC carries %x: between local addresses Linux delivers over lo", f.Data)
			}
		}
		alias := s.status().Segments["front"].Peers["b"][0].String()
		if got, err := s.curl("192.168.40.1", "http://"+alias+"/test2/index.html"); err != nil || got != "b" {
			t.Errorf("the front gets %q of b (%v)", got, err)
		}
		for from, to := range map[string]string{
			"vnic-A":       "192.168.60.1", // by the device, so not over lo
			"192.168.50.1": alias,          // b as the front knows it
		} {
			if got, err := s.curl(from, "http://"+to+"/test2/index.html"); err == nil {
				t.Errorf("from %s, %s answers %q", from, to, got)
			}
		}
	})
}

// namespaces are the names of namespaces for the example's segments.
func (s *scene) namespaces() map[string]string {
	names := make(map[string]string)
	for _, segment := range []string{"a", "b", "front"} {
		names[segment] = s.name + "-" + segment
	}
	return names
}

// exampleInNamespaces is the example with `netns` in each segment, all ports open,
// and a bridge that knows a, which may so reach the gateway. In a namespace of its
// own the front is no way out for the host.
func exampleInNamespaces(t *testing.T, datapath string, names map[string]string) string {
	t.Helper()
	return exampleWith(t, datapath,
		"\t\t\tinterface vnic-A", "\t\t\tports any\n\t\t\tnetns "+names["a"]+"\n\t\t\tinterface vnic-A",
		"\t\t\tinterface vnic-B", "\t\t\tports any\n\t\t\tnetns "+names["b"]+"\n\t\t\tinterface vnic-B",
		"\t\t\tinterface vnic-F", "\t\t\tports any\n\t\t\tnetns "+names["front"]+"\n\t\t\tinterface vnic-F",
		"\t\t\tdefault_route", "\t\t\t",
		"steer front protocol icmp", "lb_policy first a")
}

// addNetwork gives the server another network, with a host on it.
func (s *scene) addNetwork() *netlab.Host {
	s.t.Helper()
	host, err := s.NewHost("elsewhere")
	if err != nil {
		s.t.Fatal(err)
	}
	err = s.Link(
		netlab.End{Host: s.Server, Device: "other", Address: netip.MustParsePrefix("10.9.9.1/24")},
		netlab.End{Host: host, Device: "eth0", Address: netip.MustParsePrefix("10.9.9.2/24")})
	if err != nil {
		s.t.Fatal(err)
	}
	return host
}

// enter makes a namespace usable as a host until the test ends.
func (s *scene) enter(namespace string) *netlab.Host {
	s.t.Helper()
	h, err := netlab.Enter(namespace)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { h.Leave() })
	return h
}

// serveAll serves TCP and UDP on all addresses of a host.
func (s *scene) serveAll(h *netlab.Host) {
	s.t.Helper()
	s.listen(h, ":7000", say(h.Namespace()))
	s.echoUDP(h, ":7000")
}

// wantHeard checks that a server of serveAll answers.
func (s *scene) wantHeard(from *netlab.Host, address string, server *netlab.Host) {
	s.t.Helper()
	if said, err := hear(from, address+":7000", time.Second); err != nil || said != server.Namespace() {
		s.t.Errorf("%s says %q to %s (%v), want %s", address, said, from.Namespace(), err, server.Namespace())
	}
	if err := s.askFrom(from, address+":7000"); err != nil {
		s.t.Errorf("%s to %s by UDP: %v", address, from.Namespace(), err)
	}
}

// wantShutIn checks that from within segment a only the gateway's alias answers.
func (s *scene) wantShutIn(a *netlab.Host) {
	s.t.Helper()
	const gateway = "192.168.50.2"
	s.wantHeard(a, gateway, s.Router)
	s.wantPing(a, netip.MustParseAddr(gateway))

	outside := s.capture(s.Server, "nic0", "other", "vnic-B", "vnic-F")
	var tries sync.WaitGroup
	status := s.status()
	for what, address := range map[string]string{
		"b":                         "192.168.60.1",
		"b as the front knows it":   status.Segments["front"].Peers["b"][0].String(),
		"the front":                 "192.168.40.1",
		"the front as a knows it":   status.Segments["a"].Peers["front"][0].String(),
		"a as the front knows it":   status.Segments["front"].Peers["a"][0].String(),
		"another alias":             "192.168.50.3",
		"another alias of b":        "192.168.60.2",
		"the pseudo address":        "192.168.1.2",
		"the host on the NIC":       "192.168.1.3",
		"the host's other network":  "10.9.9.1",
		"a host on that":            "10.9.9.2",
		"the router by its address": "192.168.1.1",
		"a host of the LAN":         "192.168.1.11",
		"PC1":                       "192.168.10.2",
	} {
		tries.Go(func() {
			s.wantNothing(a, what, address)
			ping, err := a.Ping(s.t.Context(), netip.MustParseAddr(address), netlab.PingOptions{Timeout: 300 * time.Millisecond})
			if err == nil && len(ping.Replies) > 0 {
				s.t.Errorf("%s: %s answers a ping from a", what, address)
			}
		})
	}
	s.wantNothing(a, "the host's loopback", "127.0.0.1") // its own answers pings
	if said, err := hear(a, "127.0.0.1:2019", 200*time.Millisecond); err == nil {
		s.t.Errorf("Caddy's admin endpoint is open to a: %q", said)
	}
	tries.Wait()
	for _, f := range s.frames(outside) {
		if p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy); beginsFlow(p) {
			s.t.Errorf("a packet came out of a's namespace: %v", p)
		}
	}
}

// beginsFlow tells whether a packet is one that a try sends first.
func beginsFlow(p gopacket.Packet) bool {
	tcp, _ := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
	udp, _ := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
	icmp, _ := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	return tcp != nil && tcp.SYN && !tcp.ACK || udp != nil && udp.DstPort == 7000 ||
		icmp != nil && icmp.TypeCode.Type() == layers.ICMPv4TypeEchoRequest
}

// wantNothing checks that an address answers neither over TCP nor over UDP.
func (s *scene) wantNothing(from *netlab.Host, what, address string) {
	s.t.Helper()
	if said, err := hear(from, address+":7000", 200*time.Millisecond); err == nil {
		s.t.Errorf("%s: %s says %q to a", what, address, said)
	}
	if err := s.askWithin(from, address+":7000", 200*time.Millisecond); err == nil {
		s.t.Errorf("%s: %s answers a over UDP", what, address)
	}
}
