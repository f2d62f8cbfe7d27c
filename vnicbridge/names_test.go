package vnicbridge

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/userspace"
)

// Rows N1, N2 and N4: the name in a ClientHello or in the head of a request chooses the segment.
// Whoever asks for no name, or for one that no rule has, goes where the policy says.
func TestANameChoosesTheSegment(t *testing.T) {
	for name, tc := range map[string]struct{ stream, segment string }{
		"TLS":                    {helloFor(t, "a.example"), "a"},
		"TLS, a wildcard":        {helloFor(t, "WWW.a.example"), "a"},
		"TLS, another name":      {helloFor(t, "b.example"), "b"},
		"TLS, too many labels":   {helloFor(t, "x.www.a.example"), "b"},
		"TLS without a name":     {helloFor(t, ""), "b"},
		"HTTP":                   {"GET / HTTP/1.1\r\nHost: A.example:80\r\n\r\n", "a"},
		"HTTP, a wildcard":       {headOfA, "a"},
		"HTTP, another name":     {"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n", "b"},
		"HTTP without a name":    {"GET / HTTP/1.0\r\n\r\n", "b"},
		"HTTP to an address":     {"GET / HTTP/1.1\r\nHost: 192.168.1.2\r\n\r\n", "b"},
		"neither TLS nor HTTP":   {"SSH-2.0-x\r\n", "b"},
		"a TLS record of alerts": {"\x15\x03\x03\x00\x02\x01\x00", "b"},
	} {
		t.Run(name, func(t *testing.T) {
			withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
				c := r.talk(o, 4000).greet()
				r.silent("nic0", "vnic-A", "vnic-B")
				c.sends(c.says(0, tc.stream))
				c.asksForSegment(tc.segment)
				if got := payloads(c.accept()); got != tc.stream {
					t.Errorf("the server gets %.80q, want %.80q", got, tc.stream)
				}
				r.silent("nic0", "vnic-A", "vnic-B")
			})
		})
	}
}

// pieces cuts a stream into n segments of the client.
func (c *talk) pieces(stream string, n int) (segments []tcpSegment) {
	for i := range n {
		from, to := i*len(stream)/n, (i+1)*len(stream)/n
		segments = append(segments, c.says(from, stream[from:to]))
	}
	return segments
}

// Rows N2, N3 and N6: the name is found however the stream is cut, and in whatever order its
// segments come. The server gets the client's segments, in the order in which they came, and each
// once.
func TestANameInPieces(t *testing.T) {
	hello := helloFor(t, "www.a.example")
	for name, arrange := range map[string]func(c *talk) []tcpSegment{
		"in two":     func(c *talk) []tcpSegment { return c.pieces(hello, 2) },
		"in fifteen": func(c *talk) []tcpSegment { return c.pieces(hello, 15) },
		"in reverse": func(c *talk) []tcpSegment { s := c.pieces(hello, 10); slices.Reverse(s); return s },
		"overlapping": func(c *talk) []tcpSegment {
			return []tcpSegment{c.says(0, hello[:100]), c.says(50, hello[50:400]), c.says(300, hello[300:900]), c.says(20, hello[20:950]), c.says(900, hello[900:])}
		},
		"the end first": func(c *talk) []tcpSegment {
			return []tcpSegment{c.says(1000, hello[1000:]), c.says(400, hello[400:1000]), c.says(0, hello[:400])}
		},
	} {
		t.Run(name, func(t *testing.T) {
			withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
				c := r.talk(o, 4000).greet()
				sent := arrange(c)
				for i, s := range sent {
					c.sends(s)
					if i < len(sent)-1 {
						c.sends(s) // a copy
						r.silent("nic0", "vnic-A", "vnic-B")
					}
				}
				c.asksForSegment("a")
				var want []string
				for _, s := range sent {
					want = append(want, s.payload)
				}
				var got []string
				for _, s := range c.accept() {
					got = append(got, s.payload)
				}
				if !slices.Equal(got, want) {
					t.Errorf("the server gets %.80q, want %.80q", got, want)
				}
			})
		})
	}
}

// Rows N3, N6: what the client sends while the server is asked is delivered too, in its order, and
// once.
func TestDataWhileTheServerIsAsked(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.talk(o, 4000).greet()
		c.sends(c.says(0, headOfA))
		c.asksForSegment("a")
		at := len(headOfA)
		c.sends(c.says(at, "one"), c.says(0, headOfA), c.says(at+3, "two"), c.says(at, "one"))
		last := c.says(at+6, "")
		last.flags |= packet.TCPFIN
		c.sends(last, last)
		r.silent("nic0", "vnic-A", "vnic-B")
		delivered := c.accept()
		if got := payloads(delivered); got != headOfA+"onetwo" {
			t.Errorf("the server gets %q", got)
		}
		if end := delivered[len(delivered)-1]; end.flags != last.flags || end.seq != last.seq {
			t.Errorf("in the end the server gets %+v", end)
		}
	})
}

