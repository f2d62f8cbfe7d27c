package integration_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row L4: 100 reloads beside 10,000 datagrams a second and a stream of one
// connection, none of which loses anything or its order. The configurations
// differ in policy, weights and segments; some are the same again, and some fail
// because another app does. Nothing is left over of any.
func TestReloadUnderLoad(t *testing.T) {
	onEachInTurn(t, func(t *testing.T, datapath string) { reloadUnderLoad(t, datapath, 100) })
}

// reloaded is what became of the load beside reloads.
type reloaded struct {
	reloads, datagrams int
	before, after      leaks
}

func reloadUnderLoad(t *testing.T, datapath string, reloads int) (r reloaded) {
	s := newScene(t, paper.NetworkOptions{})
	s.listen(s.Server, "0.0.0.0:8099", say("a port that is taken"))
	configs := reloadConfigs(datapath)
	s.start(configs[len(configs)-1])
	for _, segment := range []string{"192.168.50.1", "192.168.60.1"} {
		s.listen(s.Server, segment+":9000", func(conn net.Conn) { io.Copy(conn, conn) })
	}
	onB := s.openSession("192.168.1.2:9000") // the last configuration prefers b
	s.load(configs[0])
	datagrams := s.sendNumbered(10000)
	stream := s.startStream()

	cycle := func() {
		for _, config := range configs {
			s.load(config)
			if got := s.get("http://192.168.1.2/"); got != "a" && got != "b" {
				t.Fatalf("PC1 got %q", got)
			}
		}
		s.failingApp(configs[0])
		onB.want("a failing reload that would remove its segment")
	}
	cycle()
	before := s.snapshot()
	r.before = s.countLeaks()
	for each := len(configs) + 2; r.reloads < reloads; r.reloads += each {
		cycle()
	}
	s.wantSame("after the reloads", before)
	s.waitFor("descriptors, BPF maps and goroutines are as few as before: "+r.before.String(), func() bool {
		r.after = s.countLeaks()
		return r.after.within(r.before)
	})
	r.datagrams = datagrams.finish()
	stream.finish()
	if drops := s.status().Segments["a"].Drops; len(drops) > 0 {
		t.Errorf("dropped on vnic-A: %v", drops)
	}
	return r
}

// reloadConfigs are configurations that all have the segments a and b. The first
// prefers a, the last b.
func reloadConfigs(datapath string) []caddyfile {
	const c = "\n}\nsegment c {\ninterface vnic-C\naddress 192.168.70.1/24\nclient_ip preserve"
	config := func(a, b, policy string) caddyfile {
		return caddyfile{datapath: datapath, a: "ports any\n" + a, b: "ports any\n" + b, policy: policy}
	}
	return []caddyfile{
		config("", "", "lb_policy first a b"),
		config("", "", "lb_policy first a b"),
		config("weight 3", "", "lb_policy weighted_round_robin a b"),
		config("weight 1", "weight 5"+c, "steer c client 10.0.0.0/8\nlb_policy random b a"),
		config("", c, "steer a port udp/5000\nlb_policy ip_hash a b"),
		config("", "", "steer b protocol tcp udp\nlb_policy round_robin a b"),
		config("egress off", "", "lb_policy least_conn a b"),
		config("", "", "lb_policy first b a"),
	}
}

// failingApp loads a configuration without segment b, which fails because another
// app does: while it is prepared, for a certificate that is not there, or when it
// starts, for a port that is taken.
func (s *scene) failingApp(config caddyfile) {
	s.t.Helper()
	text := config.String()
	from, to := strings.Index(text, "segment b {"), strings.Index(text, "bridge lan {")
	text = text[:from] + text[to:strings.LastIndex(text, "http:// {")]
	text = strings.Replace(text, "first a b", "first a", 1)
	for site, want := range map[string]string{
		":8099 {\nrespond never\n}\n":                         "address already in use",
		"https://example.com {\ntls /none.pem /none.key\n}\n": "/none.pem: no such file",
	} {
		if answer, err := s.postText(text + site); err != nil || !strings.Contains(answer, want) {
			s.t.Fatalf("POST /load says %q (%v), want %q", answer, err, want)
		}
	}
}

// numbered is a flow of datagrams that count up, from PC1 to segment a.
type numbered struct {
	s        *scene
	stop     chan struct{}
	sent     chan uint64
	received atomic.Uint64 // the highest number
	backlog  uint64        // what the kernel had dropped before

	mu      sync.Mutex
	arrived tally
	pause   time.Duration // the longest one between two that came
	failure error         // of sending
}

// tally says how numbered datagrams arrived.
type tally struct {
	seen  []bool // by number
	once  uint64 // how many numbers have come
	again uint64 // came a second time
	late  uint64 // came after a higher number
}

func (t *tally) count(number, highest uint64) {
	for uint64(len(t.seen)) <= number {
		t.seen = append(t.seen, false)
	}
	switch {
	case t.seen[number]:
		t.again++
		return
	case number < highest:
		t.late++
	}
	t.seen[number] = true
	t.once++
}

// sendNumbered sends datagrams at a rate until it is told to finish.
func (s *scene) sendNumbered(perSecond int) *numbered {
	s.t.Helper()
	n := &numbered{s: s, stop: make(chan struct{}), sent: make(chan uint64, 1), backlog: backlogDrops(s.t)}
	server := s.packetConn(s.Server, "192.168.50.1:5000").(*net.UDPConn)
	deepen(s.t, server)
	go n.receive(server)
	client, err := s.PC1.DialContext(s.t.Context(), "udp4", "192.168.1.2:5000")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { client.Close() })
	go n.send(client, perSecond)
	s.waitFor("the first datagrams", func() bool { return n.received.Load() > 100 })
	return n
}

