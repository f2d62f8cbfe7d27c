package vnicbridge

import (
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
)

// connection is one from a client to segment a, of which a test writes the sequence
// numbers. Each side's first is the one given; windows are 512 << scale.
type connection struct {
	*rig
	client, server       ends
	clientISN, serverISN uint32
}

func (r *rig) connection(clientISN, serverISN uint32) *connection {
	return &connection{r, fromRouter(router, 4000, 80), fromA(routerOnA, 80, 4000), clientISN, serverISN}
}

func (c *connection) handshake() *connection {
	c.fromClient("S", 0, 0, "")
	c.fromServer("SA", 0, 1, "")
	c.fromClient("A", 1, 1, "")
	c.got("vnic-A")
	c.got("nic0")
	return c
}

// fromClient lets the client send a segment, whose numbers count from the first ones.
func (c *connection) fromClient(flags string, seq, ack uint32, payload string) {
	c.put("nic0", c.client.segment(flags, c.clientISN+seq, c.serverISN+ack, payload))
}

func (c *connection) fromServer(flags string, seq, ack uint32, payload string) {
	c.put("vnic-A", c.server.segment(flags, c.serverISN+seq, c.clientISN+ack, payload))
}

// is checks in which phase the flow is.
func (c *connection) is(want flow.Class) {
	c.t.Helper()
	flows := 0
	c.plane.path.EachFlow(func(f *flow.Flow) {
		flows++
		if got := f.Class(); got != want {
			c.t.Errorf("the flow's class is %d, want %d (flags %#x)", got, want, f.Flags.Load())
		}
	})
	if flows != 1 {
		c.t.Errorf("%d flows, want 1", flows)
	}
}

func roundRobin() *config.Config {
	cfg := paperConfig()
	cfg.Bridges["lan"].LBPolicy.Policy = config.PolicyRoundRobin
	return cfg
}

// firstNumbers are initial sequence numbers of both sides, between which and what
// follows them numbers wrap, too.
var firstNumbers = [][2]uint32{{1000, 5000}, {1<<32 - 1, 1<<32 - 300}, {1<<31 - 1, 1 << 31}, {7, 1<<32 - 2}}

// Row F4+: a RST counts if its receiver could accept it: at or after what that has
// acknowledged last, by at most its window. All are passed on.
func TestWhichRSTCounts(t *testing.T) {
	for _, tc := range []struct {
		name   string
		seq    int
		counts bool
	}{
		{"the next number", 1, true},
		{"within the window", 300, true},
		{"at the window's end", 1 + 512, true},
		{"beyond the window", 1 + 512 + 1, false},
		{"before what is acknowledged", 0, false},
		{"far before it", 1 - 1<<20, false},
		{"on the other side of the ring", 1 + 1<<31, false},
		{"anywhere", 0x5eed1234, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
				want := flow.ClassEstablished
				if tc.counts {
					want = flow.ClassClosing
				}
				for _, first := range firstNumbers {
					for _, flags := range []string{"R", "RA"} {
						c := r.connection(first[0], first[1]).handshake()
						c.fromClient(flags, uint32(tc.seq), 1, "")
						c.one("vnic-A")
						c.is(want)
						c.fromServer("A", 1, 1, "")
						c.is(flow.ClassEstablished) // the connection lives
						c.fromServer(flags, uint32(tc.seq), 1, "")
						c.is(want)
						c.end()
					}
				}
			})
		})
	}
}

// end lets the plane forget the connection.
func (c *connection) end() {
	c.plane.path.Flows.RemoveIf(func(*flow.Flow) bool { return true })
	c.got("vnic-A")
	c.got("vnic-B")
	c.got("nic0")
}

// Row F4+: windows are scaled as both SYNs say (RFC 7323).
func TestScaledWindows(t *testing.T) {
	syn := func(e ends, ack uint32, options ...layers.TCPOption) []byte {
		ip := e.ip(layers.IPProtocolTCP)
		tcp := &layers.TCP{
			SrcPort: layers.TCPPort(e.sport), DstPort: layers.TCPPort(e.dport), Seq: 1000, Ack: ack,
			SYN: true, ACK: ack != 0, Window: 64240, Options: options,
		}
		_ = tcp.SetNetworkLayerForChecksum(ip)
		return e.build(ip, tcp)
	}
	mss := layers.TCPOption{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 180}}
	nop := layers.TCPOption{OptionType: layers.TCPOptionKindNop}
	stamps := layers.TCPOption{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: make([]byte, 8)}
	scale := func(n byte) layers.TCPOption {
		return layers.TCPOption{OptionType: layers.TCPOptionKindWindowScale, OptionLength: 3, OptionData: []byte{n}}
	}
	for _, tc := range []struct {
		name    string
		options []layers.TCPOption
		window  uint32
	}{
		{"no option", []layers.TCPOption{mss}, 64240},
		{"7", []layers.TCPOption{mss, nop, scale(7)}, 512 << 7},
		{"7, in the end", []layers.TCPOption{mss, stamps, nop, scale(7)}, 512 << 7},
		{"14", []layers.TCPOption{scale(14)}, 512 << 14},
		{"more than there may be", []layers.TCPOption{scale(200)}, 512 << 14},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
				c := r.connection(1000, 1000)
				r.put("nic0", syn(c.client, 0, mss, scale(2)))
				r.put("vnic-A", syn(c.server, 1001, tc.options...))
				c.fromClient("A", 1, 1, "")
				c.fromServer("A", 1, 1, "")
				c.fromClient("R", 1+tc.window+1, 1, "")
				c.is(flow.ClassEstablished)
				c.fromClient("R", 1+tc.window, 1, "")
				c.is(flow.ClassClosing)
			})
		})
	}
}