// Row N7: a client that gives up while the server is asked has its RST delivered.
func TestTheClientGivesUpWhileTheServerIsAsked(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.talk(o, 4000).greet()
		c.sends(c.says(0, headOfA))
		c.asksForSegment("a")
		c.sends(c.says(len(headOfA), ""), tcpSegment{flags: packet.TCPRST, seq: c.asks.seq + 1 + uint32(len(headOfA))})
		delivered := c.accept()
		if end := delivered[len(delivered)-1]; end.flags != packet.TCPRST || end.seq != c.asks.seq+1+uint32(len(headOfA)) {
			t.Errorf("in the end the server gets %+v", end)
		}
	})
}

// Rows N2 and N9: a ClientHello in a super-packet is read, and delivered whole.
func TestASuperPacketWithAName(t *testing.T) {
	hello := helloFor(t, "a.example") + strings.Repeat("more ", 500)
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.talk(o, 4000).greet()
		const gsoTCPv4, gsoTCPv6 = 1, 4 // VIRTIO_NET_HDR_GSO_*
		gso := map[string]byte{"IPv4": gsoTCPv4, "IPv6": gsoTCPv6}[o.name]
		r.putSuper("nic0", c.says(0, hello).from(c.client), gso, 1400)
		c.asksForSegment("a")
		delivered := c.accept()
		if len(delivered) != 1 || delivered[0].payload != hello {
			t.Errorf("the server gets %d segments, %d bytes", len(delivered), len(payloads(delivered)))
		}
	})
}

// Rows N3 and N4: if no name comes in time, later rules and the policy decide. So a server can
// speak first, and a client can stop in the middle of a name.
func TestNoNameComes(t *testing.T) {
	later := namedConfig()
	later.Bridges["lan"].Steer = append(later.Bridges["lan"].Steer, config.Rule{Segment: "a", Clients: networksOf(farHost, farHost6)})
	for name, tc := range map[string]struct {
		cfg           *config.Config
		said, segment string
	}{
		"the server speaks first": {namedConfig(), "", "b"},
		"a later rule":            {later, "", "a"},
		"half of a name":          {namedConfig(), headOfA[:25], "b"},
	} {
		t.Run(name, func(t *testing.T) {
			withNames(t, tc.cfg, func(t *testing.T, r *rig, o outsider) {
				c := r.talk(o, 4000).greet()
				if tc.said != "" {
					c.sends(c.says(0, tc.said))
				}
				time.Sleep(userspace.GreetingTime - 2*maintainInterval)
				r.silent("nic0", "vnic-A", "vnic-B")
				time.Sleep(4 * maintainInterval)
				c.asksForSegment(tc.segment)
				if got := payloads(c.accept()); got != tc.said {
					t.Errorf("the server gets %q, want %q", got, tc.said)
				}
				c.answers(c.serverSays(packet.TCPACK, 0, "welcome"))
				if got := c.atClient(); got.payload != "welcome" || got.seq != c.offer.seq+1 {
					t.Errorf("the client gets %+v", got)
				}
			})
		})
	}
}

// Row N3: with 16 packets, or 16 KiB, the flow goes on without a name. Nothing that the client
// sent within the offered window is lost.
func TestBoundsOfAGreeting(t *testing.T) {
	long := "GET /" + strings.Repeat("x", 1<<14)
	for name, tc := range map[string]struct {
		stream string
		pieces int
		asked  int // after how many
	}{
		"packets": {headOfA, 20, 16},
		"bytes":   {long[:1<<14], 12, 12},
	} {
		t.Run(name, func(t *testing.T) {
			withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
				c := r.talk(o, 4000).greet()
				pieces := c.pieces(tc.stream, tc.pieces)
				c.sends(pieces[:tc.asked-1]...)
				r.silent("nic0", "vnic-A", "vnic-B")
				c.sends(pieces[tc.asked-1])
				c.asksForSegment("b")
				c.sends(pieces[tc.asked:]...)
				c.sends(c.says(1<<14, "beyond the window"))
				if got := payloads(c.accept()); got != tc.stream {
					t.Errorf("the server gets %d bytes, want %d: %q", len(got), len(tc.stream), got)
				}
			})
		})
	}
}

