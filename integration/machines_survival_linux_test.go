package integration_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// survivors are two machines of which keepalived elects one, clients, and a server behind a VXLAN that
// leads to both.
type survivors struct {
	*pair
	far              *netlab.Host
	policy, clientIP string
}

func newSurvivors(t *testing.T, datapath, policy, clientIP string) *survivors {
	t.Helper()
	s := &survivors{pair: newMachines(t, datapath), policy: policy, clientIP: clientIP}
	r := &remoteScene{scene: s.scene}
	var err error
	if r.far, err = s.NewHost("far"); err != nil {
		t.Fatal(err)
	}
	s.far = r.far
	r.join([]*netlab.Host{r.far, s.machines[0].host, s.machines[1].host})
	for i, m := range s.machines {
		s.ip(m.host, "link add "+tunnel+" type vxlan id 60 remote "+underAddr(0)+" dstport 4789 dev under")
		r.tunnelTo(i + 1)
	}
	for _, own := range []string{farAddr, "[" + farAddr6 + "]"} {
		s.listen(s.far, own+":9000", echo)
		s.listen(s.far, own+":9001", func(conn net.Conn) { countEvery(conn, streamPace) })
		s.echoUDP(s.far, own+":5000")
		s.serveHTTP(s.far, own+":80", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "a") }))
	}
	s.startBoth(s.start)
	return s
}

// start starts Caddy on a machine.
func (s *survivors) start(m *twin) {
	s.t.Helper()
	m.start(fmt.Sprintf(`{
	vnic {
		datapath %s
		key {$VNIC_KEY}
		segment c {
			device %s
			address %s/24 %s/64
			ports any
			client_ip %s
		}
		bridge lan {
			nic eth0
			address 192.168.1.2/24 2001:db8:1::2/64
			gateway 192.168.1.1 2001:db8:1::1
			lb_policy %s c
			failover keepalived VI_lan {
				fifo %s
				track %s
			}
		}
	}
}
`, s.datapath, tunnel, farAddr, farAddr6, s.clientIP, s.policy, m.path("run/vrrp"), m.path("run/lan")))
}

// Where streams of the server are, up and down.
var (
	uploads   = []string{"192.168.1.2:9000", pseudo6 + ":9000"}
	downloads = []string{"192.168.1.2:9001", pseudo6 + ":9001"}
)

// move ends something on the machine that has the address, waits until the other one has it, and mends
// the first one.
func (s *survivors) move(end, mend func(*twin)) (from, to *twin) {
	s.t.Helper()
	from = s.active()
	to = s.other(from)
	s.waitFor("the other machine is fit", func() bool { return to.failover().Fit })
	end(from)
	s.waitFor("the other machine has the address", func() bool { return to.failover().State != "standby" })
	mend(from)
	s.waitFor("the first machine is fit again", func() bool { return s.active() == to && from.failover().Fit })
	return from, to
}

func killCaddyAsSystemd(m *twin) {
	m.killCaddy()
	m.afterStop()
}

// streamPace is how often a stream has a number.
const streamPace = 250 * time.Millisecond

// countEvery writes a number at an interval until the other side is gone.
func countEvery(conn net.Conn, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := 1; ; n++ {
		if _, err := fmt.Fprintln(conn, n); err != nil {
			return
		}
		<-tick.C
	}
}

// lineStreams are TCP connections on which numbers come in order: downloads, on which only the server
// speaks, and uploads, of which the server sends the numbers back.
type lineStreams struct {
	s   *scene
	all []*lineStream
}

type lineStream struct {
	last   atomic.Int64
	broken atomic.Pointer[string] // what came instead of the next number
}

// openStreams opens n connections, as many to each of the addresses.
func (s *scene) openStreams(n int, uploads, downloads []string) *lineStreams {
	s.t.Helper()
	all, addresses := &lineStreams{s: s}, slices.Concat(uploads, downloads)
	for i := range n {
		conn, err := s.PC1.DialContext(s.t.Context(), "tcp", addresses[i%len(addresses)])
		if err != nil {
			s.t.Fatalf("connection %d of %d: %v", i+1, n, err)
		}
		s.t.Cleanup(func() { conn.Close() })
		if err := conn.(*net.TCPConn).SetKeepAlive(false); err != nil { // of a download it only listens
			s.t.Fatal(err)
		}
		one := new(lineStream)
		all.all = append(all.all, one)
		if i%len(addresses) < len(uploads) {
			go countEvery(conn, streamPace)
		}
		go one.read(conn)
	}
	if lost := all.lost("the start"); len(lost) > 0 {
		s.t.Fatalf("at the start, of %d streams are lost: %q", n, lost)
	}
	return all
}

