package integration_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row H10: a device is set up if it is down, and nothing else of it is changed. It is never
// promiscuous. After a stop, and after Caddy was killed, nothing is left on it, and the host can use
// it.
func TestDeviceIsLeftAlone(t *testing.T) {
	onEachAttachment(t, func(t *testing.T, datapath, kernel string) {
		s := newRemoteScene(t, datapath, "client_ip preserve")
		s.onKernel(kernel)
		s.serveAll(s.far)
		s.config.policy = "lb_policy ip_hash b"
		s.ip(s.Server, "link set "+tunnel+" up")
		if err := s.Server.Sysctl("net/ipv6/conf/"+tunnel+"/disable_ipv6", "1"); err != nil { // else the kernel's own address comes late
			t.Fatal(err)
		}
		before := s.snapshot()
		s.ip(s.Server, "link set "+tunnel+" down")
		for end, stop := range map[string]func(){"a stop": s.stop, "kill -9": s.kill} {
			s.start(s.config)
			if got, err := hear(s.PC1, "192.168.1.2:7000", 5*time.Second); err != nil || got != s.far.Namespace() {
				t.Fatalf("PC1 hears %q (%v)", got, err)
			}
			s.wantUnchangedDevice()
			if end == "a stop" {
				stop()
				s.wantSame("after a stop", before)
			} else {
				stop()
				s.wantSame("after kill -9", withoutRules(before))
			}
		}
		s.ip(s.Server, "address add 192.168.60.9/24 dev "+tunnel)
		s.waitFor("the host uses the device itself", func() bool {
			got, err := hear(s.Server, farAddr+":7000", 500*time.Millisecond)
			return err == nil && got == s.far.Namespace()
		})
	})
}

// wantUnchangedDevice checks what a running Caddy has made of its device.
func (s *remoteScene) wantUnchangedDevice() {
	s.t.Helper()
	link := s.ip(s.Server, "-d link show "+tunnel)
	for _, want := range []string{"UP", "mtu 1450", "promiscuity 0"} {
		if !strings.Contains(link, want) {
			s.t.Errorf("the device is not %s: %s", want, link)
		}
	}
	for _, never := range []string{"PROMISC", "ALLMULTI", "allmulti 1"} {
		if strings.Contains(link, never) {
			s.t.Errorf("the device is %s: %s", never, link)
		}
	}
	if addresses := s.ip(s.Server, "-4 -o address show dev "+tunnel); addresses != "" {
		s.t.Errorf("the device has addresses: %s", addresses)
	}
}

// Row H10: a device that cannot be a segment's is refused, with the reason.
func TestDeviceIsRefused(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newRemoteScene(t, datapath, "")
		refused := func(device, want string) {
			t.Helper()
			config := s.config
			config.deviceB = "device " + device
			if err := s.tryStart(config.String()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("device %s: %v, want %q", device, err, want)
			}
		}
		refused("nosuch", "device nosuch: no such device; this machine has")
		refused("lo", "device lo: it is no Ethernet device")
		refused("nic0", "device nic0 is bridge lan's nic")
		s.ip(s.Server, "link add br5 type bridge")
		s.ip(s.Server, "link set "+tunnel+" master br5")
		refused(tunnel, "device vx60 is a member of br5 (bridge)")
		s.ip(s.Server, "link set "+tunnel+" nomaster")
		s.ip(s.Server, "link add link "+tunnel+" name mac5 type macvlan mode bridge")
		refused("mac5", "a macvlan takes only frames to its own MAC: give the segment that one (mac ")
		s.ip(s.Server, "address add 192.168.60.9/24 dev "+tunnel)
		refused(tunnel, "address 192.168.60.1/24 overlaps 192.168.60.9/24, which this host has on vx60")
		s.ip(s.Server, "address delete 192.168.60.9/24 dev "+tunnel)
		s.ip(s.Server, "link set "+tunnel+" mtu 1200")
		refused(tunnel, "device vx60 has an MTU of 1200, and IPv6 needs 1280")
	})
}

// Row H10: a site cannot be bound to a segment that is elsewhere, nor a command run in it.
func TestNothingIsInARemoteSegment(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newRemoteScene(t, datapath, "")
		config := s.config
		config.sites = pages
		const want = "vnic/b: the server of segment b is behind device vx60, so nothing on this machine can listen there"
		if err := s.tryStart(config.String()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a site on the segment: %v, want %q", err, want)
		}
		s.start(s.config)
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		output, err := s.Server.Run(t.Context(), "env", asCaddy, self, "vnic", "exec", "b", "true")
		if err == nil || !strings.Contains(string(output), "the server of segment b is behind device vx60: start the command there") {
			t.Errorf("caddy vnic exec: %q (%v)", output, err)
		}
		if status := s.vnic("status"); !strings.Contains(status, "behind vx60") {
			t.Errorf("the status does not say where the segment is:\n%s", status)
		}
	})
}

