package integration_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row F1: each policy, and each matcher of `steer`, seen from outside by the
// answers to web requests, datagrams and pings.
func TestPolicies(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newCrowd(t, datapath)
		for _, test := range []struct {
			policy string
			check  func()
		}{
			{"least_conn a b", s.wantLeastConn}, // while there are no other flows
			{"first a b", func() { s.wantShare(12, "aaaaaaaaaaaa") }},
			{"first b a", func() { s.wantShare(12, "bbbbbbbbbbbb") }},
			{"round_robin a b", func() { s.wantShare(12, "abababababab") }},
			{"weighted_round_robin a b", func() { s.wantShare(12, "aabaaabaaaba") }},
			{"random a b", s.wantRandom},
			{"ip_hash a b", s.wantIPHash},
			{"flow_hash a b", s.wantFlowHash},
		} {
			t.Run(test.policy, func(t *testing.T) {
				defer s.in(t)()
				s.policy("lb_policy " + test.policy)
				test.check()
			})
		}
	})
}

// Row F1: each matcher of `steer`, on one line and as a block. The first rule that
// matches decides; a matcher's values are alternatives, and its rule needs all of
// its matchers.
func TestSteer(t *testing.T) {
	const pc1, neighbour = "192.168.10.2", "192.168.1.11"
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newCrowd(t, datapath)
		for _, test := range []struct {
			name, rules string
			want        string // from the neighbour and PC1: TCP 80, TCP 8001, UDP 5000, ping
		}{
			{"client", "steer b client 192.168.1.11 10.0.0.0/8", "bbbb aaaa"},
			{"network of clients", "steer b client 192.168.1.0/28", "bbbb aaaa"},
			{"port", "steer b port tcp/8000-8009 udp/5000", "abba abba"},
			{"port of the other protocol", "steer b port udp/80 tcp/5000", "aaaa aaaa"},
			{"protocol", "steer b protocol icmp", "aaab aaab"},
			{"two protocols", "steer b protocol udp tcp", "bbba bbba"},
			{"all matchers of a rule", "steer b client 192.168.1.11 port tcp/80 tcp/8001 protocol tcp", "bbaa aaaa"},
			{"block", "steer b {\nclient 192.168.1.11\nport tcp/80 udp/5000\n}", "baba aaaa"},
			{"first rule that matches", "steer a port tcp/80\nsteer b client 192.168.1.11\nsteer a protocol udp", "abbb aaaa"},
		} {
			t.Run(test.name, func(t *testing.T) {
				defer s.in(t)()
				s.policy(test.rules + "\nlb_policy first a")
				got := s.answers(neighbour) + " " + s.answers(pc1)
				if got != test.want {
					t.Errorf("%s and %s are answered by %s, want %s", neighbour, pc1, got, test.want)
				}
			})
		}
	})
}

// crowd is a scene with servers that say which segment they are of, and, beside
// PC1, a neighbour that has many addresses.
type crowd struct {
	*scene
	config  caddyfile
	clients []string // addresses of PC1 and of the neighbour
	vnics   *netlab.Capture
	port    int // of the last datagram: no flow is met twice
}

func newCrowd(t *testing.T, datapath string) *crowd {
	t.Helper()
	s := &crowd{
		scene:  newScene(t, paper.NetworkOptions{Neighbours: 1}),
		config: caddyfile{datapath: datapath, a: "ports any\nweight 3", b: "ports any"},
	}
	s.clients = []string{"192.168.10.2", "192.168.1.11"}
	for i := range 120 {
		address := fmt.Sprintf("192.168.1.%d", 31+i)
		s.ip(s.Neighbours[0], "address add "+address+"/24 dev eth0")
		s.clients = append(s.clients, address)
	}
	s.start(s.config)
	for name, address := range map[string]string{"a": "192.168.50.1", "b": "192.168.60.1"} {
		s.listen(s.Server, address+":8001", say(name))
		s.listen(s.Server, address+":9000", func(conn net.Conn) {
			io.WriteString(conn, name)
			io.Copy(io.Discard, conn) // until the client closes
		})
		s.answerUDP(address+":5000", name)
	}
	s.vnics = s.capture(s.Server, "vnic-A", "vnic-B")
	return s
}

