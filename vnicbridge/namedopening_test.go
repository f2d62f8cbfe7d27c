package vnicbridge

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/userspace"
)

// Row N7: if the server refuses, the client gets a RST that the client accepts.
func TestAServerThatRefusesAName(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.talk(o, 4000).greet()
		c.sends(c.says(0, headOfA))
		c.asksForSegment("a")
		const refusal = packet.TCPRST | packet.TCPACK
		for _, forged := range []tcpSegment{
			{flags: refusal, ack: c.asks.seq}, {flags: refusal, ack: c.asks.seq + 2}, {flags: packet.TCPRST, seq: c.accepts.seq},
		} {
			c.answers(forged)
			r.silent("nic0", c.vnic)
		}
		c.answers(tcpSegment{flags: refusal, ack: c.asks.seq + 1})
		if got := c.atClient(); got.flags != packet.TCPRST || got.seq != c.offer.seq+1 {
			t.Errorf("the client gets %+v, want a RST with %d", got, c.offer.seq+1)
		}
		c.sends(c.says(len(headOfA), "more"))
		if got := c.atClient(); got.flags&packet.TCPRST == 0 {
			t.Errorf("then the client gets %+v", got)
		}
		r.silent(c.vnic)
		c.asks.seq += 1 << 20 // it tries again
		c.opens()
	})
}

// Row N7: a server that is silent gets the SYN again after 1, 3 and 7 s. After 10 s the client gets
// a RST, and nothing is left.
func TestASilentServer(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.talk(o, 4000).greet()
		c.sends(c.says(0, headOfA))
		syn := c.asksForSegment("a")
		began := time.Now()
		var asked, reset []time.Duration
		for time.Since(began) < 3*userspace.ServerTime {
			time.Sleep(maintainInterval)
			after := time.Since(began).Truncate(time.Second)
			for _, raw := range r.got(c.vnic) {
				same(t, fmt.Sprintf("the SYN after %v", after), readTCP(t, raw), syn)
				asked = append(asked, after)
			}
			for _, raw := range r.got("nic0") {
				if d := decode(raw); d.proto != config.TCP {
					continue
				}
				if got := readTCP(t, raw); got.flags != packet.TCPRST || got.seq != c.offer.seq+1 {
					t.Errorf("the client gets %+v", got)
				}
				reset = append(reset, after)
			}
		}
		if want := []time.Duration{1 * time.Second, 3 * time.Second, 7 * time.Second}; !slices.Equal(asked, want) {
			t.Errorf("the SYN comes again after %v, want %v", asked, want)
		}
		if want := []time.Duration{userspace.ServerTime}; !slices.Equal(reset, want) {
			t.Errorf("the client is reset after %v, want %v", reset, want)
		}
		if n := r.plane.Status().Flows; n != 0 {
			t.Errorf("%d flows are left", n)
		}
		c.answers(c.accepts)
		for _, raw := range r.got("nic0") {
			if d := decode(raw); d.proto == config.TCP {
				t.Errorf("then the client gets %+v", d)
			}
		}
	})
}

// Row N6: what is lost is repaired by whoever sent it: the SYN-ACK by the server, and data by the
// client.
func TestOpeningIsRepaired(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.talk(o, 4000).greet()
		c.sends(c.says(0, headOfA))
		c.asksForSegment("a")
		r.pass(1500 * time.Millisecond) // the first SYN-ACK is lost, and the SYN comes again
		c.sends(c.says(0, headOfA))
		if got := payloads(c.accept()); got != headOfA {
			t.Errorf("the server gets %q", got)
		}
		// All that was delivered is lost. The server repeats its SYN-ACK, which the client knows.
		c.answers(c.accepts)
		got := c.atClient()
		if got.flags != synAck || got.seq != c.offer.seq || got.ack != c.offer.ack || !slices.Equal(got.times, c.offer.times) {
			t.Errorf("the client gets %+v, want the numbers of %+v", got, c.offer)
		}
		again := c.says(0, headOfA)
		c.sends(again)
		same(t, "the retransmission", c.atServer(), c.toServer(again))
	})
}

// Rows N3 and N6: what a client sends while its server answers neither ends the connection, nor is
// lost, nor overtakes what the client has sent before.
func TestTheClientSendsWhileTheServerAnswers(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		for port := range uint16(300) {
			c := r.talk(o, 4000+port).greet()
			c.sends(c.says(0, headOfA))
			c.asksForSegment("a")
			more, answer := asFrame(c.says(len(headOfA), "more").from(c.client)), asFrame(c.accepts.from(c.server))
			go func() { r.machine.devices["nic0"].in <- more }()
			r.machine.devices[c.vnic].in <- answer
			synctest.Wait()
			var got []tcpSegment
			for _, raw := range r.got(c.vnic) {
				got = append(got, readTCP(t, raw))
			}
			if all := payloads(got); all != headOfA+"more" {
				t.Fatalf("connection %d: the server gets %q", port, all)
			}
			r.silent("nic0")
		}
	})
}

// Row N7: a server that still has an older connection answers the SYN with its old numbers. It gets
// a RST, as from any client, and then the SYN again (RFC 9293 §3.10.7.3).
func TestAnOldConnectionOfTheServer(t *testing.T) {
	for name, ack := range map[string]uint32{"another number": 12345, "the number of the SYN": 1<<32 - 19} {
		t.Run(name, func(t *testing.T) {
			withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
				c := r.talk(o, 4000).greet()
				c.sends(c.says(0, headOfA))
				syn := c.asksForSegment("a")
				c.answers(tcpSegment{flags: packet.TCPACK, seq: 99, ack: ack, window: 501})
				if got := c.atServer(); got.flags != packet.TCPRST || got.seq != ack {
					t.Errorf("the server gets %+v, want a RST with %d", got, ack)
				}
				r.silent("nic0")
				time.Sleep(1200 * time.Millisecond)
				same(t, "the SYN", c.atServer(), syn)
				if got := payloads(c.accept()); got != headOfA {
					t.Errorf("the server gets %q", got)
				}
			})
		})
	}
}

// Row N7: if no segment is available, or the segment does not open the port, the client gets a RST,
// because its connection is open already.
func TestANameWithoutAServer(t *testing.T) {
	closed, unavailable := namedConfig(), namedConfig()
	closed.Segments["a"].Ports = []config.PortRange{{Protocol: config.TCP, First: 443, Last: 443}}
	unavailable.Bridges["lan"].OnNoSegment = config.Drop
	for reason, tc := range map[string]struct {
		cfg    *config.Config
		before func(*rig)
	}{
		"port_not_open": {closed, func(*rig) {}},
		"no_segment":    {unavailable, func(r *rig) { _ = r.plane.SetState("a", config.Draining) }},
	} {
		t.Run(reason, func(t *testing.T) {
			withNames(t, tc.cfg, func(t *testing.T, r *rig, o outsider) {
				tc.before(r)
				c := r.talk(o, 4000).greet()
				c.sends(c.says(0, headOfA))
				if got := c.atClient(); got.flags != packet.TCPRST || got.seq != c.offer.seq+1 {
					t.Errorf("the client gets %+v", got)
				}
				r.silent("vnic-A", "vnic-B")
				if n := r.drops("nic0", reason); n != 1 {
					t.Errorf("%d are counted, want 1", n)
				}
				if n := r.plane.Status().Flows; n != 0 {
					t.Errorf("%d flows are left", n)
				}
			})
		})
	}
}
