package integration_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row L3: whatever happens to the NIC, the VNIC or the router, service resumes by
// itself within seconds, a connection that was open before goes on, and the log
// says what happened.
func TestFaults(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		s.start(caddyfile{datapath: datapath, a: "ports any", global: "events {\non vnic.nic_down test_log\non vnic.nic_up test_log\n}"})
		s.listen(s.Server, "192.168.50.1:9000", func(conn net.Conn) { io.Copy(conn, conn) })
		session := s.openSession("192.168.1.2:9000")
		session.want("the start")
		for _, fault := range []struct {
			name string
			do   func()
			log  []string // in this order
		}{
			{"NIC down and up", func() {
				s.ip(s.Server, "link set nic0 down")
				s.wantLog("the NIC went down")
				s.ip(s.Server, "link set nic0 up")
			}, []string{"the NIC went down", "heard vnic.nic_down", "the NIC went up", "heard vnic.nic_up"}},
			{"NIC renamed", func() {
				s.rename("nic0", "nic7")
			}, []string{"the NIC was renamed", `"to":"nic7"`}},
			{"NIC renamed back", func() {
				s.rename("nic7", "nic0")
			}, []string{"the NIC was renamed", `"to":"nic0"`}},
			{"NIC deleted and made again", func() {
				s.ip(s.Server, "link delete nic0")
				s.wantLog("a device is lost")
				s.linkAgain()
			}, []string{"a device is lost", `"device":"nic0"`, "the device is back"}},
			{"VNIC deleted", func() {
				s.ip(s.Server, "link delete vnic-A")
			}, []string{"a device is lost", `"device":"vnic-A"`, "the device is back"}},
			{"router replaced", func() {
				s.ip(s.Router, "link set wan address 00:24:a5:00:00:01")
			}, []string{"the gateway has another MAC", `"mac":"00:24:a5:00:00:01"`}},
		} {
			t.Run(fault.name, func(t *testing.T) {
				defer s.in(t)()
				from := len(s.caddy.Log(everything))
				fault.do()
				s.wantService()
				session.want(fault.name)
				for _, text := range fault.log {
					from = s.wantLogFrom(from, text)
				}
			})
		}
	})
}

// Row L3: connections in which both sides send go on when a VNIC, or the NIC, is deleted
// and made again, time after time: what is sent meanwhile is lost, and nobody is reset.
func TestStreamsOutliveTheirDevices(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		s.start(caddyfile{datapath: datapath, a: "ports any"})
		s.listen(s.Server, "192.168.50.1:9000", echo)
		s.listen(s.Server, "192.168.50.1:9002", func(conn net.Conn) { countUp(conn) })
		stream, numbers := s.startStream(), s.hearNumbers("192.168.1.2:9002")
		for range 4 {
			from := len(s.caddy.Log(everything))
			s.ip(s.Server, "link delete vnic-A")
			s.wantLogFrom(from, "the device is back")
			numbers.wantMore("vnic-A was deleted")
		}
		from := len(s.caddy.Log(everything))
		s.ip(s.Server, "link delete nic0")
		s.wantLogFrom(from, "a device is lost")
		s.linkAgain()
		numbers.wantMore("nic0 was deleted")
		stream.finish()
	})
}

// Row L3: what is changed of a VNIC by hand, or by a network manager, is put back,
// and the log says what it was.
func TestVNICIsPutBack(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		s.start(caddyfile{datapath: datapath, a: "client_ip preserve\nports any"})
		s.listen(s.Server, "192.168.50.1:9000", func(conn net.Conn) { io.Copy(conn, conn) })
		session := s.openSession("192.168.1.2:9000")
		session.want("the start")
		before := s.snapshot()
		for _, change := range []struct{ name, ip, log string }{
			{"MAC", "link set vnic-A address 02:00:00:00:00:01", "MAC"},
			{"MTU", "link set vnic-A mtu 1300", "MTU"},
			{"down", "link set vnic-A down", "state"},
			{"address deleted", "address delete 192.168.50.1/24 dev vnic-A", "address"},
			{"route deleted", "route delete 192.168.50.0/24 via 192.168.50.1", "routes"},
			{"route to the link deleted", "route delete 192.168.50.0/24 dev vnic-A scope link", "routes"},
			{"rule deleted", "rule delete from 192.168.50.1", "rule"},
			{"neighbour deleted", "neighbour delete 192.168.50.2 dev vnic-A", "neighbours"},
			{"neighbour changed", "neighbour replace 192.168.50.9 lladdr 02:00:00:00:00:02 dev vnic-A nud permanent", "neighbours"},
		} {
			t.Run(change.name, func(t *testing.T) {
				defer s.in(t)()
				from := len(s.caddy.Log(everything))
				s.ip(s.Server, change.ip)
				from = s.wantLogFrom(from, "a VNIC was changed from outside: put back")
				s.wantLogFrom(from, change.log)
				s.wantSame("after a change by hand", before)
				s.wantService()
				session.want(change.name)
			})
		}
	})
}

// everything is more lines than a log has.
const everything = 1 << 20

// wantLog waits until the log has a text.
func (s *scene) wantLog(text string) {
	s.t.Helper()
	s.wantLogFrom(0, text)
}

// wantLogFrom waits until the log has a text behind a place, and returns the place
// behind that.
func (s *scene) wantLogFrom(from int, text string) (behind int) {
	s.t.Helper()
	s.waitFor("the log says "+text, func() bool {
		log := s.caddy.Log(everything)
		at := strings.Index(log[min(from, len(log)):], text)
		behind = from + at + len(text)
		return at >= 0
	})
	return behind
}

// wantService waits until PC1 is served again.
func (s *scene) wantService() {
	s.t.Helper()
	s.waitFor("service", func() bool { return s.connects("192.168.1.2:80") })
	if got := s.get("http://192.168.1.2/"); got != "a" {
		s.t.Errorf("PC1 got %q", got)
	}
	s.wantPing(s.PC1, paper.PseudoAddr)
}

// connects tells whether PC1 reaches a server soon.
func (s *scene) connects(address string) bool {
	ctx, cancel := context.WithTimeout(s.t.Context(), 300*time.Millisecond)
	defer cancel()
	conn, err := s.PC1.DialContext(ctx, networkOf("tcp", address), address)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// rename gives the NIC another name, for which it must be down.
func (s *scene) rename(from, to string) {
	s.t.Helper()
	s.ip(s.Server, "link set "+from+" down")
	s.ip(s.Server, "link set "+from+" name "+to)
	s.ip(s.Server, "link set "+to+" up")
}

// linkAgain lays the cable between router and server anew.
func (s *scene) linkAgain() {
	s.t.Helper()
	err := s.Link(
		netlab.End{
			Host: s.Router, Device: paper.RouterWANDevice, MAC: paper.RouterMAC,
			Address: netip.PrefixFrom(paper.RouterAddr, 24),
		},
		netlab.End{Host: s.Server, Device: paper.NICDevice, MAC: paper.NICMAC})
	if err != nil {
		s.t.Fatal(err)
	}
}
