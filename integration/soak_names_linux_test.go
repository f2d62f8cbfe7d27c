//go:build soak

package integration_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// soakNames attacks a port whose segments host names choose: with half hellos that never end, and
// with a flood of SYNs from forged addresses, beyond which SYN cookies answer. Beside each, clients
// open connections and name a site. None may fail, and their p99 may be at most twice the usual one, or
// what it is beside the same without a bridge (N8). In the end Firefox opens the sites of names.
func soakNames(t *testing.T, datapath string) (figures []figure) {
	plain := make(map[string]*latencies)
	t.Run("without a bridge", func(t *testing.T) {
		s := newScene(t, paper.NetworkOptions{Neighbours: 8})
		s.apart()
		s.ip(s.Server, "addr add 192.168.1.2/24 dev nic0")
		s.ip(s.Server, "route add default via 192.168.1.1")
		s.startApart(verbatim("http:// {\n\trespond a\n}\n"))
		for _, m := range s.besideGreetings() {
			plain[m.beside] = m.latencies
			figures = append(figures, figure{"without a bridge: a request, p50 / p99 / slowest, beside " + m.beside, m.String()})
		}
	})
	s := newScene(t, paper.NetworkOptions{Neighbours: 8})
	s.apart()
	s.startApart(caddyfile{
		datapath: datapath, policy: "steer a name a.example.com\nlb_policy first b",
		sites: "http://a.example.com {\nbind vnic/a\nrespond \"a\"\n}\nhttp:// {\nbind vnic/b\nrespond \"b\"\n}\n",
	})
	measured := s.besideGreetings()
	for _, m := range measured {
		figures = append(figures, figure{"a request by name, p50 / p99 / slowest, beside " + m.beside, m.String()})
		s.wantWithin("request by name", m.beside, m.latencies, max(2*measured[0].percentile(99), plain[m.beside].percentile(99)))
	}
	return append(figures, soakFirefox(t, datapath)...)
}

// measurement is how long a client's requests took beside something.
type measurement struct {
	beside string
	*latencies
}

// besideGreetings measures requests by name beside nothing, and beside two kinds of attacks by clients
// that begin connections.
func (s *scene) besideGreetings() (all []measurement) {
	s.t.Helper()
	const usualTime = 20 * time.Second
	var end func()
	for _, attack := range []struct {
		name string
		do   func()
	}{
		{"nothing else", func() { time.Sleep(usualTime) }},
		{"SYNs at named ports", func() {
			o := s.orderFor(s.Neighbours[0])
			o.Count, o.Rate, o.Frames = soaked(400_000), floodRate, spoofed(o.MAC, synTo(80))
			s.blast(s.Neighbours[0], o)
		}},
		// The last, because what they have sent is repeated for long after they have ended.
		{"half hellos", func() { end = s.halfHellosFor(soaked(10_000), usualTime) }},
	} {
		all = append(all, measurement{attack.name, s.measureApart(asking{"a.example.com", "http://192.168.1.2/"}, attack.do)})
	}
	end()
	return all
}

// halfHellos tells a program to keep up to so many connections open for a while, to send half of a hello
// by each, and to close the oldest for each new one (idleProgram).
type halfHellos struct {
	Half        []byte
	Connections int
	Rate        int // of new ones, a second
	While       time.Duration
}

// asHalfHellos is the environment variable that makes this test binary such a program.
const asHalfHellos = "CADDY_VNIC_AS_HALF_HELLOS"

func init() { programs[asHalfHellos] = sendHalfHellos }

// halfHellosFor lets all neighbours send half hellos by up to n connections for a while. end closes those
// that are open then. A neighbour must not begin more than some 14,000: Linux first looks for a
// port among half of those that there are, and for long when these are used.
func (s *scene) halfHellosFor(n int, while time.Duration) (end func()) {
	s.t.Helper()
	const rate = 2000 // of all
	order := halfHellos{halfHello(s.t), n / len(s.Neighbours), rate / len(s.Neighbours), while}
	var senders []*netlab.Process
	var sent []io.Reader
	for _, h := range s.Neighbours {
		cmd := s.idleProgram(asHalfHellos, order)
		output, err := cmd.StdoutPipe()
		if err != nil {
			s.t.Fatal(err)
		}
		sender, err := h.Start(cmd)
		if err != nil {
			s.t.Fatal(err)
		}
		senders, sent = append(senders, sender), append(sent, output)
	}
	begun := 0
	for _, output := range sent {
		var own int
		if _, err := fmt.Fscan(output, &own); err != nil {
			s.t.Fatalf("half hellos: %v", err)
		}
		begun += own
	}
	if want := rate * int(while/time.Second); begun < want/2 {
		s.t.Errorf("%d half hellos were begun, which is less than half of %d", begun, want)
	}
	return func() {
		for _, sender := range senders {
			sender.Stop()
		}
	}
}

// sendHalfHellos is that program's main function. It prints how many connections it has begun.
func sendHalfHellos() error {
	var o halfHellos
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		return err
	}
	open, begun := make([]net.Conn, o.Connections), 0
	tick := time.NewTicker(time.Second / time.Duration(o.Rate))
	defer tick.Stop()
	for over := time.After(o.While); ; begun++ {
		select {
		case <-over:
			fmt.Println(begun)
			return unix.Pause() // until it is stopped
		case <-tick.C:
		}
		oldest := &open[begun%len(open)]
		if *oldest != nil {
			(*oldest).Close()
		}
		conn, err := net.Dial("tcp4", "192.168.1.2:80")
		if *oldest = conn; err == nil {
			conn.Write(o.Half) // best effort: the bridge may have reset the connection
		}
	}
}
