package integration_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Row H10: reloads put a segment behind a device, keep its connections, and take it away again.
// Connections also go on when the data path changes.
func TestRemoteSegmentByReload(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newRemoteScene(t, datapath, "client_ip preserve")
		s.config.a = "ports any"
		s.config.policy = "steer a port tcp/9001\nlb_policy first b"
		local := s.config
		local.deviceB = ""
		s.ip(s.Server, "link set "+tunnel+" up")
		device := func() string {
			return s.ip(s.Server, "-d link show "+tunnel) + s.ip(s.Server, "-4 address show dev "+tunnel) + s.run(s.Server, "tc", "qdisc", "show", "dev", tunnel)
		}
		before := device()
		s.start(local)
		s.listen(s.Server, "192.168.50.1:9001", echo)
		s.listen(s.far, farAddr+":9000", echo)
		other := s.openSession("192.168.1.2:9001")

		s.load(s.config)
		other.want("a reload that adds a device")
		session := s.openSession("192.168.1.2:9000")
		mac := s.status().Segments["b"].MAC
		changed := s.config
		changed.b += "\nweight 7"
		for _, to := range []string{"userspace", "kernel", datapath} {
			changed.datapath = to
			s.load(changed)
			session.want("a reload that keeps the device, to " + to)
			other.want("a reload that keeps the device, to " + to)
		}
		if now := s.status().Segments["b"].MAC; now != mac || mac[0]&3 != 2 {
			t.Errorf("the bridge's MAC behind the device is %s, and was %s", now, mac)
		}

		changed.b += "\nmac 02:00:00:00:60:02"
		s.load(changed) // and so the device is opened again
		session = s.openSession("192.168.1.2:9000")
		if now := s.status().Segments["b"].MAC.String(); now != "02:00:00:00:60:02" {
			t.Errorf("the bridge's MAC behind the device is %s", now)
		}
		bad := changed
		bad.deviceB = "device nosuch"
		if answer, err := s.post(bad); err != nil || !strings.Contains(answer, "device nosuch: no such device") {
			t.Errorf("a reload with a device that is not there: %q (%v)", answer, err)
		}
		session.want("a reload that fails")
		s.load(local)
		other.want("a reload that removes the device")
		session.wantReset("a reload that removes the device")
		if now := device(); now != before {
			t.Errorf("after the reload the device is\n%s, want\n%s", now, before)
		}
	})
}

// wantReset checks that the session was reset.
func (c *session) wantReset(after string) {
	c.s.t.Helper()
	if err := c.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		c.s.t.Fatal(err)
	}
	if _, err := c.lines.ReadByte(); err == nil || !strings.Contains(err.Error(), "reset") {
		c.s.t.Errorf("after %s the session gets %v, want a reset", after, err)
	}
}

// Rows H10 and R1: an upgrade with a segment behind a device. Its connections go on, and no request is
// refused.
func TestUpgradeWithADevice(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newRemoteScene(t, datapath, "client_ip preserve")
		s.start(s.config)
		s.serveHTTP(s.far, farAddr+":80", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a") }))
		s.listen(s.far, farAddr+":9000", echo)
		session := s.openSession("192.168.1.2:9000")
		stop := s.connectAgainAndAgain("192.168.1.2:80")
		mac := s.status().Segments["b"].MAC
		for range 2 {
			s.upgrade()
			session.want("an upgrade")
		}
		if n := stop(); n == 0 {
			t.Error("nothing was requested")
		}
		if status := s.status().Segments["b"]; status.MAC != mac || len(status.Servers) != 2 || status.Servers[0].MAC.String() != s.macOf(s.far, tunnel) {
			t.Errorf("after the upgrades the segment is %+v", status)
		}
		if dropped := s.status().Segments["b"].Drops["bad_source"]; dropped != 0 {
			t.Errorf("%d frames of the server's were dropped", dropped)
		}
		s.wantUnchangedDevice()
	})
}

// Row H10: the server behind a device is checked from another segment, through the bridge, and reached
// by a site there. While its checks fail, the segment gets no new flows.
func TestHealthBehindADevice(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newRemoteScene(t, datapath, "health http/80 /healthz from a {\ninterval 100ms\nfails 2\n}")
		s.config.a = "ports any\nreach b"
		s.config.policy = "steer a port tcp/8080\nlb_policy first b a"
		s.config.sites = "http:// {\nbind vnic/a\nrespond a\n}\nhttp://:8080 {\nbind vnic/a\nvnic_proxy b\n}\n"
		var failing atomic.Bool
		var checks atomic.Int64
		s.serveHTTP(s.far, farAddr+":80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/healthz" {
				checks.Add(1)
				if failing.Load() {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
				return
			}
			fmt.Fprint(w, "far")
		}))
		s.start(s.config)
		if got := s.get("http://192.168.1.2:8080/"); got != "far" {
			t.Errorf("by a site on segment a PC1 got %q", got)
		}
		s.waitFor("checks", func() bool { return checks.Load() > 3 })
		for _, fails := range []bool{true, false} {
			failing.Store(fails)
			want := map[bool]string{true: "a", false: "far"}[fails]
			s.waitFor("PC1 gets "+want, func() bool {
				got, err := fetch(s.PC1.HTTPClient(), "http://192.168.1.2/")
				return err == nil && got == want
			})
		}
		s.vnic("stop", "b")
		if got := s.get("http://192.168.1.2/"); got != "a" {
			t.Errorf("while the segment is stopped PC1 got %q", got)
		}
		s.vnic("start", "b")
		s.waitFor("PC1 gets the far server again", func() bool {
			got, err := fetch(s.PC1.HTTPClient(), "http://192.168.1.2/")
			return err == nil && got == "far"
		})
	})
}
