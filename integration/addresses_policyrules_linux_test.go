package integration_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row A6+: a VPN client puts rules before the host's routes, before Caddy starts or later.
// No answer of a segment follows them, and no packet with a segment's address leaves by
// another interface at any moment.
func TestPolicyRules(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newPolicyRules(t)
		before := s.snapshot()
		// An exit node, as Tailscale has it.
		s.exit("rule add pref 5270 lookup 52")
		config := caddyfile{
			datapath: datapath, a: "ports any", b: "client_ip preserve\nports any", policy: "steer b port tcp/9001\nlb_policy first a",
		}
		s.start(config)
		s.listen(s.Server, "192.168.60.1:9001", sayPeer)
		s.wantAnswered("beside an exit node")
		// wg-quick counts on it that a rule without a priority comes before the one before.
		s.exit("rule add not fwmark 51820 lookup 52", "rule add lookup main suppress_prefixlength 0")
		s.wantAnswered("beside wg-quick's rules")
		s.wantFirst()
		if rules := s.ip(s.Server, "rule"); strings.Index(rules, "suppress_prefixlength") > strings.Index(rules, "fwmark 0xca6c") {
			t.Errorf("wg-quick's rules are in the wrong order:\n%s", rules)
		}
		s.exit("rule add pref 1 lookup 52")
		s.wantAnswered("beside a rule of the least priority")
		s.wantFirst()
		s.ip(s.Server, "rule delete pref 1")

		// A manager of networks that removes what it does not know.
		began := time.Now()
		const removals = 10
		for range removals {
			for _, address := range []string{"192.168.50.1", "192.168.60.1"} {
				s.ip(s.Server, "rule delete from "+address)
			}
			s.waitFor("the rules are put back", s.areFirst)
		}
		if took := time.Since(began); took > removals*time.Second {
			t.Errorf("to put rules back %d times took %v: nobody watches them", removals, took)
		}
		s.wantAnswered("after the rules were removed")

		s.ip(s.Server, "rule delete not fwmark 51820")
		s.ip(s.Server, "rule delete lookup main suppress_prefixlength 0")
		s.waitFor("the rules are where they were", func() bool {
			return strings.Contains(s.ip(s.Server, "rule"), "\n1000:\tfrom 192.168.50.1 lookup ")
		})
		s.wantAnswered("when the VPN is gone")

		// What stands right behind the local table has nothing before it: then it is said,
		// and the segments' packets are lost.
		from := len(s.caddy.Log(everything))
		s.exit("rule add pref 0 lookup 52")
		s.wantLogFrom(from, "a routing rule of priority 0 comes before the segments' own")
		symptom := examples.SymptomOf(t, troubleshootingPage, "comes before the segments' own")
		wantAll(t, symptom.Look[0], s.shell(symptom.Look[0]), []string{"0:\tfrom all lookup local\n0:\tfrom all lookup 52"})
		if said, err := hear(s.PC1, "192.168.1.2:9001", 300*time.Millisecond); err == nil {
			t.Errorf("behind a rule that takes all, b says %q", said)
		}
		s.shell(strings.NewReplacer("<its number>", "0", "<a higher one>", "5000", "<what it says>", "lookup 52").Replace(symptom.Fix[0]))
		s.wantAnswered("when it has a higher number")
		s.ip(s.Server, "rule delete pref 5000")

		s.kill()
		s.wantRulesWithoutEffect()
		s.start(config)
		s.wantAnswered("after the next start")
		s.wantNothingLeaked()
		s.stop()
		s.ip(s.Server, "rule delete pref 5270")
		s.ip(s.Server, "route flush table 52")
		s.wantSame("after stop", before)
	})
}