// Row F4+: a SYN on an established connection may be forged: what it says of windows, and
// of where its sender is, does not count.
func TestASYNOnAConnectionSaysNothing(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		c := r.connection(1000, 5000).handshake()
		ip := c.client.ip(layers.IPProtocolTCP)
		tcp := &layers.TCP{
			SrcPort: 4000, DstPort: 80, Seq: 1 << 30, SYN: true, Window: 65535,
			Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindWindowScale, OptionLength: 3, OptionData: []byte{14}}},
		}
		_ = tcp.SetNetworkLayerForChecksum(ip)
		r.put("nic0", c.client.build(ip, tcp))
		c.fromServer("R", 1+512+1, 0, "")
		c.is(flow.ClassEstablished)
		if next := r.onlyFlow().Sent[flow.Forward].Next.Load(); next != 1001 {
			t.Errorf("the client is at %d, want 1001", next)
		}
	})
}

// Row F4+: who knows a connection's addresses and ports only, and sends a RST and a SYN
// in the client's name, changes nothing: neither its segment nor its phase.
func TestBlindRSTAndSYN(t *testing.T) {
	onEachDataPath(t, roundRobin(), func(t *testing.T, r *rig) {
		c := r.connection(1000, 5000).handshake()
		for seq := uint32(0); seq < 64; seq++ {
			c.fromClient("R", 600+seq<<26, 0, "")
			c.fromClient("S", 900+seq<<26, 0, "")
			c.is(flow.ClassEstablished)
		}
		c.got("vnic-A")
		c.silent("vnic-B")
		c.fromClient("A", 1, 1, "what follows")
		c.one("vnic-A")
		c.silent("vnic-B")
		time.Sleep(2 * flow.IdleTimes[flow.ClassClosing])
		c.is(flow.ClassEstablished)
	})
}

// Row F4+: a RST in the window may be forged, too, and the server may find it inexact
// (RFC 5961 §3.2). A SYN after it goes to the same segment; only the server's SYN-ACK
// shows that a connection begins.
func TestSYNAfterAClientsInexactRST(t *testing.T) {
	onEachDataPath(t, roundRobin(), func(t *testing.T, r *rig) {
		c := r.connection(1000, 5000).handshake()
		c.fromClient("R", 100, 0, "")
		c.fromClient("S", 1<<30, 0, "")
		c.is(flow.ClassClosing)
		c.silent("vnic-B")
		c.fromServer("A", 1, 1, "") // a challenge: for the server it lives
		c.is(flow.ClassEstablished)

		c.fromClient("R", 100, 0, "")
		c.fromClient("S", 1<<30, 0, "")
		c.got("vnic-A")
		c.silent("vnic-B")
		c.clientISN += 1 << 30
		c.serverISN += 1 << 29
		c.fromServer("SA", 0, 1, "")
		c.is(flow.ClassHalfOpen)
		c.fromClient("A", 1, 1, "")
		c.is(flow.ClassEstablished)
		c.fromClient("R", 600, 0, "")
		c.is(flow.ClassEstablished) // judged by the new numbers
		c.fromClient("R", 1, 0, "")
		c.is(flow.ClassClosing)
	})
}