// in makes a subtest the one that checks report to, until the returned function
// is called.
func (s *scene) in(t *testing.T) (out func()) {
	outer := s.t
	s.t = t
	return func() { s.t = outer }
}

// policy reloads with other rules and another policy.
func (s *crowd) policy(lines string) {
	s.t.Helper()
	s.config.policy = lines
	s.load(s.config)
}

// answerUDP answers every datagram on the server with a name.
func (s *scene) answerUDP(address, name string) {
	s.t.Helper()
	go answer(s.packetConn(s.Server, address), name)
}

// answer answers every datagram with a name.
func answer(conn net.PacketConn, name string) {
	buffer := make([]byte, 1<<16)
	for {
		_, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		conn.WriteTo([]byte(name), from)
	}
}

// hostOf is the host that has an address, which a port may follow.
func (s *crowd) hostOf(client string) *netlab.Host {
	if strings.HasPrefix(client, paper.PC1Addr.String()) {
		return s.PC1
	}
	return s.Neighbours[0]
}

// answers names the segments that answer a client: by HTTP, on another TCP port,
// by UDP, and to a ping.
func (s *crowd) answers(client string) string {
	s.t.Helper()
	return s.byHTTP(client) + s.byTCP(client) + s.byUDP(client) + s.byPing(client)
}

func (s *crowd) byHTTP(client string) string {
	s.t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
		return s.dialFrom(s.hostOf(client), client+":0", "tcp4", address)
	}}
	body, err := fetch(&http.Client{Transport: transport, Timeout: 5 * time.Second}, "http://192.168.1.2/")
	if err != nil {
		s.t.Fatal(err)
	}
	return body
}

func (s *crowd) byTCP(client string) string {
	s.t.Helper()
	conn := s.connect(client+":0", "192.168.1.2:8001")
	defer conn.Close()
	said, err := io.ReadAll(conn)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(said)
}

func (s *crowd) byUDP(client string) string {
	s.t.Helper()
	s.port++
	return s.byUDPFrom(fmt.Sprintf("%s:%d", client, 30000+s.port))
}

func (s *crowd) byUDPFrom(client string) string {
	s.t.Helper()
	conn, err := s.dialFrom(s.hostOf(client), client, "udp4", "192.168.1.2:5000")
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	answer := make([]byte, 100)
	if _, err = conn.Write([]byte("who?")); err == nil {
		var n int
		n, err = conn.Read(answer)
		answer = answer[:n]
	}
	if err != nil {
		s.t.Fatalf("UDP from %s: %v", client, err)
	}
	return string(answer)
}

func (s *crowd) byPing(client string) string {
	s.t.Helper()
	earlier := len(s.frames(s.vnics)) // by chance, an earlier ping has the same identifier
	ping, err := s.hostOf(client).Ping(s.t.Context(), paper.PseudoAddr, netlab.PingOptions{Source: netip.MustParseAddr(client)})
	if err != nil || ping.Lost() > 0 {
		s.t.Fatalf("ping from %s: %+v (%v)", client, ping, err)
	}
	var by string
	for _, f := range s.frames(s.vnics)[earlier:] {
		if e, ok := netlab.ParseEcho(f); ok && e.Request && e.ID == ping.ID {
			by += []string{"a", "b"}[f.Interface]
		}
	}
	return by
}

// dialFrom connects from an address and port of a host.
func (s *scene) dialFrom(h *netlab.Host, local, network, remote string) (conn net.Conn, err error) {
	dialer := net.Dialer{FallbackDelay: -1, Timeout: 5 * time.Second}
	from := netip.MustParseAddrPort(local)
	if dialer.LocalAddr = net.Addr(net.TCPAddrFromAddrPort(from)); strings.HasPrefix(network, "udp") {
		dialer.LocalAddr = net.UDPAddrFromAddrPort(from)
	}
	err = h.Do(func() error {
		conn, err = dialer.DialContext(s.t.Context(), network, remote)
		return err
	})
	return conn, err
}