// Row A6+: a rule matches all packets, and no other rule can come before it. Then each
// packet of a segment is lost, and none leaves by the wrong interface: neither one that the
// segment sends by itself, nor one that it is told to send to somebody else.
func TestNothingLeavesByAnotherInterface(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newPolicyRules(t)
		s.exit("rule add pref 0 lookup 52")
		s.start(caddyfile{datapath: datapath, a: "ports any\negress any"})
		for _, from := range []string{"192.168.50.1", "192.168.60.1"} {
			conn := s.packetConn(s.Server, from+":0")
			defer conn.Close()
			for _, to := range []string{"10.9.9.2:80", "192.168.1.1:80", "192.168.50.2:80", "192.168.60.2:80", "203.0.113.9:80"} {
				conn.WriteTo([]byte("astray"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))) // an error says as much
			}
		}
		_, _ = hear(s.PC1, "192.168.1.2:80", 300*time.Millisecond)
		s.wantNothingLeaked()
		// What has the host's own address goes that way.
		conn := s.packetConn(s.Server, "10.9.9.1:0")
		defer conn.Close()
		if _, err := conn.WriteTo([]byte("astray"), &net.UDPAddr{IP: net.IPv4(203, 0, 113, 9), Port: 80}); err != nil {
			t.Fatal(err)
		}
		s.waitFor("the host's datagram at the exit node", func() bool { return bytes.Contains(bytes.Join(s.exited(), nil), []byte("astray")) })
	})
}

// policyRules is a scene whose server has another network, with an exit node on it.
type policyRules struct {
	*scene
	out []*netlab.Capture
}

func newPolicyRules(t *testing.T) *policyRules {
	t.Helper()
	s := &policyRules{scene: newScene(t, paper.NetworkOptions{})}
	elsewhere := s.addNetwork()
	s.ip(s.Server, "address add 192.168.1.3/24 dev nic0")
	s.out = []*netlab.Capture{s.capture(elsewhere, "eth0"), s.capture(s.Router, paper.RouterWANDevice)}
	return s
}

// exit adds routing rules that lead to the exit node.
func (s *policyRules) exit(rules ...string) {
	s.t.Helper()
	s.ip(s.Server, "route replace default via 10.9.9.2 table 52")
	for _, rule := range rules {
		s.ip(s.Server, rule)
	}
}

// wantAnswered waits until PC1 is answered by both segments.
func (s *policyRules) wantAnswered(when string) {
	s.t.Helper()
	s.wantService()
	s.waitFor("an answer by b "+when, func() bool {
		said, err := hear(s.PC1, "192.168.1.2:9001", time.Second)
		return err == nil && said == "192.168.10.2"
	})
}

var segmentRule = regexp.MustCompile(`from (192\.168\.[56]0\.1) lookup (\d+)`)

// areFirst tells whether both segments' rules come right behind the local table's.
func (s *policyRules) areFirst() bool {
	rules := strings.Split(s.ip(s.Server, "rule"), "\n")
	return len(rules) > 3 && segmentRule.MatchString(rules[1]) && segmentRule.MatchString(rules[2])
}

func (s *policyRules) wantFirst() {
	s.t.Helper()
	s.waitFor("the segments' rules come first", s.areFirst)
}

// exited are the frames that have left the server by other ways than the bridge's.
func (s *policyRules) exited() (frames [][]byte) {
	s.t.Helper()
	for _, c := range s.out {
		for _, f := range s.frames(c) {
			frames = append(frames, f.Data)
		}
	}
	return frames
}

// wantNothingLeaked checks that no frame outside has a segment's address, as its packet's
// source or as the sender of an ARP request.
func (s *policyRules) wantNothingLeaked() {
	s.t.Helper()
	for _, f := range s.exited() {
		at := 14 + 12 // the source in an IPv4 header
		if binary.BigEndian.Uint16(f[12:]) == uint16(layers.EthernetTypeARP) {
			at = 14 + 14 // the sender's address
		}
		if len(f) < at+4 {
			continue
		}
		if source := netip.AddrFrom4([4]byte(f[at:])).String(); strings.HasPrefix(source, "192.168.50.") || strings.HasPrefix(source, "192.168.60.") {
			s.t.Fatalf("a frame of %v has left the server: %x", source, f)
		}
	}
}
