package integration_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// separation is a server between three networks: one on each of two bridges, and
// one that the host alone is on. Segment a, of the first bridge, is in an intruder's
// hands, who is root in it: where segments have no namespaces of their own, that is
// root of the host. Segment b is of the second bridge, the front of the first, and
// reaches both. On the first network the host has an address of its own.
type separation struct {
	*scene
	*paper.SecondLAN
	elsewhere   *netlab.Host
	a, b, front *netlab.Host // where the processes of the segments are
}

// newSeparation builds the networks. Their hosts serve on port 80.
func newSeparation(t *testing.T) *separation {
	t.Helper()
	s := &separation{scene: newScene(t, paper.NetworkOptions{Neighbours: 1})}
	lan, err := s.AddLAN(false)
	if err != nil {
		t.Fatal(err)
	}
	s.SecondLAN = lan
	s.elsewhere = s.addNetwork()
	s.ip(s.elsewhere, "route add default via 10.9.9.1")
	s.ip(s.Server, "address add 192.168.1.3/24 dev nic0")
	s.ip(s.Server, "route add default via 192.168.1.1")
	s.ip(s.Server, "link set nic0 promisc on") // somebody captures
	s.ip(s.Neighbours[0], "route add default via 192.168.1.3")
	for name, h := range map[string]*netlab.Host{
		"PC1": s.PC1, "neighbour": s.Neighbours[0], "router": s.Router, "router2": s.Router2, "elsewhere": s.elsewhere,
	} {
		s.listen(h, ":80", answerHTTP(name))
	}
	s.a, s.b, s.front = s.Server, s.Server, s.Server
	return s
}

// startCaddy starts the bridges, with segments in namespaces of their own or not.
func (s *separation) startCaddy(datapath string, apart bool) {
	s.t.Helper()
	secondBridge := "}\nbridge lan2 {\nnic nic1\naddress 192.168.2.2/24\ngateway 192.168.2.1\nlb_policy first b"
	config := frontCaddyfile{
		datapath: datapath, a: "ports any", b: "ports any", front: "ports any",
		bridge: "lb_policy first a\n" + secondBridge, sites: groups,
	}
	names := s.namespaces()
	if apart {
		config.a += "\nnetns " + names["a"]
		config.b += "\nnetns " + names["b"]
		config.front += "\nnetns " + names["front"]
	}
	s.startFront("", config)
	if apart {
		s.a, s.b, s.front = s.enter(names["a"]), s.enter(names["b"]), s.enter(names["front"])
	}
	s.listen(s.a, "192.168.50.1:80", answerHTTP("a"))
	s.listen(s.b, "192.168.60.1:80", answerHTTP("b"))
	s.listen(s.Server, "192.168.1.3:80", answerHTTP("the host"))
}

// apart tells whether the segments have namespaces of their own.
func (s *separation) apart() bool { return s.a != s.Server }

// setting is how the host's kernel is set.
type setting struct{ forward, filter string }

// settings are all combinations of ip_forward and rp_filter; the last is the one
// that lets the most through.
func settings() (all []setting) {
	for _, forward := range []string{"0", "1"} {
		for _, filter := range []string{"1", "2", "0"} {
			all = append(all, setting{forward, filter})
		}
	}
	return all
}