// Rows H10, S2, S3 and S4: what is behind a device reaches nothing but the gateway's alias, not even
// by the device's own MAC on a host that forwards. Other hosts there reach nothing at all, and
// cannot speak for the server.
func TestRemoteSegmentIsApart(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newRemoteScene(t, datapath, "")
		s.ip(s.Server, "address add 192.168.1.3/24 dev nic0") // the host's own
		elsewhere := s.addNetwork()
		if err := s.Server.Sysctl("net/ipv4/ip_forward", "1"); err != nil {
			t.Fatal(err)
		}
		stray := s.addStray()
		s.config.a = "ports any"
		s.start(s.config)
		for _, h := range []*netlab.Host{s.Server, elsewhere, s.Router, s.PC1} {
			s.serveAll(h)
		}
		const alias = "192.168.60.2"
		s.wantHeard(s.far, alias, s.Router)
		s.wantPing(s.far, netip.MustParseAddr(alias))
		targets := []string{"192.168.50.1", "192.168.1.2", "192.168.1.3", "10.9.9.1", "10.9.9.2", "192.168.60.3", "192.168.1.1", "192.168.10.2"}
		outside := s.capture(s.Server, "nic0", "other", "vnic-A")
		for _, target := range targets {
			s.wantNothing(s.far, "by the bridge", target)
			s.wantNothing(stray, "by the bridge, from another host", target)
		}
		s.wantNothing(stray, "the gateway, from another host", alias)

		mac := s.macOf(s.Server, tunnel)
		for _, h := range []*netlab.Host{s.far, stray} { // by the host's MAC on the device
			s.ip(h, "neighbour replace 192.168.60.200 lladdr "+mac+" dev "+s.deviceOf(h))
			for _, target := range append(targets, "192.168.60.9") {
				s.ip(h, "route replace "+target+"/32 via 192.168.60.200 dev "+s.deviceOf(h)+" onlink")
				s.wantNothing(h, "by the host", target)
			}
		}
		s.wantNoAnswer(stray, "192.168.1.3", "10.9.9.1", "192.168.1.2", "192.168.50.1")

		before := s.status().Segments["b"].Drops["bad_source"]
		s.ip(stray, "address flush dev "+s.deviceOf(stray))
		s.ip(stray, "address add "+farAddr+"/24 dev "+s.deviceOf(stray))
		s.ip(stray, "neighbour replace "+alias+" lladdr "+s.status().Segments["b"].MAC.String()+" dev "+s.deviceOf(stray))
		s.wantNothing(stray, "the gateway, in the server's name", alias)
		if n := s.status().Segments["b"].Drops["bad_source"]; n == before {
			t.Error("frames in the server's name are not counted")
		}
		for _, f := range s.frames(outside) {
			if p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy); beginsFlow(p) {
				t.Errorf("a packet came out of the segment: %v", p)
			}
		}
	})
}

// addStray adds another host behind the device, which asks for nobody and is never asked.
func (s *remoteScene) addStray() *netlab.Host {
	s.t.Helper()
	stray, err := s.NewHost("stray")
	if err != nil {
		s.t.Fatal(err)
	}
	s.ip(s.far, "link add link "+tunnel+" name stray0 netns "+stray.Namespace()+" type macvlan mode bridge")
	s.ip(stray, "link set stray0 up")
	s.ip(stray, "address add 192.168.60.9/24 dev stray0")
	s.ip(stray, "route add default via 192.168.60.2")
	if err := stray.Sysctl("net/ipv4/conf/stray0/arp_ignore", "8"); err != nil { // never answers
		s.t.Fatal(err)
	}
	return stray
}

func (s *remoteScene) deviceOf(h *netlab.Host) string {
	if h == s.far {
		return tunnel
	}
	return "stray0"
}

func (s *scene) macOf(h *netlab.Host, device string) string {
	s.t.Helper()
	link, err := h.Netlink().LinkByName(device)
	if err != nil {
		s.t.Fatal(err)
	}
	return link.Attrs().HardwareAddr.String()
}

// wantNoAnswer checks that ARP for addresses is not answered behind the device.
func (s *remoteScene) wantNoAnswer(from *netlab.Host, addresses ...string) {
	s.t.Helper()
	for _, address := range addresses {
		if output, err := from.Run(s.t.Context(), "arping", "-c1", "-w1", "-I", s.deviceOf(from), address); err == nil {
			s.t.Errorf("ARP for %s is answered: %s", address, output)
		}
	}
	if output, err := from.Run(s.t.Context(), "arping", "-c1", "-w5", "-I", s.deviceOf(from), "192.168.60.2"); err != nil {
		s.t.Errorf("ARP for an alias is not answered: %s", output)
	}
}