// deepen gives a socket a buffer for seconds, lest a pause of this process looks
// like a loss.
func deepen(t *testing.T, conn *net.UDPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64*mib) })
	if err != nil || set != nil {
		t.Fatal(err, set)
	}
}

func (n *numbered) send(conn net.Conn, perSecond int) {
	var sent uint64
	start := time.Now()
	for tick := time.NewTicker(time.Millisecond); ; {
		select {
		case <-n.stop:
			tick.Stop()
			n.sent <- sent
			return
		case <-tick.C:
		}
		// At most 20 at once: what a pause has delayed is not made up for.
		due := uint64(time.Since(start).Seconds() * float64(perSecond))
		if due > sent+20 {
			start = start.Add(time.Duration(due-sent-20) * time.Second / time.Duration(perSecond))
		}
		for range min(due-min(due, sent), 20) {
			sent++
			if _, err := conn.Write(binary.BigEndian.AppendUint64(nil, sent)); err != nil {
				n.mu.Lock()
				n.failure = err
				n.mu.Unlock()
			}
		}
	}
}

func (n *numbered) receive(conn net.PacketConn) {
	buffer, last := make([]byte, 100), time.Now()
	for {
		size, _, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		now := time.Now()
		paused := now.Sub(last)
		last = now
		number, highest := binary.BigEndian.Uint64(buffer[:size]), n.received.Load()
		n.mu.Lock()
		n.arrived.count(number, highest)
		if highest > 0 { // before the first one, nothing was sent
			n.pause = max(n.pause, paused)
		}
		n.mu.Unlock()
		n.received.Store(max(number, highest))
	}
}

// finish checks that all came, once and in order, and returns how many.
func (n *numbered) finish() int {
	n.s.t.Helper()
	lost, arrived := n.end()
	if lost+arrived.again+arrived.late > 0 {
		n.s.t.Errorf("%d datagrams were lost, %d came twice, %d too late; the machine's backlog was full for %d packets, the NIC dropped %v",
			lost, arrived.again, arrived.late, backlogDrops(n.s.t)-n.backlog, n.s.status().Bridges["lan"].Drops)
	}
	return int(arrived.once)
}

// backlogDrops is what the machine's CPUs have dropped before anything could look at it,
// in all of its network namespaces, which tells a starved machine from a bridge that loses:
// the second field of each line (net/core/net-procfs.c).
func backlogDrops(t *testing.T) (dropped uint64) {
	t.Helper()
	stat, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(stat)) {
		n, err := strconv.ParseUint(strings.Fields(line)[1], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		dropped += n
	}
	return dropped
}

// end sends no more, and tells what came.
func (n *numbered) end() (lost uint64, arrived tally) {
	n.s.t.Helper()
	close(n.stop)
	sent := <-n.sent
	n.s.waitFor("the last datagram", func() bool { return n.received.Load() == sent })
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.failure != nil {
		n.s.t.Error(n.failure)
	}
	n.s.t.Logf("%d datagrams", sent)
	return sent - n.arrived.once, n.arrived
}

// stream is a connection on which random bytes are echoed by segment a.
type stream struct {
	s    *scene
	stop chan struct{}
	done chan error
}

func (s *scene) startStream() *stream {
	s.t.Helper()
	conn, err := s.PC1.DialContext(s.t.Context(), "tcp4", "192.168.1.2:9000")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	st := &stream{s: s, stop: make(chan struct{}), done: make(chan error, 1)}
	go func() { st.done <- st.run(conn) }()
	return st
}

// run sends a piece, and checks its echo, each millisecond.
func (st *stream) run(conn net.Conn) error {
	source := rand.NewChaCha8([32]byte{6})
	echo := bufio.NewReader(conn)
	sent, got := make([]byte, 3000), make([]byte, 3000)
	for {
		select {
		case <-st.stop:
			return nil
		case <-time.After(time.Millisecond):
		}
		source.Read(sent)
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Write(sent); err != nil {
			return err
		}
		if _, err := io.ReadFull(echo, got); err != nil {
			return err
		}
		if string(got) != string(sent) {
			return fmt.Errorf("the echo is not what was sent")
		}
	}
}

func (st *stream) finish() {
	st.s.t.Helper()
	close(st.stop)
	if err := <-st.done; err != nil {
		st.s.t.Errorf("the stream: %v", err)
	}
}

// leaks is what a process may have too much of.
type leaks struct{ descriptors, maps, goroutines int }

func (l leaks) String() string {
	return fmt.Sprintf("%d descriptors, %d of BPF maps, %d goroutines", l.descriptors, l.maps, l.goroutines)
}

// within allows for a few connections and timers that come and go.
func (l leaks) within(before leaks) bool {
	return l.descriptors <= before.descriptors+3 && l.maps <= before.maps && l.goroutines <= before.goroutines+10
}

func (s *scene) countLeaks() (l leaks) {
	s.t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.caddy.Process().PID()))
	if err != nil {
		s.t.Fatal(err)
	}
	l.descriptors = len(files)
	for _, file := range files {
		// One that has been closed since leads nowhere.
		if target, _ := os.Readlink(file); target == "anon_inode:bpf-map" {
			l.maps++
		}
	}
	profile := s.fromAdmin("/debug/pprof/goroutine?debug=1")
	if _, err := fmt.Sscanf(profile, "goroutine profile: total %d", &l.goroutines); err != nil {
		s.t.Fatal(err)
	}
	return l
}
