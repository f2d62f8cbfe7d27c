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

// flooder returns the talk of one of many clients.
func (r *rig) flooder(i int) *talk {
	c := r.talk(outsiders[0], 0)
	c.client = fromRouter(client(i%50), uint16(1024+i/50), 80)
	return c
}

// floodSYNs lets so many clients begin a connection at once: at least as many as use up the rate of
// SYNs.
func (r *rig) floodSYNs(n int) {
	r.longestRun = 0
	for i := range n {
		c := r.flooder(i)
		r.put("nic0", c.asks.from(c.client))
	}
	holdSYNs(r)
	r.got("nic0")
}

// Rows N8, L1 and L2: a flood of SYNs is answered with cookies beyond a rate. It touches neither
// open connections nor those that are opening, and keeps no client out.
func TestAFloodOfGreetings(t *testing.T) {
	onEachDataPath(t, namedConfig(), func(t *testing.T, r *rig) {
		o := outsiders[0]
		open, opening, first := r.openNamed(o, 4000), r.talk(o, 4001).greet(), r.talk(o, 4002).begin()
		asking := r.talk(o, 4003).greet()
		asking.sends(asking.says(0, headOfA))
		asking.asksForSegment("a")
		r.floodSYNs(2 * userspace.SYNBurst)
		last, forger := r.talk(o, 4004).begin(), r.talk(o, 4005).begin()

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

// Row N8: the bridge keeps a bounded number of SYNs, and answers only those again, at a bounded rate.
func TestHowManySYNsAreKept(t *testing.T) {
	onEachDataPath(t, namedConfig(), func(t *testing.T, r *rig) {
		r.floodSYNs(userspace.SYNBurst + 100)
		time.Sleep(maintainInterval / 2) // so that each time below has one tick
		again := 0
		for range 8 {
			time.Sleep(maintainInterval)
			atOnce := 0
			for _, raw := range r.got("nic0") {
				if d := decode(raw); d.proto == config.TCP && d.flags == synAck {
					atOnce++
				}
			}
			if again += atOnce; atOnce > userspace.SYNBurst/4 {
				t.Errorf("%d SYNs are answered again at once", atOnce)
			}
		}
		lateOnes := int(r.longestRun / time.Millisecond) // a pause of the machine lets others be kept
		if again < userspace.SYNBurst || again > userspace.SYNBurst+lateOnes {
			t.Errorf("%d SYNs are answered again, want %d, and %d more at most", again, userspace.SYNBurst, lateOnes)
		}
	})
}

// Rows N6 and N8: a client whose SYN is repeated in a flood may answer either SYN-ACK.
func TestASYNIsRepeatedInAFlood(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		late, early := r.talk(o, 4000).begin(), r.talk(o, 4001).begin()
		r.floodSYNs(userspace.SYNBurst)
		kept := early.offer
		late.begin()
		early.begin()
		early.offer, early.echo = kept, kept.times[0]
		for _, c := range []*talk{late, early} {
			c.sends(c.says(0, headOfA))
			c.asksForSegment("a")
			if got := payloads(c.accept()); got != headOfA {
				t.Errorf("the server gets %q", got)
			}
		}
	})
}

// Rows N8 and L1: what clients begin and do not finish takes bounded memory. The oldest go first, and
// are told.
func TestGreetingsAreBounded(t *testing.T) {
	onEachDataPath(t, namedConfig(), func(t *testing.T, r *rig) {
		oldest := r.talk(outsiders[0], 4000).greet()
		long := "GET /" + strings.Repeat("x", 1<<13)
		for i := range userspace.MaxHeld / len(long) {
			c := r.flooder(i).begin()
			c.sends(c.says(0, long))
		}
		newest := r.talk(outsiders[0], 4001).begin()
		newest.sends(newest.says(0, headOfA))
		newest.asksForSegment("a")
		oldest.sends(oldest.says(0, headOfA))
		if got := oldest.atClient(); got.flags&packet.TCPRST == 0 {
			t.Errorf("the oldest gets %+v", got)
		}
	})
}

// Row N8: a flood of half hellos reaches the servers at a bounded rate. Who finishes a hello is not
// behind it.
func TestHalfHellosGoOnSlowly(t *testing.T) {
	onEachDataPath(t, namedConfig(), func(t *testing.T, r *rig) {
		const clients = 150
		for i := range clients {
			c := r.flooder(i).begin()
			c.sends(c.says(0, headOfA[:20]))
			end := c.says(20, "")
			end.flags |= packet.TCPFIN
			c.sends(end)
		}
		asked := len(r.got("vnic-B"))
		if asked >= clients/2 {
			t.Errorf("%d of %d half hellos reach the server at once", asked, clients)
		}
		for i := range uint16(10) { // while packets come, they go on one by one, and not many at a tick
			time.Sleep(4 * time.Millisecond)
			r.talk(outsiders[0], 5000+i).begin()
			if n := len(r.got("vnic-B")); n != 1 {
				t.Errorf("%d half hellos go on within 4 ms, want 1", n)
			}
			asked++
		}
		c := r.talk(outsiders[0], 4000).greet()
		c.sends(c.says(0, headOfA))
		c.asksForSegment("a")
		time.Sleep(800 * time.Millisecond)
		if asked += len(r.got("vnic-B")); asked != clients {
			t.Errorf("%d of %d half hellos reach the server in the end", asked, clients)
		}
	})
}

// Rows N3, N6 and N8: what a client only repeats is no packet more, however it cuts it, and on the kernel
// path userspace does not even see it.
func TestARepeatedHalfHello(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.talk(o, 4000).greet()
		c.sends(c.says(0, headOfA[:30]))
		for i := range 15 {
			for _, again := range []tcpSegment{c.says(0, headOfA[:30]), c.says(0, headOfA[:i]), c.says(i, headOfA[i:30]), c.says(30, "")} {
				frame := again.from(c.client)
				if !inKernel(r, r.machine.devices["nic0"], asFrame(frame)) {
					if r.machine.kernel {
						t.Errorf("userspace gets %+v once more", again)
					}
					r.put("nic0", frame)
				}
			}
		}
		c.silent("vnic-A", "vnic-B", "nic0")
		c.sends(c.says(30, headOfA[30:]))
		c.asksForSegment("a")
		if got := payloads(c.accept()); got != headOfA {
			t.Errorf("the server gets %q", got)
		}
	})
}

