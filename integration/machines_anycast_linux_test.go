package integration_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// crossing is a fleet of two machines that have one server, which is behind a VXLAN of each family.
type crossing struct {
	*fleet
	far *netlab.Host
}

// newCrossing makes the server with the commands of the page, and starts Caddy and BIRD on the machines.
func newCrossing(t *testing.T, datapath string) *crossing {
	t.Helper()
	c := &crossing{fleet: newRouter(t, datapath, 2, bird)}
	var err error
	if c.far, err = c.NewHost("far"); err != nil {
		t.Fatal(err)
	}
	one, two := c.servers[0], c.servers[1]
	(&remoteScene{scene: c.scene}).join([]*netlab.Host{one.host, two.host, c.far})
	if err := c.far.EnableIPv6(); err != nil {
		t.Fatal(err)
	}
	c.inBothFamilies(c.far, examples.Beginning(t, manyServers, "ip link add vx60 type vxlan id 60 dstport 4789 dev eth2"))
	end := examples.Beginning(t, manyServers, "ip link add vx60 type vxlan id 60 dstport 4789 remote 10.0.0.3")
	one.env = []string{"VNIC_ALIASES=192.168.60.2-192.168.60.127", "VNIC_ALIASES6=fd00:60::2-fd00:60::7fff"}
	two.env = []string{"VNIC_ALIASES=192.168.60.130-192.168.60.254", "VNIC_ALIASES6=fd00:60::8000-fd00:60::ffff"}
	for _, m := range c.servers {
		c.inBothFamilies(m.host, end)
		m.start(c.config())
		c.daemon.start(c.fleet, m.host, c.daemon.atServer, m.dir)
	}
	for _, own := range []string{"192.168.60.1", "[fd00:60::1]"} {
		c.listen(c.far, own+":80", echo)
		c.listen(c.far, own+":81", func(conn net.Conn) { countUp(conn) })
		c.echoUDP(c.far, own+":5000")
		c.serveHTTP(c.far, own+":83", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "a") }))
		c.listen(c.far, own+":84", func(conn net.Conn) { countEvery(conn, streamPace) })
	}
	c.waitRouted("started", one, two)
	return c
}

// inBothFamilies runs commands of the page on a host, and then the same for IPv6.
func (c *crossing) inBothFamilies(h *netlab.Host, commands string) {
	c.t.Helper()
	commands = strings.ReplaceAll(commands, "eth2", "under")
	c.run(h, "sh", "-ec", commands)
	c.run(h, "sh", "-ec", strings.NewReplacer(
		"vx60", "vx61", "id 60", "id 61", "192.168.60.1/24", "fd00:60::1/112 nodad", "192.168.60.130", "fd00:60::8000", "192.168.60.1", "fd00:60::1", "192.168.60.2", "fd00:60::2",
		"ip route", "ip -6 route", "ip rule", "ip -6 rule", "net.ipv4.fib_multipath_hash_policy", "net.ipv6.fib_multipath_hash_policy",
		"net.ipv4.fib_multipath_use_neigh=1", "",
	).Replace(commands))
}

// config is the page's Caddyfile, with a second segment for IPv6.
func (c *crossing) config() string {
	c.t.Helper()
	config := examples.Beginning(c.t, manyServers, "{\n\tvnic {\n\t\tkey {$VNIC_KEY}\n\t\tsegment c {")
	const segment6 = `segment d {
	device vx61
	address fd00:60::1/112
	aliases {$VNIC_ALIASES6}
	ports tcp/80-84 udp/5000
	client_ip preserve
}
bridge world {`
	return c.replaced(manyServers, config, [][2]string{
		{"nic eth1", "nic eth0"}, {"tcp/80 udp/5000", "tcp/80-84 udp/5000"}, {"\tvnic {", "\tvnic {\ndatapath " + c.datapath}, {"bridge world {", segment6},
		{"address 203.0.113.10/32", "address 203.0.113.10/32 2001:db8:113::10/128"}, {"gateway 192.168.1.1", "gateway 192.168.1.1 2001:db8:1::1"},
		{"flow_hash c", "flow_hash c d"},
	})
}