func (one *lineStream) read(conn net.Conn) {
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if want := strconv.FormatInt(one.last.Load()+1, 10); lines.Text() != want {
			problem := fmt.Sprintf("instead of %s comes %q", want, lines.Text())
			one.broken.Store(&problem)
			return
		}
		one.last.Add(1)
	}
	problem := fmt.Sprintf("it ends after %d (%v)", one.last.Load(), lines.Err())
	one.broken.Store(&problem)
}

// lost returns what became of the streams that have ended, or on which nothing more comes.
func (a *lineStreams) lost(when string) (problems []string) {
	a.s.t.Helper()
	from := make([]int64, len(a.all))
	for i, one := range a.all {
		from[i] = one.last.Load()
	}
	const patience = 30 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		problems = problems[:0]
		waiting := false
		for i, one := range a.all {
			switch broken := one.broken.Load(); {
			case broken != nil:
				problems = append(problems, *broken)
			case one.last.Load() < from[i]+3:
				problems = append(problems, fmt.Sprintf("after %s nothing comes", when))
				waiting = true
			}
		}
		if !waiting || time.Now().After(deadline) {
			return problems
		}
	}
}

func (a *lineStreams) wantAll(after string) {
	a.s.t.Helper()
	if lost := a.lost(after); len(lost) > 0 {
		a.s.t.Errorf("%s: of %d streams %d are lost: %.300q", after, len(a.all), len(lost), lost)
	}
}

// Row H7: keepalived elects, machines die, and connections to a server behind VXLAN go on by the other
// machine, whoever speaks: streams up and down, and datagrams. `make soak` does so with more.
func TestFlowsSurviveFailover(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"ip_hash", "flow_hash"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			onEachDataPath(t, func(t *testing.T, datapath string) {
				s := newSurvivors(t, datapath, policy, "preserve")
				streams := s.openStreams(100, uploads, downloads)
				datagrams := []*datagramEchoes{s.numberDatagrams("192.168.1.2:5000"), s.numberDatagrams(pseudo6 + ":5000")}
				for what, move := range map[string][2]func(*twin){
					"kill -9 of Caddy": {killCaddyAsSystemd, s.start}, "kill -9 of keepalived": {(*twin).killElector, (*twin).elect},
				} {
					s.move(move[0], move[1])
					streams.wantAll(what)
					for _, d := range datagrams {
						d.goesOn(what)
						t.Logf("%s: the longest gap between answers is %v", what, time.Duration(d.gap.Swap(0)).Round(time.Millisecond))
					}
				}
			})
		})
	}
}

// Row H7: where the server sees clients under aliases, uploads go on.
func TestTranslatedFlowsSurviveFailover(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newSurvivors(t, datapath, "flow_hash", "translate")
		streams := s.openStreams(40, uploads, nil)
		datagrams := s.numberDatagrams("192.168.1.2:5000")
		s.move(killCaddyAsSystemd, s.start)
		streams.wantAll("kill -9 of Caddy")
		datagrams.goesOn("kill -9 of Caddy")
	})
}

// Row H11: a bridge is drained under load: no connection is lost, and none is refused.
func TestDrainUnderLoad(t *testing.T) {
	drain := func(m *twin) { m.vnic(examples.Beginning(m.s.t, twoServers, "caddy vnic drain")) }
	activate := func(m *twin) { m.vnic(examples.Beginning(m.s.t, twoServers, "caddy vnic activate")) }
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newSurvivors(t, datapath, "flow_hash", "preserve")
		streams := s.openStreams(40, uploads, downloads)
		beside := []*connecting{s.keepConnecting("192.168.1.2:80"), s.keepConnecting(pseudo6 + ":80")}
		for range 2 {
			s.move(drain, activate)
			streams.wantAll("the drain")
		}
		wantServed(t, beside)
	})
}

// wantServed ends new connections, of which none may have failed.
func wantServed(t *testing.T, beside []*connecting) {
	t.Helper()
	for _, c := range beside {
		if c.end(); c.failed() > 0 || c.served == 0 {
			t.Errorf("of new connections %v", c)
		}
		t.Logf("new connections: %v", c)
	}
}