// Row H10: a veth pair, a Linux bridge and a macvlan serve as well. A kind that has a filter of MACs
// is made to take those of the bridge, without becoming promiscuous.
func TestOtherDevices(t *testing.T) {
	t.Parallel()
	for kind, device := range map[string]struct {
		make    []string
		refuses string // another MAC than its own, and why
	}{
		"veth":    {},
		"bridge":  {[]string{"link add dev60 type bridge forward_delay 0", "link set vm0 master dev60", "link set vm0 up"}, "it cannot take frames to a second MAC without becoming promiscuous"},
		"macvlan": {[]string{"link add link vm0 name dev60 type macvlan mode bridge"}, "a macvlan takes only frames to its own MAC"},
	} {
		t.Run(kind, func(t *testing.T) {
			onEachDataPath(t, func(t *testing.T, datapath string) {
				s, vm := newVM(t)
				for _, call := range []string{"iptables", "ip6tables", "arptables"} { // else a bridge is refused, as TestOtherNICs finds
					_ = s.Server.Sysctl("net/bridge/bridge-nf-call-"+call, "0") // there may be no br_netfilter
				}
				own := "vm0"
				for _, command := range device.make {
					own = "dev60"
					s.ip(s.Server, command)
				}
				config := caddyfile{
					datapath: datapath, families: "46", deviceB: "device " + own, b: "ports any\nclient_ip preserve", policy: "lb_policy first b",
					sites: "http:// {\nbind vnic/a\nrespond a\n}\n",
				}
				if device.refuses != "" {
					mac := "mac " + s.macOf(s.Server, own)
					want := fmt.Sprintf("device dev60: %s: give the segment that one (%s)", device.refuses, mac)
					if err := s.tryStart(config.String()); err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("the start fails with %v, want %q", err, want)
					}
					config.b += "\n" + mac
				}
				s.start(config)
				s.listen(vm, ":7000", say("the vm"))
				s.listen(vm, "[::]:7001", say("the vm"))
				for _, address := range []string{"192.168.1.2:7000", pseudo6 + ":7001"} {
					if got, err := hear(s.PC1, address, 5*time.Second); err != nil || got != "the vm" {
						t.Errorf("PC1 hears %q of %s (%v)", got, address, err)
					}
				}
				link := s.ip(s.Server, "-d link show "+own)
				if !strings.Contains(link, "promiscuity 0") || strings.Contains(link, "allmulti 1") != (device.refuses != "") {
					t.Errorf("the device has other flags: %s", link)
				}
				s.stop()
				if link := s.ip(s.Server, "-d link show "+own); strings.Contains(link, "allmulti 1") {
					t.Errorf("after a stop the device still takes all groups: %s", link)
				}
			})
		})
	}
}

// newVM adds a machine behind the server's device vm0, which has the addresses of segment b.
func newVM(t *testing.T) (*scene, *netlab.Host) {
	t.Helper()
	s := newScene(t, paper.NetworkOptions{IPv6: true})
	vm, err := s.NewHost("vm")
	if err != nil {
		t.Fatal(err)
	}
	err = s.Link(netlab.End{Host: s.Server, Device: "vm0"}, netlab.End{
		Host: vm, Device: "eth0", Address: netip.MustParsePrefix(farAddr + "/24"), V6: []netip.Prefix{netip.MustParsePrefix(farAddr6 + "/64")},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.ip(vm, "route add default via 192.168.60.2")
	s.ip(vm, "-6 route add default via fd00:60::2")
	return s, vm
}

// Rows H10 and L3: a device that goes down, or away, comes back; the log tells it, and service
// resumes. The server may get another MAC.
func TestDeviceFaults(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newRemoteScene(t, datapath, "client_ip preserve")
		s.config.global = "events {\non vnic.segment_down test_log\non vnic.segment_up test_log\n}"
		s.start(s.config)
		s.listen(s.far, farAddr+":9000", echo)
		session := s.openSession("192.168.1.2:9000")
		session.want("the start")
		for _, fault := range []struct {
			name string
			do   func()
			log  []string // in this order
		}{
			{"down and up", func() {
				s.ip(s.Server, "link set "+tunnel+" down")
				s.wantLog("device vx60 is down")
				s.ip(s.Server, "link set "+tunnel+" up")
			}, []string{"the device went down", "heard vnic.segment_down", "the device went up", "heard vnic.segment_up"}},
			{"another MTU", func() {
				s.ip(s.Server, "link set "+tunnel+" mtu 1400")
			}, []string{"the device has another MTU", `"from":1450,"to":1400`}},
			{"deleted and made again", func() {
				s.ip(s.Server, "link delete "+tunnel)
				s.wantLog("device vx60 is gone")
				s.ip(s.Server, fmt.Sprintf("link add %s type vxlan id 60 remote %s dstport 4789 dev under", tunnel, underAddr(0)))
			}, []string{"a device is lost", `"device":"vx60"`, "heard vnic.segment_down", "the device is back"}},
			{"the server replaced", func() {
				s.ip(s.far, "link set "+tunnel+" address 02:00:00:00:06:02")
			}, []string{"the segment's server has another MAC", `"mac":"02:00:00:00:06:02"`}},
		} {
			t.Run(fault.name, func(t *testing.T) {
				defer s.in(t)()
				from := len(s.caddy.Log(everything))
				fault.do()
				for _, text := range fault.log {
					from = s.wantLogFrom(from, text)
				}
				s.waitFor("service", func() bool { return s.connects("192.168.1.2:9000") })
				session.want(fault.name)
			})
		}
	})
}