// set sets the server's kernel, in every namespace: as a router, it answers ARP for
// what it can reach, too. Source routes are always allowed, but not on VNICs. What
// the kernel does seldom, or late, it does always and at once.
func (s *separation) set(to setting) {
	s.t.Helper()
	values := [][2]string{{"ip_forward", to.forward}, {"icmp_ratelimit", "0"}} // the former sets all devices' forwarding
	for _, device := range []string{"all", "default", "lo", "nic0", "nic1", "other"} {
		for name, value := range map[string]string{"rp_filter": to.filter, "proxy_arp": to.forward, "accept_source_route": "1"} {
			values = append(values, [2]string{"conf/" + device + "/" + name, value})
		}
	}
	for _, device := range []string{"nic0", "nic1", "other"} {
		values = append(values, [2]string{"neigh/" + device + "/proxy_delay", "0"})
	}
	for _, device := range []string{"vnic-A", "vnic-B", "vnic-F"} {
		values = append(values, [2]string{"conf/" + device + "/rp_filter", to.filter})
	}
	for _, v := range values {
		if err := s.Server.Sysctl("net/ipv4/"+v[0], v[1]); err != nil {
			s.t.Fatal(err)
		}
	}
	if !s.apart() {
		return
	}
	for device, h := range map[string]*netlab.Host{"vnic-A": s.a, "vnic-B": s.b, "vnic-F": s.front} {
		for name, value := range map[string]string{"ip_forward": to.forward, "conf/all/rp_filter": to.filter, "conf/" + device + "/rp_filter": to.filter} {
			if err := h.Sysctl("net/ipv4/"+name, value); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// probe is something that is tried, and where that has got to by setting.
type probe struct {
	from, name string
	entry      entry             // how it gets to the server
	try        func(mark []byte) // with a mark of its own
	seen       []byte            // what else to look for, beside the mark
	places     map[string][]setting
}

func newProbe(from, name string, entry entry, try func(mark []byte)) *probe {
	return &probe{from: from, name: name, entry: entry, try: try, places: make(map[string][]setting)}
}

// sweep makes all the probes under each setting. Each of the fences is one that
// gets through, from where some of them come: when it has, so have those, and when
// it is answered, so are they.
func (s *separation) sweep(probes []*probe, fences ...*probe) {
	s.t.Helper()
	for round, setting := range settings() {
		s.set(setting)
		w := s.watch()
		for i, a := range slices.Concat(probes, fences) {
			a.try(mark(round, i))
		}
		for i, fence := range fences {
			s.waitFor(fence.name, func() bool { return w.through(fence, mark(round, len(probes)+i)) })
		}
		for i, a := range probes {
			for _, place := range w.places(a.entry, mark(round, i), a.seen) {
				a.places[place] = append(a.places[place], setting)
			}
		}
		w.close()
	}
}

// mark is what the payload of a probe has.
func mark(round, probe int) []byte { return fmt.Appendf(nil, "probe<%d.%d>", round, probe) }

// result words where a probe has got to.
func (a *probe) result() string {
	var words []string
	for place, in := range a.places {
		words = append(words, place+condition(in))
	}
	slices.Sort(words)
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, ", ")
}

// condition words the settings that something depended on.
func condition(in []setting) string {
	var forwards, filters []string
	for _, s := range in {
		forwards, filters = append(forwards, s.forward), append(filters, s.filter)
	}
	slices.Sort(forwards)
	slices.Sort(filters)
	forwards, filters = slices.Compact(forwards), slices.Compact(filters)
	if len(in) != len(forwards)*len(filters) {
		return fmt.Sprintf(" under %v", in)
	}
	var words []string
	if len(forwards) == 1 {
		words = append(words, "`ip_forward` "+forwards[0])
	}
	if len(filters) < 3 {
		words = append(words, "`rp_filter` "+strings.Join(filters, " or "))
	}
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, ", ") + ")"
}

// rows are probes as lines of a table.
func rows(probes []*probe) (table [][]string) {
	for _, a := range probes {
		row := []string{a.name, a.result()}
		if a.from != "" {
			row = slices.Insert(row, 0, a.from)
		}
		table = append(table, row)
	}
	return table
}

// addColumn adds what came of each probe to a table.
func addColumn(table, results [][]string) [][]string {
	if table == nil {
		return results
	}
	for i, row := range results {
		table[i] = append(table[i], row[len(row)-1])
	}
	return table
}

// Rows A1, S1 to S4: what a segment, its processes and each network send gets where the
// Caddyfile lets it, and nowhere else. That holds for each setting of ip_forward and
// rp_filter, on a promiscuous NIC, from any address and with any route. docs/evidence/separation.md
// shows what comes of each probe, and what would come of it on a host with the same devices
// and addresses but without a bridge.
func TestSeparation(t *testing.T) {
	t.Parallel()
	var alone [][]string
	t.Run("Linux alone", func(t *testing.T) {
		s := newSeparation(t)
		s.withoutBridge()
		alone = s.tryFromOutside()
	})
	if t.Failed() {
		return
	}
	onBothAtOnce(t, func(t *testing.T, datapath string) {
		outside := make([][]string, len(alone))
		for i, row := range alone {
			outside[i] = slices.Clone(row)
		}
		var connections, frames [][]string
		for _, apart := range []bool{false, true} {
			t.Run(map[bool]string{false: "one namespace", true: "namespaces of their own"}[apart], func(t *testing.T) {
				s := newSeparation(t)
				s.startCaddy(datapath, apart)
				outside = addColumn(outside, s.tryFromOutside())
				frames = addColumn(frames, s.tryFrames())
				connections = addColumn(connections, s.tryConnections())
				s.wantServed()
			})
		}
		if t.Failed() {
			return
		}
		wantTable(t, "Frames from outside", outside)
		wantTable(t, "Frames from inside a segment", frames)
		wantTable(t, "Connections from inside a segment", connections)
	})
}

// withoutBridge gives the server the devices and addresses that it has with the
// bridges, as an administrator would who does without.
func (s *separation) withoutBridge() {
	s.t.Helper()
	s.ip(s.Server, "address add 192.168.1.2/24 dev nic0")
	s.ip(s.Server, "address add 192.168.2.2/24 dev nic1")
	for device, network := range map[string]string{"vnic-A": "192.168.50", "vnic-B": "192.168.60", "vnic-F": "192.168.40"} {
		behind, err := s.NewHost("behind-" + device)
		if err != nil {
			s.t.Fatal(err)
		}
		address := netip.MustParsePrefix(network + ".1/24")
		err = s.Link(netlab.End{Host: s.Server, Device: device, Address: address}, netlab.End{Host: behind, Device: "eth0"})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, alias := range []string{"2", "9", "253", "254"} { // resolved, so that a packet to it leaves
			s.ip(s.Server, "neighbour replace "+network+"."+alias+" lladdr 02:00:00:00:00:01 dev "+device+" nud permanent")
		}
	}
}

// wantServed checks that the segments still serve whom they are to serve.
func (s *separation) wantServed() {
	s.t.Helper()
	if got, err := getAs(s.PC1.HTTPClient(), "www.example.com", "http://192.168.1.2/test2/"); err != nil || got != "b" {
		s.t.Errorf("PC1 gets %q (%v) of segment b by the front", got, err)
	}
	if got, err := fetch(s.PC2.HTTPClient(), "http://192.168.2.2/"); err != nil || got != "b" {
		s.t.Errorf("PC2 gets %q (%v) of segment b", got, err)
	}
}

// macOf is the MAC of a segment's VNIC.
func (s *separation) macOf(segment string) net.HardwareAddr {
	if s.caddy == nil {
		return net.HardwareAddr{2, 0, 0, 0, 0, 9}
	}
	mac := s.status().Segments[segment].MAC
	return mac[:]
}
