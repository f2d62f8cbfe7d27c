package integration_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/adminclient"
	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Rows H2 and H7: two machines fail over, and the server is behind VXLAN. The one that stands by says
// nothing about the aliases there, and never has the bridge's MAC, so that the VXLAN finds the active
// one. When the address moves, it finds the other one at once, and flows go on.
func TestStandbyMachineIsSilentBehindADevice(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newElectedMachines(t, datapath)
		s.serveFar()
		s.listen(s.far, "["+farAddr6+"]:9000", echo)
		s.listen(s.far, "["+farAddr6+"]:9001", func(conn net.Conn) { countUp(conn) })
		s.wantSilence("before anybody is elected", s.first, s.second)

		s.elect(s.first, "MASTER")
		s.elect(s.second, "BACKUP")
		s.wantBridgeAt(s.first)
		flows := map[string]enduring{
			"a session": s.openSession("192.168.1.2:9000"), "a session in IPv6": s.openSession(pseudo6 + ":9000"),
			"a download": s.hearNumbers("192.168.1.2:9001"), "a download in IPv6": s.hearNumbers(pseudo6 + ":9001"),
			"an upload": s.sayNumbers("192.168.1.2:9002"), "datagrams": s.numberDatagrams("192.168.1.2:5000"),
		}
		s.wantSilence("at first", s.second)
		for round, to := range []*machine{s.second, s.first} {
			from := s.running
			s.move(from, to)
			for _, flow := range flows {
				flow.goesOn(fmt.Sprintf("move %d", round+1))
			}
			s.openSession("192.168.1.2:9000").want("the move")
			s.openSession(pseudo6 + ":9000").want("the move")
			s.wantSilence("after the move", from)
		}

		// The router does not hear of a move, as one with an old neighbour would not: what it sends to
		// the machine that stands by is carried, and answers come from the active one.
		s.ip(s.Router, "neighbour replace 192.168.1.2 lladdr "+s.macOf(s.first.host, s.first.nic)+" dev lan nud permanent")
		s.move(s.first, s.second)
		for range 20 {
			for _, what := range []string{"a session", "an upload", "datagrams"} {
				flows[what].goesOn("a move of which the router does not hear")
			}
			s.wantBridgeAt(s.second)
		}
		s.wantSilence("as it carries flows", s.first)
		if _, err := hear(s.PC1, "192.168.1.2:9001", 300*time.Millisecond); err == nil || errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("the machine that stands by opens or refuses a flow (%v)", err)
		}
	})
}

// electedMachines are two machines that run at the same time, with the test as their elector.
type electedMachines struct {
	*twoMachines
	sent  map[*machine]*netlab.Capture // behind the device
	since map[*machine]time.Time       // of what it sends there that counts
	fifo  map[*machine]*os.File
}

func newElectedMachines(t *testing.T, datapath string) *electedMachines {
	t.Helper()
	s := &electedMachines{newTwoMachines(t, datapath, "flow_hash", "preserve"), make(map[*machine]*netlab.Capture), make(map[*machine]time.Time), make(map[*machine]*os.File)}
	s.config.families = "46"
	for _, m := range []*machine{s.first, s.second} {
		s.ip(m.host, "link set "+tunnel+" up")
		s.sent[m] = s.capture(m.host, tunnel)
		s.startElected(m)
	}
	s.waitFor("both machines have resolved the server", func() bool { return s.resolved(s.first) && s.resolved(s.second) })
	return s
}

// startElected starts Caddy on a machine, and opens the FIFO from which it hears who is active.
func (s *electedMachines) startElected(m *machine) {
	s.t.Helper()
	dir := filepath.Join(s.dir, m.nic)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	fifo := filepath.Join(dir, "vrrp")
	config := s.config
	config.nic = m.nic
	config.policy += fmt.Sprintf("\nfailover keepalived VI_lan {\nfifo %s\ntrack %s\n}", fifo, filepath.Join(dir, "lan"))
	text := strings.Replace(config.String(), "\tvnic {", "\tvnic {\nkey 00112233445566778899aabbccddeeff", 1)
	caddy, err := m.host.StartCaddy(s.t.Context(), netlab.CaddyOptions{
		Config: s.write("Caddyfile-"+m.nic, text), Log: filepath.Join(dir, "caddy.log"), State: dir, Env: s.env,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	m.caddy, s.caddy = caddy, caddy
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("Caddy's log with %s ends so:\n%s", m.nic, m.caddy.Log(25))
		}
	})
	s.fifo[m], err = os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.fifo[m].Close() })
}