// connect is dialFrom for a TCP connection that must come about.
func (s *crowd) connect(local, remote string) net.Conn {
	s.t.Helper()
	conn, err := s.dialFrom(s.hostOf(local), local, "tcp4", remote)
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(20 * time.Second))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// wantShare makes web requests one after the other, and then as many datagrams
// from ports of their own: both are answered by the segments in the order wanted.
func (s *crowd) wantShare(n int, want string) {
	s.t.Helper()
	var pages, datagrams string
	for i := range n {
		pages += s.byHTTP(s.clients[i%len(s.clients)])
	}
	for i := range n {
		datagrams += s.byUDP(s.clients[i%len(s.clients)])
	}
	if pages != want || datagrams != want {
		s.t.Errorf("requests are answered by %s and datagrams by %s, want %s", pages, datagrams, want)
	}
}

// wantRandom checks the shares of a, with the weight 3, and b. A fair draw is out
// of these bounds once in 10 million times (5 standard deviations).
func (s *crowd) wantRandom() {
	s.t.Helper()
	var got string
	for range 200 {
		got += s.byUDP(s.clients[0])
	}
	if n := strings.Count(got, "a"); n < 119 || n > 181 {
		s.t.Errorf("a got %d of 200 flows, want about 150", n)
	}
	if strings.Count(got, strings.Repeat("aaab", 4)) > 20 {
		s.t.Errorf("%s: that is not random", got)
	}
}

// wantLeastConn opens connections that stay, which spread by weight, and closes
// those to one segment, which then gets the next.
func (s *crowd) wantLeastConn() {
	s.t.Helper()
	held := map[string][]net.Conn{}
	hold := func(n int) {
		s.t.Helper()
		for range n {
			conn := s.connect(s.clients[0]+":0", "192.168.1.2:9000")
			name := make([]byte, 1)
			if _, err := io.ReadFull(conn, name); err != nil {
				s.t.Fatal(err)
			}
			held[string(name)] = append(held[string(name)], conn)
		}
	}
	hold(16)
	s.wantHeld(held, 12, 4)
	for _, conn := range held["b"] {
		conn.Close()
	}
	held["b"] = nil
	s.waitFor("the bridge has seen all of b's connections end", func() bool { return s.established("b") == 0 })
	hold(4)
	s.wantHeld(held, 12, 4)
}

func (s *crowd) wantHeld(held map[string][]net.Conn, a, b int) {
	s.t.Helper()
	if len(held["a"]) != a || len(held["b"]) != b {
		s.t.Errorf("a holds %d connections and b %d, want %d and %d", len(held["a"]), len(held["b"]), a, b)
	}
}

// wantIPHash checks that each client address has one segment for all that it does, and the
// shares of a, with the weight 3, and b. The hash's secret is random, so the bounds are as
// those of wantRandom: half of 122 clients are 6 standard deviations from three quarters.
func (s *crowd) wantIPHash() {
	s.t.Helper()
	by := map[string]int{}
	for _, client := range s.clients {
		by[s.answers(client)]++
	}
	segments := slices.Sorted(maps.Keys(by))
	if !slices.Equal(segments, []string{"aaaa", "bbbb"}) || by["aaaa"] <= by["bbbb"] {
		s.t.Errorf("clients are answered by %v, want most by a, the others by b, each by one alone", by)
	}
}

// wantFlowHash checks that the flows of one client spread, and that a flow that
// is forgotten comes to the same segment again, also after other ones. The bound of b's
// share, a quarter, is 5 standard deviations away.
func (s *crowd) wantFlowHash() {
	s.t.Helper()
	spread := func() (all string) {
		for i := range 80 {
			all += s.byUDPFrom(fmt.Sprintf("%s:%d", s.clients[0], 20000+i))
		}
		return all
	}
	first := spread()
	if n := strings.Count(first, "b"); n == 0 || n > 40 {
		s.t.Errorf("b answers %d of 80 flows, want some, and fewer than a", n)
	}
	s.stop()
	s.start(s.config)
	if again := spread(); again != first {
		s.t.Errorf("after a restart flows are answered by\n%s, before by\n%s", again, first)
	}
}
