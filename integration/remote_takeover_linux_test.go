package integration_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row H7: two machines can be the bridge, with one secret and one configuration, and the server is
// behind VXLAN. When the address moves from one to the other, connections and flows of datagrams go
// on: the other machine decides the same, and finds each connection from either side.
func TestTakeover(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"ip_hash", "flow_hash"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			onEachDataPath(t, func(t *testing.T, datapath string) {
				s := newTwoMachines(t, datapath, policy, "preserve")
				s.startOn(s.first)
				s.serveFar()
				var streams []enduring
				for range 8 {
					streams = append(streams, s.openSession("192.168.1.2:9000"), s.hearNumbers("192.168.1.2:9001"), s.sayNumbers("192.168.1.2:9002"))
				}
				datagrams := s.numberDatagrams("192.168.1.2:5000")
				for _, move := range []struct {
					after string
					end   func(*machine)
					to    *machine
				}{{"a stop", s.stopOn, s.second}, {"kill -9", s.killOn, s.first}} {
					move.end(s.running)
					s.startOn(move.to)
					for _, c := range append(streams, datagrams) {
						c.goesOn(move.after)
					}
				}
				t.Logf("of %d datagrams %d were answered; the longest gap was %v", datagrams.sent.Load(), datagrams.answered.Load(), time.Duration(datagrams.gap.Load()))
			})
		})
	}
}

// Row H7: where the segment sees clients under aliases, connections go on in which the client speaks.
func TestTakeoverOfTranslatedFlows(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newTwoMachines(t, datapath, "flow_hash", "translate")
		s.startOn(s.first)
		s.serveFar()
		var streams []enduring
		for range 8 {
			streams = append(streams, s.openSession("192.168.1.2:9000"), s.sayNumbers("192.168.1.2:9002"))
		}
		s.killOn(s.first)
		s.startOn(s.second)
		for _, c := range streams {
			c.goesOn("kill -9")
		}
	})
}

// enduring is a flow that must go on.
type enduring interface{ goesOn(after string) }

func (c *session) goesOn(after string) { c.want(after) }

func (n *numbers) goesOn(after string) { n.wantMore(after) }

// twoMachines is a remote scene with a second machine that can be the bridge.
type twoMachines struct {
	*remoteScene
	first, second, running *machine
}

// machine is one that can be the bridge.
type machine struct {
	host  *netlab.Host
	nic   string
	caddy *netlab.Caddy
}

// newTwoMachines makes the second machine of a host on the server's network. Both have Caddy's storage
// in common, and so the secret of the hashes.
func newTwoMachines(t *testing.T, datapath, policy, clientIP string) *twoMachines {
	t.Helper()
	second := func(r *remoteScene) *netlab.Host { return r.Neighbours[0] }
	s := &twoMachines{remoteScene: newRemoteSceneOf(t, paper.NetworkOptions{IPv6: true, Neighbours: 1}, datapath, "client_ip "+clientIP, second)}
	s.first, s.second = &machine{host: s.Server, nic: paper.NICDevice}, &machine{host: s.Neighbours[0], nic: "eth0"}
	s.ip(s.second.host, "address flush dev eth0")
	s.config.families, s.config.policy = "4", "lb_policy "+policy+" b"
	return s
}

// startOn starts Caddy on a machine, and waits until it has the address.
func (s *twoMachines) startOn(m *machine) {
	s.t.Helper()
	config := s.config
	config.nic = m.nic
	s.starts++
	caddy, err := m.host.StartCaddy(s.t.Context(), netlab.CaddyOptions{
		Config: s.write("Caddyfile-"+m.nic, config.String()), Log: s.log(s.starts), State: filepath.Join(s.dir, "state"), Env: s.env,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	m.caddy, s.caddy, s.running = caddy, caddy, m
}

func (s *twoMachines) stopOn(m *machine) {
	s.t.Helper()
	if err := m.caddy.Stop(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *twoMachines) killOn(m *machine) {
	s.t.Helper()
	if err := m.caddy.Process().Signal(unix.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	<-m.caddy.Process().Done()
}

// serveFar serves the streams of the tests on the far machine.
func (s *twoMachines) serveFar() {
	s.t.Helper()
	s.listen(s.far, farAddr+":9000", echo)
	s.listen(s.far, farAddr+":9001", func(conn net.Conn) { countUp(conn) })
	s.listen(s.far, farAddr+":9002", acknowledge)
	s.echoUDP(s.far, farAddr+":5000")
}

// acknowledge is a server for listen that answers the end of a connection with how many lines were
// numbered in order.
func acknowledge(conn net.Conn) {
	lines := bufio.NewScanner(conn)
	for n := 1; lines.Scan() && lines.Text() == strconv.Itoa(n); n++ {
		if n%10 == 0 {
			fmt.Fprintln(conn, n)
		}
	}
}

// said is a stream of numbers from the client, of which the server acknowledges each tenth.
type said struct {
	s    *scene
	last atomic.Int64
}

func (s *scene) sayNumbers(address string) *said {
	s.t.Helper()
	conn, err := s.PC1.DialContext(s.t.Context(), networkOf("tcp", address), address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	n := &said{s: s}
	go countUp(conn)
	go func() {
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			if number, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
				n.last.Store(number)
			}
		}
	}()
	n.goesOn("the start")
	return n
}

func (n *said) goesOn(after string) {
	n.s.t.Helper()
	from := n.last.Load()
	n.s.waitFor("numbers arrive after "+after, func() bool { return n.last.Load() >= from+20 })
}

// datagramEchoes are numbered datagrams, which a server sends back.
type datagramEchoes struct {
	s              *scene
	sent, answered atomic.Int64
	gap            atomic.Int64 // the longest time without an answer, in ns
}

// numberDatagrams sends a datagram each millisecond.
func (s *scene) numberDatagrams(address string) *datagramEchoes {
	s.t.Helper()
	conn, err := s.PC1.DialContext(s.t.Context(), networkOf("udp", address), address)
	if err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	s.t.Cleanup(func() {
		close(done)
		conn.Close()
	})
	d := &datagramEchoes{s: s}
	go func() {
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
				conn.Write(binary.BigEndian.AppendUint64(nil, uint64(d.sent.Add(1)))) // fails while nobody has the address
			}
		}
	}()
	go func() {
		buffer, last := make([]byte, 8), time.Now()
		for {
			n, err := conn.Read(buffer)
			select {
			case <-done:
				return
			default:
			}
			if err == nil && n == len(buffer) {
				d.answered.Add(1)
				d.gap.Store(max(d.gap.Load(), int64(time.Since(last))))
				last = time.Now()
			}
		}
	}()
	d.goesOn("the start")
	return d
}

func (d *datagramEchoes) goesOn(after string) {
	d.s.t.Helper()
	from := d.answered.Load()
	d.s.waitFor("answers after "+after, func() bool { return d.answered.Load() > from+100 })
}