// Row F4+: a SYN chooses a segment anew if the connection is over for both sides: after
// an exact RST of the client's, any that the client accepts of the server's, both FINs.
func TestSYNAfterTheEnd(t *testing.T) {
	for _, tc := range []struct {
		name string
		ends func(c *connection)
	}{
		{"client's RST after its data was acknowledged", func(c *connection) {
			c.handshake()
			c.fromClient("A", 1, 1, "request")
			c.fromServer("A", 1, 8, "answer")
			c.fromClient("R", 8, 0, "")
		}},
		{"server's RST right after its data", func(c *connection) {
			c.handshake()
			c.fromServer("A", 1, 1, "answer")
			c.fromServer("RA", 7, 1, "")
		}},
		{"a port that is closed", func(c *connection) {
			c.fromClient("S", 0, 0, "")
			c.fromServer("RA", -c.serverISN, 1, "") // its number is 0
		}},
		{"a client that takes its SYN back", func(c *connection) {
			c.fromClient("S", 0, 0, "")
			c.fromClient("R", 1, 0, "")
		}},
		{"a client that wants no SYN-ACK", func(c *connection) {
			c.fromClient("S", 0, 0, "")
			c.fromServer("SA", 0, 1, "")
			c.fromClient("R", 1, 0, "")
		}},
		{"a server that takes its SYN-ACK back", func(c *connection) {
			c.handshake()
			c.fromServer("R", 1, 0, "")
		}},
		{"both FINs", func(c *connection) {
			c.handshake()
			c.fromClient("FA", 1, 1, "request")
			c.fromServer("A", 1, 9, "answer")
			c.fromServer("FA", 7, 9, "")
			c.fromClient("A", 9, 8, "")
		}},
		{"both FINs at once", func(c *connection) {
			c.handshake()
			c.fromClient("FA", 1, 1, "")
			c.fromServer("FA", 1, 1, "")
		}},
		{"RSTs after both FINs", func(c *connection) {
			c.handshake()
			c.fromClient("FA", 1, 1, "")
			c.fromServer("FA", 1, 2, "")
			c.fromClient("R", 2, 0, "")
		}},
		{"a RST that answers the SYN after an inexact one", func(c *connection) {
			c.handshake()
			c.fromClient("R", 8, 0, "")
			c.fromClient("S", 1<<30, 0, "")
			c.fromServer("RA", -c.serverISN, 1<<30+1, "")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onEachDataPath(t, roundRobin(), func(t *testing.T, r *rig) {
				for _, first := range firstNumbers {
					c := r.connection(first[0], first[1])
					tc.ends(c)
					c.is(flow.ClassClosing)
					c.got("vnic-A")
					c.silent("vnic-B")
					c.fromClient("S", 1<<20, 0, "")
					c.one("vnic-B")
					c.silent("vnic-A")
					c.end()
				}
			})
		})
	}
}

// Row F4+: what a server is made to say by a segment that nobody sent is no end of the
// handshake that is under way.
func TestRSTOfAServerThatIsNotTheClients(t *testing.T) {
	onEachDataPath(t, roundRobin(), func(t *testing.T, r *rig) {
		for _, number := range []uint32{0, 77, 5002, 1 << 31} {
			c := r.connection(1000, 5000)
			c.fromClient("S", 0, 0, "")
			c.fromServer("SA", 0, 1, "")
			c.fromServer("R", number-c.serverISN, 0, "")
			c.is(flow.ClassHalfOpen)
			c.got("vnic-A")
			c.fromClient("S", 0, 0, "") // repeated
			c.one("vnic-A")
			c.fromClient("A", 1, 1, "")
			c.is(flow.ClassEstablished)
			c.end()
			r.put("nic0", fromRouter(router, 4001, 80).tcp("S", "")) // b's turn
			r.end()
		}
	})
}

func (r *rig) end() { (&connection{rig: r}).end() }

// Row F4+: a FIN that its receiver cannot accept is no half of the end.
func TestWhichFINCounts(t *testing.T) {
	for _, tc := range []struct {
		name    string
		seq     int
		payload string
		counts  bool
	}{
		{"the next number", 1, "", true},
		{"behind data", 1, "data", true},
		{"within the window", 400, "", true},
		{"at the window's end", 1 + 512 - 4, "data", true},
		{"beyond the window", 1 + 512 + 1, "", false},
		{"before what is acknowledged", 1 - 5, "data", false},
		{"anywhere", 0x5eed1234, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
				want := flow.ClassEstablished
				if tc.counts {
					want = flow.ClassClosing
				}
				for _, first := range firstNumbers {
					c := r.connection(first[0], first[1]).handshake()
					c.fromServer("FA", 1, 1, "")
					c.is(flow.ClassEstablished)
					c.fromClient("FA", uint32(tc.seq), 2, tc.payload)
					c.is(want)
					c.end()
				}
			})
		})
	}
}

// Row F4+: of a flow that was picked up, the window's scale is not known, nor what the
// server has acknowledged. A RST is believed within what there can be; a FIN that came
// first, too.
func TestEndsOfAFlowPickedUp(t *testing.T) {
	cfg := paperConfig()
	cfg.Bridges["lan"].LBPolicy.Policy = config.PolicyIPHash
	cfg.Bridges["lan"].LBPolicy.Segments = []string{"a"}
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		c := r.connection(1000, 5000)
		c.fromClient("A", 50, 60, "data")
		c.fromClient("R", 51, 0, "")
		c.is(flow.ClassHalfOpen)
		c.fromServer("RA", 60, 54, "")
		c.is(flow.ClassClosing) // the server does not know it
		c.end()

		c.fromClient("A", 50, 60, "data")
		c.fromServer("A", 60, 54, "")
		c.is(flow.ClassEstablished)
		c.fromClient("R", 54+512<<14+1, 0, "")
		c.is(flow.ClassEstablished)
		c.fromClient("R", 54+512<<14, 0, "")
		c.is(flow.ClassClosing)
		c.end()

		c.fromClient("FA", 50, 60, "the last")
		c.fromServer("FA", 60, 59, "")
		c.is(flow.ClassClosing)
	})
}