// Row N6: a SYN that comes again gets the same answer. One with another number begins anew.
func TestARepeatedSYN(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.talk(o, 4000).begin()
		first := c.offer
		time.Sleep(300 * time.Millisecond)
		same(t, "the second answer", c.begin().offer, first)
		c.asks.seq += 1 << 20
		if c.begin(); c.offer.seq == first.seq {
			t.Error("two connections have one sequence number")
		}
		old := c.says(0, "")
		old.seq, old.ack = old.seq-1<<20, first.seq+1
		c.sends(old)
		if got := c.atClient(); got.flags != packet.TCPRST || got.seq != old.ack {
			t.Errorf("the ACK of the first connection is answered by %+v", got)
		}
		c.sends(c.says(0, headOfA))
		c.asksForSegment("a")
	})
}

// Row N5: nobody can guess the bridge's sequence numbers, and those of one tuple grow.
func TestTheBridgesNumbers(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		seen := make(map[uint32]bool)
		for port := range uint16(16) {
			c := r.talk(o, 4000+port).begin()
			seen[c.offer.seq>>24] = true
			first := c.offer.seq
			time.Sleep(10 * time.Millisecond)
			c.asks.seq += 7
			if more := c.begin().offer.seq - first; more == 0 || more > 1<<20 {
				t.Errorf("after 10 ms the number has grown by %d", more)
			}
		}
		if len(seen) < 8 {
			t.Errorf("the numbers of 16 connections have only %d values of their first byte", len(seen))
		}
	})
}

// Row N6: if the client's ACK is lost, the bridge repeats its SYN-ACK, because the client may wait
// for the server to speak.
func TestTheBridgeRepeatsItsSYNACK(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.talk(o, 4000).begin()
		began := time.Now()
		var after []time.Duration
		for time.Since(began) < 20*time.Second {
			time.Sleep(maintainInterval)
			for _, raw := range r.got("nic0") {
				if d := decode(raw); d.proto == config.TCP {
					same(t, "the answer", readTCP(t, raw), c.offer)
					after = append(after, time.Since(began).Truncate(time.Second))
				}
			}
		}
		if want := []time.Duration{time.Second, 3 * time.Second}; !slices.Equal(after, want) {
			t.Errorf("the SYN-ACK comes again after %v, want %v", after, want)
		}
		c.sends(c.says(0, headOfA))
		if got := c.atClient(); got.flags != packet.TCPRST || got.seq != c.offer.seq+1 {
			t.Errorf("a client that the bridge has given up gets %+v", got)
		}
		r.silent("vnic-A", "vnic-B")
	})
}

// Rows F5 and N3: what belongs to no greeting gets a RST that its sender accepts, and changes no
// greeting.
func TestWhatAGreetingRefuses(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.talk(o, 4000).begin()
		refused := func(s tcpSegment) {
			t.Helper()
			c.sends(s)
			if got := c.atClient(); got.flags&packet.TCPRST == 0 || got.seq != s.ack {
				t.Errorf("%+v is answered by %+v", s, got)
			}
			r.silent("vnic-A", "vnic-B")
		}
		for _, wrong := range []uint32{0, 1 << 31, 2, ^uint32(0)} {
			s := c.says(0, headOfA)
			s.ack += wrong - 1
			if wrong != 1 {
				refused(s)
			}
		}
		second := c.says(0, "")
		second.flags = synAck
		refused(second)
		c.sends(c.says(0, headOfA))
		c.asksForSegment("a")
	})
}

// Row F4+: a RST ends a greeting if its number is in the window.
func TestARSTEndsAGreeting(t *testing.T) {
	for _, tc := range []struct {
		at   int
		ends bool
	}{{0, true}, {10, true}, {1 << 14, true}, {1<<14 + 1, false}, {-1, false}, {1 << 31, false}} {
		t.Run(fmt.Sprint(tc.at), func(t *testing.T) {
			withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
				c := r.talk(o, 4000).greet()
				c.sends(tcpSegment{flags: packet.TCPRST, seq: c.asks.seq + 1 + uint32(tc.at)})
				r.silent("nic0", "vnic-A", "vnic-B")
				c.sends(c.says(0, headOfA))
				want := "a"
				if tc.ends {
					want = "none"
				}
				c.asksForSegment(want)
			})
		})
	}
}

// Row N4: a client that ends what it says without a name goes on without one at once.
func TestAFINEndsAGreeting(t *testing.T) {
	for name, said := range map[string]string{"nothing": "", "half of a name": headOfA[:25]} {
		t.Run(name, func(t *testing.T) {
			withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
				c := r.talk(o, 4000).greet()
				last := c.says(0, said)
				last.flags |= packet.TCPFIN
				c.sends(last)
				c.asksForSegment("b")
				delivered := c.accept()
				if end := delivered[len(delivered)-1]; end.flags != last.flags || end.seq != last.seq || end.payload != said {
					t.Errorf("the server gets %+v", delivered)
				}
			})
		})
	}
}

