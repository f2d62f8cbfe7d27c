package vnicbridge

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/userspace"
)

// Row S7: a host that is banned while it is greeted reaches nothing, and is told nothing.
func TestABannedHostIsNotGreeted(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		r.talk(o, 4000).greet()
		asking := r.talk(o, 4001).greet()
		asking.sends(asking.says(0, headOfA))
		asking.asksForSegment("a")
		r.ban(BanRequest{}, o.network)
		for range 60 {
			time.Sleep(maintainInterval)
			for _, device := range []string{"nic0", "vnic-A", "vnic-B"} {
				for _, raw := range r.got(device) {
					if d := decode(raw); d.proto == config.TCP {
						t.Fatalf("%s sent %+v", device, d)
					}
				}
			}
		}
	})
}

// Rows N8, L1 and L2: a flood of SYNs takes bounded memory. It makes greetings go that nobody has
// acknowledged, the oldest first. It touches neither open connections nor those that are opening.
func TestAFloodOfGreetings(t *testing.T) {
	onEachDataPath(t, namedConfig(), func(t *testing.T, r *rig) {
		o := outsiders[0]
		open, opening, first := r.openNamed(o, 4000), r.talk(o, 4001).greet(), r.talk(o, 4002).begin()
		asking := r.talk(o, 4003).greet()
		asking.sends(asking.says(0, headOfA))
		asking.asksForSegment("a")
		flooded := func(i int) *talk {
			c := r.talk(o, uint16(1024+i%60000))
			c.client = fromRouter(client(i%50), uint16(1024+i/50), 80)
			return c
		}
		for i := range userspace.MaxGreetings {
			r.put("nic0", flooded(i).asks.from(flooded(i).client))
			if i%1000 == 0 {
				r.got("nic0")
			}
		}
		last, forger := flooded(userspace.MaxGreetings), flooded(userspace.MaxGreetings+1)
		r.pass(0)
		last.begin() // with a cookie, as there is no room
		forger.begin()

		for _, c := range []*talk{opening, first, last} {
			c.sends(c.says(0, headOfA))
			c.asksForSegment("a")
			if got := payloads(c.accept()); got != headOfA {
				t.Errorf("the server gets %q", got)
			}
		}
		forger.offer.seq++
		forger.sends(forger.says(0, headOfA))
		if got := forger.atClient(); got.flags&packet.TCPRST == 0 {
			t.Errorf("who guesses a cookie gets %+v", got)
		}
		if got := payloads(asking.accept()); got != headOfA {
			t.Errorf("the server gets %q", got)
		}
		open.wantsToGoOn()
	})
}

// Rows N5 and N8: a cookie tells the server what the client's SYN has told, with the MSS rounded down.
// A cookie is valid for one to two minutes, and for nobody else.
func TestSYNCookies(t *testing.T) {
	onEachDataPath(t, namedConfig(), func(t *testing.T, r *rig) {
		floods := 0
		flood := func() {
			c := r.talk(outsiders[0], 0)
			c.client = fromRouter(client(floods%250), uint16(1024+floods/250), 80)
			c.put("nic0", c.asks.from(c.client))
			r.got("nic0")
			floods++
		}
		for range userspace.MaxGreetings {
			flood()
		}
		for i, change := range []func(*tcpSegment){
			func(*tcpSegment) {},
			func(s *tcpSegment) { s.mss = 1433 },
			func(s *tcpSegment) { s.mss = 0 },
			func(s *tcpSegment) { s.scale = nil },
			func(s *tcpSegment) { s.permitted = false },
			func(s *tcpSegment) { s.times = nil },
			func(s *tcpSegment) { s.others = []byte{30} },
		} {
			c := r.talk(outsiders[0], uint16(5000+i))
			change(&c.asks)
			c.begin().sends(c.says(0, headOfA))
			want := c.asks
			want.others = nil
			want.mss = map[uint16]uint16{1400: 1400, 1433: 1400, 0: 536}[c.asks.mss]
			if want.times != nil {
				want.times = []uint32{c.clientTime, 0}
			}
			got := c.asksForSegment("a")
			want.window = got.window // a SYN's own is not told
			same(t, "the SYN", got, want)
			if got := payloads(c.accept()); got != headOfA {
				t.Errorf("the server gets %q", got)
			}
			flood() // takes the place that is free again
		}
		late := r.talk(outsiders[0], 6000).begin()
		r.pass(3 * time.Minute)
		r.got("nic0")
		late.sends(late.says(0, headOfA))
		isRST := func(raw []byte) bool { return decode(raw).flags&packet.TCPRST != 0 }
		if !slices.ContainsFunc(r.got("nic0"), isRST) { // beside ARP
			t.Error("who answers a cookie too late gets no RST")
		}
	})
}

// Rows N3 and L1: what clients send without telling a name takes bounded memory: at most 16 KiB of
// each, copies included.
func TestWhatGreetingsHoldIsBounded(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.talk(o, 4000).greet()
		head := "GET /" + strings.Repeat("x", 1<<13)
		c.sends(c.says(0, head[:10]))
		for at := range 10 {
			c.sends(c.says(20+at, head[20+at:])) // each holds a little that is new
		}
		time.Sleep(userspace.GreetingTime + 2*maintainInterval)
		c.asksForSegment("b")
		if n := len(payloads(c.accept())); n > 1<<15 {
			t.Errorf("%d bytes are held", n)
		}
	})
}
