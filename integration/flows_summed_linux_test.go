package integration_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row F3: a NIC can give its packets together with the sum over all their bytes
// (CHECKSUM_COMPLETE in include/linux/skbuff.h), and the kernel takes that sum for the
// checksum's. The rewriting keeps it right in both families. The NIC is a VXLAN over IPv6,
// behind which no device finishes checksums: so Linux has to sum each outer datagram.
func TestSummedPackets(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.tunnel(s.Server, s.PC1)
		if err := s.PC1.Sysctl("net/ipv6/conf/tunnel/disable_ipv6", "0"); err != nil {
			t.Fatal(err)
		}
		s.ip(s.PC1, "address add 192.168.1.1/24 dev tunnel")
		s.ip(s.PC1, "address add 2001:db8:1::1/64 dev tunnel nodad")
		s.start(caddyfile{datapath: datapath, nic: "tunnel", families: "46", a: "ports any"})
		for _, family := range []struct{ client, pseudo, server string }{
			{"192.168.1.1", "192.168.1.2", "192.168.50.1"}, {"[2001:db8:1::1]", pseudo6, server6},
		} {
			s.listen(s.Server, family.server+":9000", echo)
			s.wantEchoed(family.pseudo+":9000", 4*mib)
			s.echoUDP(s.Server, family.server+":5000")
			conn := s.packetConn(s.PC1, family.client+":0")
			for _, size := range []int{1, 100, 1200} {
				s.wantDatagram(conn, family.pseudo+":5000", size)
			}
		}
		for counter, n := range s.checksumErrors() {
			if n != 0 {
				t.Errorf("%s is %d, want 0", counter, n)
			}
		}
	})
}

// tunnel joins two hosts by a VXLAN over IPv6, with a device "tunnel" on each.
func (s *scene) tunnel(a, b *netlab.Host) {
	s.t.Helper()
	s.ip(a, "link add under type veth peer name under netns "+b.Namespace())
	for i, h := range []*netlab.Host{a, b} {
		if err := errors.Join(h.SetOffloads("under", false), h.Sysctl("net/ipv6/conf/under/disable_ipv6", "0")); err != nil {
			s.t.Fatal(err)
		}
		s.ip(h, fmt.Sprintf("address add fd99::%d/64 dev under nodad", 1+i))
		s.ip(h, "link set under mtu 1600 up") // room for the outer headers
		s.ip(h, fmt.Sprintf("link add tunnel type vxlan id 7 dstport 4789 local fd99::%d remote fd99::%d noudp6zerocsumtx", 1+i, 2-i))
		if err := h.SetOffloads("tunnel", false); err != nil {
			s.t.Fatal(err)
		}
		s.ip(h, "link set tunnel up")
	}
}

// checksumErrors are the server's counts of packets with a wrong checksum.
func (s *scene) checksumErrors() map[string]int {
	s.t.Helper()
	counts := make(map[string]int)
	err := s.Server.Do(func() error {
		for _, path := range []string{"/proc/thread-self/net/snmp6", "/proc/thread-self/net/snmp"} {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			readCounts(bufio.NewScanner(f), counts)
			f.Close()
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	for name := range counts {
		if !strings.Contains(name, "InCsumErrors") {
			delete(counts, name)
		}
	}
	if len(counts) == 0 {
		s.t.Fatal("the kernel has no such counts")
	}
	return counts
}

// readCounts reads snmp6, whose lines are a name and a number, and snmp, whose lines are
// names and then, with the same first word, their numbers.
func readCounts(lines *bufio.Scanner, counts map[string]int) {
	var names []string
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		values := words[1:]
		switch {
		case !strings.HasSuffix(words[0], ":"):
			names = words[:1]
		case len(names) == 0 || names[0] != words[0]:
			names = words
			continue
		default:
			names = names[1:]
		}
		for i, value := range values {
			n, _ := strconv.Atoi(value)
			counts[words[0]+" "+names[i]] = n
		}
		names = nil
	}
}