// Rows N6 and N8: who was forgotten in a flood repeats all, and is heard again.
func TestAForgottenHalfHelloComesAgain(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		r.floodSYNs(userspace.SYNBurst)
		c := r.talk(o, 4000).begin()
		half, reset := c.says(0, headOfA[:30]), c.says(0, "")
		reset.flags |= packet.TCPRST
		c.sends(half, half, reset) // a client that resets is forgotten, too
		c.silent("vnic-A", "vnic-B", "nic0")
		c.sends(half, c.says(30, headOfA[30:]))
		c.asksForSegment("a")
		if got := payloads(c.accept()); got != headOfA {
			t.Errorf("the server gets %q", got)
		}
	})
}

// Rows N5 and N8: a cookie tells the server what the client's SYN has told, with the MSS rounded down.
// A cookie is valid for one to two minutes, and for nobody else.
func TestSYNCookies(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		r.floodSYNs(userspace.SYNBurst)
		for i, change := range []func(*tcpSegment){
			func(*tcpSegment) {},
			func(s *tcpSegment) { s.mss = 1433 },
			func(s *tcpSegment) { s.mss = 0 },
			func(s *tcpSegment) { s.scale = nil },
			func(s *tcpSegment) { s.permitted = false },
			func(s *tcpSegment) { s.times = nil },
			func(s *tcpSegment) { s.others = []byte{30} },
		} {
			c := r.talk(o, uint16(5000+i))
			change(&c.asks)
			c.begin()
			own := map[string]uint16{"IPv4": 1460, "IPv6": 1440}[o.name]
			offer := tcpSegment{flags: synAck, seq: c.offer.seq, ack: c.asks.seq + 1, window: 1 << 14, mss: own, permitted: c.asks.permitted}
			if c.asks.scale != nil {
				offer.scale = []byte{7}
			}
			if c.asks.times != nil {
				offer.times = []uint32{c.offer.times[0], c.asks.times[0]}
			}
			same(t, "the offer", c.offer, offer)
			c.sends(c.says(0, headOfA))
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
		}
		late := r.talk(o, 6000).begin()
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

// Row N8: a SYN that carries data is not answered with a cookie. The client sends it again without.
func TestASYNWithDataInAFlood(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.talk(o, 4000)
		c.asks.payload = headOfA
		c.begin()
		r.floodSYNs(userspace.SYNBurst)
		c = r.talk(o, 4001)
		c.asks.payload = headOfA
		c.sends(c.asks)
		r.silent("nic0", "vnic-A", "vnic-B")
		if n := r.drops("nic0", "overload"); n != 1 {
			t.Errorf("%d are counted as overload, want 1", n)
		}
		c.asks.payload = ""
		c.opens()
	})
}

// Row N8: on the kernel path, the program itself answers a flood of SYNs. Its answers are addressed as
// userspace's are.
func TestWhoAnswersAFlood(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		r.floodSYNs(userspace.SYNBurst)
		c := r.talk(o, 4000)
		nic := r.plane.bridges["lan"].iface.Of(packet.AddrOf(mustIP(o.host)).Family())
		before := nic.PacketsIn.Load()
		r.put("nic0", c.asks.from(c.client))
		d := decode(r.one("nic0"))
		want := ends{c.client.dstMAC, c.client.srcMAC, c.client.dst, c.client.src, c.client.dport, c.client.sport}
		if d.ends != want || d.ttl != 64 || d.tos != 0 || d.ipID != 0 || !d.valid {
			t.Errorf("the answer is %+v", d)
		}
		inUserspace := uint64(0)
		if r.plane.datapaths.kernelPath() == nil {
			inUserspace = 1
		}
		if n := nic.PacketsIn.Load() - before; n != inUserspace {
			t.Errorf("%d SYNs come to userspace, want %d", n, inUserspace)
		}
	})
}