// Row N5: the server gets the client's own SYN, from the client's address or its alias. Only ECN,
// Multipath TCP, Fast Open and its data are taken from it.
func TestTheServerGetsTheClientsSYN(t *testing.T) {
	for _, mode := range []config.ClientIP{config.Translate, config.Preserve} {
		cfg := namedConfig()
		cfg.Segments["a"].ClientIP = mode
		for name, change := range map[string]func(*tcpSegment){
			"plain":         func(*tcpSegment) {},
			"ECN":           func(s *tcpSegment) { s.flags |= tcpECE | tcpCWR },
			"Multipath TCP": func(s *tcpSegment) { s.others = []byte{30} },
			"Fast Open":     func(s *tcpSegment) { s.others, s.payload = []byte{34}, "GET / HT" },
			"no options":    func(s *tcpSegment) { s.mss, s.scale, s.permitted, s.times = 0, nil, false, nil },
		} {
			t.Run(string(mode)+" "+name, func(t *testing.T) {
				withNames(t, cfg, func(t *testing.T, r *rig, o outsider) {
					c := r.talk(o, 4000)
					want := c.asks
					change(&c.asks)
					if name == "no options" {
						want = c.asks
					}
					c.greet().sends(c.says(0, headOfA))
					same(t, "the SYN", c.asksForSegment("a"), want)
					if (c.server.dst == o.host) != (mode == config.Preserve) || c.server.dport != 4000 || c.server.sport != 80 {
						t.Errorf("with %s the server sees %+v", mode, c.server)
					}
					if c.offer.flags != synAck || c.offer.others != nil {
						t.Errorf("the client gets %+v", c.offer)
					}
				})
			})
		}
	}
}

// Row N5: the bridge offers what Linux would, of what the client offers.
func TestTheBridgesOffer(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		full := r.talk(o, 4000)
		full.begin()
		mss := map[string]uint16{"IPv4": 1460, "IPv6": 1440}[o.name]
		if got := full.offer; got.mss != mss || got.scale == nil || !got.permitted || got.times == nil || got.times[1] != 500 || got.window == 0 {
			t.Errorf("a client that offers all gets %+v", got)
		}
		bare := r.talk(o, 4001)
		bare.asks.mss, bare.asks.scale, bare.asks.permitted, bare.asks.times = 0, nil, false, nil
		bare.begin()
		if got := bare.offer; got.mss != mss || got.scale != nil || got.permitted || got.times != nil {
			t.Errorf("a client that offers nothing gets %+v", got)
		}
	})
}

// Row N3: a damaged segment chooses no segment, and is counted. One whose checksum a device has yet
// to finish is not damaged.
func TestDamagedGreetings(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.talk(o, 4000)
		damaged := func(s tcpSegment, e ends) []byte {
			raw := s.from(e)
			raw[tcpAt(raw)+15] ^= 1 // of the window
			return raw
		}
		r.put("nic0", damaged(c.asks, c.client))
		r.silent("nic0")
		c.greet()
		r.put("nic0", damaged(c.says(0, headOfA), c.client), damaged(tcpSegment{flags: packet.TCPRST, seq: c.asks.seq + 1}, c.client))
		r.silent("nic0", "vnic-A", "vnic-B")

		unfinished := asFrame(damaged(c.says(0, headOfA), c.client))
		unfinished.Data[0] = packet.VNetNeedsCsum
		r.machine.devices["nic0"].in <- unfinished
		time.Sleep(time.Millisecond)
		c.asksForSegment("a")

		r.put(c.vnic, damaged(c.accepts, c.server))
		r.silent("nic0", "vnic-A")
		if in, out := r.drops("nic0", "malformed"), r.drops("vnic-A", "malformed"); in != 3 || out != 1 {
			t.Errorf("%d and %d are counted as malformed, want 3 and 1", in, out)
		}
		c.answers(c.accepts)
		if n := len(r.got("vnic-A")); n != 1 {
			t.Errorf("the server gets %d segments, want 1", n)
		}
	})
}

// tcpAt returns where TCP begins in a frame.
func tcpAt(raw []byte) int {
	if raw[packet.EthHeaderLen]>>4 == 6 {
		return packet.EthHeaderLen + ipv6HeaderLen
	}
	return packet.EthHeaderLen + packet.IPv4MinLen
}
