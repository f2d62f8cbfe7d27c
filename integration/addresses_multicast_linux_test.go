package integration_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row A9: behind a switch that forwards multicast only to those who report that they listen,
// routers resolve the pseudo address, at once and after the switch has asked anew. Reports are
// the bridge's own: on the NIC the host's kernel has no IPv6.
func TestSnoopingSwitch(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1", "2"} { // of MLD
		t.Run("MLD "+version, func(t *testing.T) {
			t.Parallel()
			onEachDataPath(t, func(t *testing.T, datapath string) { behindSnooping(t, datapath, version) })
		})
	}
}

func behindSnooping(t *testing.T, datapath, version string) {
	s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
	s.snoop(version)
	s.start(caddyfile{datapath: datapath, families: "46"})
	group := solicitedNode(paper.PseudoAddr6)
	s.waitFor("the switch knows who listens to "+group.String(), func() bool { return s.listens(group) })
	nic := s.capture(s.Server, "nic0")
	conn, mac, err := rawSocket(s.Neighbours[0], "eth0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	nobody := netip.MustParseAddr("2001:db8:1::77:7777")
	for range 3 {
		s.ip(s.Router, "-6 neighbour flush dev wan")
		s.wantService6()
		s.sendFrames(conn, toGroup(mac, paper.NeighbourAddr6(0), solicitedNode(nobody)).solicit(nobody, mac))
		time.Sleep(2 * time.Second) // longer than a membership lasts without a report
	}
	if !s.listens(group) {
		t.Errorf("the switch has forgotten that the NIC listens to %s", group)
	}
	for _, f := range s.frames(nic) {
		if isIPv6(f) && endsOf6(f).dst == solicitedNode(nobody) {
			t.Fatalf("the switch does not snoop: it forwards to a group that nobody is in: %x", f.Data)
		}
	}
	s.stop()
	s.waitFor("the bridge has left the group", func() bool { return !s.listens(group) })
}

// snoop has the switch snoop, and ask every second who listens, by a version of MLD. A group
// of which it hears nothing for 1.5 s it forgets.
func (s *scene) snoop(version string) {
	s.t.Helper()
	if err := s.Switch.Sysctl("net/ipv6/conf/br0/accept_dad", "0"); err != nil {
		s.t.Fatal(err)
	}
	if err := s.Switch.Sysctl("net/ipv6/conf/br0/disable_ipv6", "0"); err != nil { // a querier needs an address
		s.t.Fatal(err)
	}
	s.ip(s.Switch, "link set br0 type bridge mcast_query_interval 100 mcast_query_response_interval 50 mcast_membership_interval 150"+
		" mcast_startup_query_interval 100 mcast_startup_query_count 2 mcast_last_member_interval 20 mcast_mld_version "+version)
	s.ip(s.Switch, "link set br0 type bridge mcast_querier 1 mcast_snooping 1")
	time.Sleep(time.Second) // for as long as it waits for the first answers, it forwards to everybody
}

// listens tells whether the switch forwards what is for a group to the server.
func (s *scene) listens(group netip.Addr) bool {
	s.t.Helper()
	for _, line := range strings.Split(s.run(s.Switch, "bridge", "mdb", "show", "dev", "br0"), "\n") {
		if strings.Contains(line, "port to-server ") && strings.Contains(line, "grp "+group.String()+" ") {
			return true
		}
	}
	return false
}

// Row A9: on a NIC that filters multicast, as real ones do, the bridge hears who asks for the
// pseudo address. It listens to its own groups and to nothing else: the NIC is neither
// promiscuous nor takes all multicast.
func TestMulticastFilter(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.ip(s.Server, "link add other link nic0 type macvlan mode bridge")
		if err := s.Server.Sysctl("net/ipv6/conf/other/disable_ipv6", "1"); err != nil {
			t.Fatal(err)
		}
		s.ip(s.Server, "link set other up")
		s.start(caddyfile{datapath: datapath, nic: "other", families: "46"})
		for range 2 {
			s.ip(s.Router, "-6 neighbour flush dev wan")
			s.wantService6()
		}
		if about := s.ip(s.Server, "-details link show dev other"); !strings.Contains(about, "promiscuity 0 ") || !strings.Contains(about, "allmulti 0 ") {
			t.Errorf("the NIC takes more than it should:\n%s", about)
		}
		groups := s.ip(s.Server, "maddress show dev other")
		for _, group := range []net.HardwareAddr{groupMAC(solicitedNode(paper.PseudoAddr6)), groupMAC(allNodes6)} {
			if !strings.Contains(groups, fmt.Sprintf("link  %s", group)) {
				t.Errorf("%s is not in its filter:\n%s", group, groups)
			}
		}
		s.stop()
		if groups := s.ip(s.Server, "maddress show dev other"); strings.Contains(groups, groupMAC(solicitedNode(paper.PseudoAddr6)).String()) {
			t.Errorf("after a stop its filter has\n%s", groups)
		}
	})
}