// elect tells a machine its state, and waits until it has it.
func (s *electedMachines) elect(m *machine, state string) {
	s.t.Helper()
	if _, err := fmt.Fprintf(s.fifo[m], "INSTANCE \"VI_lan\" %s 100\n", state); err != nil {
		s.t.Fatal(err)
	}
	want := vnicbridge.BridgeStandsBy
	if state == "MASTER" {
		want, s.running = vnicbridge.BridgeIsActive, m
	}
	s.waitFor("the machine is "+string(want), func() bool {
		f := m.status(s.scene).Bridges["lan"].Failover
		return f.State == want && f.Says == state
	})
}

// move gives the address to another machine.
func (s *electedMachines) move(from, to *machine) {
	s.t.Helper()
	s.elect(from, "BACKUP")
	s.since[from] = time.Now()
	s.elect(to, "MASTER")
	s.wantBridgeAt(to)
}

func (m *machine) status(s *scene) (status vnicbridge.Status) {
	s.t.Helper()
	body, err := fetch(adminclient.Of(m.host.HTTPClient()), "http://localhost:2019/vnic/status")
	if err == nil {
		err = json.Unmarshal([]byte(body), &status)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return status
}

// resolved tells whether a machine has resolved the server, in both families.
func (s *electedMachines) resolved(m *machine) bool {
	s.t.Helper()
	servers := m.status(s.scene).Segments["b"].Servers
	return len(servers) == 2 && !servers[0].MAC.IsZero() && !servers[1].MAC.IsZero()
}

// wantBridgeAt waits until the server's end of the VXLAN finds the bridge's MAC behind a machine.
func (s *electedMachines) wantBridgeAt(m *machine) {
	s.t.Helper()
	want := map[*machine]string{s.first: underAddr(1), s.second: underAddr(2)}[m]
	mac := m.status(s.scene).Segments["b"].MAC.String()
	var found string
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for line := range strings.Lines(s.run(s.far, "bridge", "fdb", "show", "dev", tunnel)) {
			if strings.HasPrefix(line, mac+" ") {
				found = line
			}
		}
		if strings.Contains(found, "dst "+want+" ") {
			return
		}
	}
	s.t.Errorf("the bridge's MAC should be behind %s: %s", want, found)
}

// wantSilence checks that machines have sent nothing about the aliases, and nothing from the bridge's
// MAC, behind the device since they have stood by.
func (s *electedMachines) wantSilence(when string, machines ...*machine) {
	s.t.Helper()
	for _, m := range machines {
		mac := m.status(s.scene).Segments["b"].MAC
		for _, f := range s.frames(s.sent[m]) {
			if f.Outgoing && f.Time.After(s.since[m]) && (config.MAC(f.Data[6:12]) == mac || namesAlias(f.Data)) {
				s.t.Errorf("%s the machine with %s sent %x", when, m.nic, f.Data)
			}
		}
	}
}

// namesAlias tells whether an address of the segment other than the server's is in a frame: in a message
// of ARP or ICMPv6, or in the header of another packet.
func namesAlias(frame []byte) bool {
	addresses := frame
	switch etherType := binary.BigEndian.Uint16(frame[12:]); {
	case etherType == unix.ETH_P_IP:
		addresses = frame[26:34]
	case etherType == unix.ETH_P_IPV6 && frame[20] != unix.IPPROTO_ICMPV6:
		addresses = frame[22:54]
	}
	for network, server := range map[string]string{"\xc0\xa8\x3c": "\x01", "\xfd\x00\x00\x60\x00\x00\x00\x00": "\x00\x00\x00\x00\x00\x00\x00\x01"} {
		for _, host := range strings.Split(string(addresses), network)[1:] {
			if !strings.HasPrefix(host, server) {
				return true
			}
		}
	}
	return false
}