// requestsBy sends the clients' packets by one machine alone.
func (c *crossing) requestsBy(m *twin) {
	c.t.Helper()
	c.ip(c.Router, "route replace "+announced4+" via 192.168.1.1"+m.name+" metric 1")
	c.ip(c.Router, "-6 route replace "+announced6+" via 2001:db8:1::1"+m.name+" metric 1")
}

// answersBy sends the server's packets by one machine alone.
func (c *crossing) answersBy(m *twin) {
	c.t.Helper()
	via := map[string][2]string{"1": {"192.168.60.2", "fd00:60::2"}, "2": {"192.168.60.130", "fd00:60::8000"}}[m.name]
	c.ip(c.far, "route replace default table 60 via "+via[0]+" dev vx60")
	c.ip(c.far, "-6 route del default table 60")
	c.ip(c.far, "-6 route add default table 60 via "+via[1]+" dev vx61")
}

// Row H12: requests come by one machine, and answers by the other.
func TestAnswersByAnotherMachine(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		c := newCrossing(t, datapath)
		one, two := c.servers[0], c.servers[1]
		for _, address := range []string{announced4, "[" + announced6 + "]"} {
			c.wantCarried(address) // as the router and the server divide them
		}
		c.requestsBy(one)
		c.answersBy(two)
		for _, address := range []string{announced4, "[" + announced6 + "]"} {
			c.wantCarried(address)
			c.run(c.PC1, "ping", "-c", "3", "-i", "0.2", "-W", "5", strings.Trim(address, "[]"))
			if _, err := hear(c.PC1, address+":82", 5*time.Second); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("%s: a port on which nobody listens: %v", address, err)
			}
		}
		session, stream := c.openSession(announced4+":80"), c.hearNumbers(announced4+":81")
		session.want("the start")
		for _, way := range []struct{ requests, answers *twin }{{one, one}, {two, one}, {two, two}, {one, two}} {
			c.requestsBy(way.requests)
			c.answersBy(way.answers)
			moved := fmt.Sprintf("requests go by machine %s and answers by %s", way.requests.name, way.answers.name)
			session.want(moved)
			stream.wantMore(moved)
		}
		for _, m := range c.servers {
			for name, segment := range m.status().Segments {
				if n := segment.Drops["no_flow"] + segment.Drops["egress"]; n > 0 {
					t.Errorf("machine %s drops %d packets of segment %s", m.name, n, name)
				}
			}
		}
	})
}

// Row H11: a server is taken out of service under load, and the router divides anew: connections go on
// by the other machine, and none is refused.
func TestAnnouncedDrainUnderLoad(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		c := newCrossing(t, datapath)
		one, two := c.servers[0], c.servers[1]
		six := "[" + announced6 + "]"
		streams := c.openStreams(40, []string{announced4 + ":80", six + ":80"}, []string{announced4 + ":84", six + ":84"})
		beside := []*connecting{c.keepConnecting(announced4 + ":83"), c.keepConnecting(six + ":83")}
		for _, m := range []*twin{one, two} {
			m.vnic(examples.Beginning(t, manyServers, "caddy vnic drain"))
			c.waitRouted("drained", map[*twin]*twin{one: two, two: one}[m])
			streams.wantAll("the drain")
			m.vnic(examples.Beginning(t, manyServers, "caddy vnic activate"))
			c.waitRouted("activated", one, two)
			streams.wantAll("the return")
		}
		wantServed(t, beside)
	})
}

// wantCarried checks that connections and datagrams to an address are carried both ways.
func (c *crossing) wantCarried(address string) {
	c.t.Helper()
	for range 20 {
		s := c.openSession(address + ":80")
		s.want("the start")
		s.want("the answer")
		s.conn.Close()
		if err := c.askFrom(c.PC1, address+":5000"); err != nil {
			c.t.Errorf("a datagram to %s: %v", address, err)
		}
	}
	conn, err := c.PC1.DialContext(c.t.Context(), "tcp", address+":81")
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	for n := 1; n <= 20; n++ {
		if !lines.Scan() || lines.Text() != fmt.Sprint(n) {
			c.t.Fatalf("%s: instead of the number %d comes %q (%v)", address, n, lines.Text(), lines.Err())
		}
	}
}
