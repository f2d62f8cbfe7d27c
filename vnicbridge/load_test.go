package vnicbridge

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// hostileFrames are frames that an attacker might send: good ones with bytes
// changed, cut off or made up, and plain noise. They are the same at every call.
func hostileFrames(n int) (frames [][]byte) {
	random := rand.New(rand.NewPCG(3, 4))
	good := [][]byte{
		fromRouter(router, 4000, 80).tcp("S", "payload"),
		fromRouter(farHost, 4000, 80).udp("payload"),
		fromRouter(farHost, 4000, 0).echo("payload"),
		fromA(routerOnA, 80, 4000).tcp("SA", "payload"),
		arp(true, hostMAC, otherHost, config.MAC{}, pseudo),
		buildIPv6(),
	}
	for range n {
		f := append([]byte(nil), good[random.IntN(len(good))]...)
		switch random.IntN(4) {
		case 0:
			f = f[:random.IntN(len(f)+1)]
		case 1:
			for i := range f {
				f[i] = byte(random.Uint32())
			}
		default:
			for range 1 + random.IntN(4) {
				f[random.IntN(len(f))] = byte(random.Uint32())
			}
		}
		frames = append(frames, f)
	}
	return frames
}

// Row L1: the table has the memory of its bound, also of a lower one. In a larger table flows
// that are over would keep all tuples of a small pool of aliases (A5).
func TestTheTableFollowsItsBound(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		for _, bound := range []int{5000, 10, 6000, 10} {
			next := paperConfig()
			next.MaxFlows = bound
			if err := r.plane.Apply(next); err != nil {
				t.Fatal(err)
			}
			if got, want := len(r.plane.path.Flows.Records), flow.RecordsFor(bound); got != want {
				t.Errorf("a table for %d flows has %d records, want %d", bound, got, want)
			}
		}
	})
}

// Row L1: the table is bounded; half-open flows go first, established ones stay,
// and what finds no room is refused and counted.
func TestTheFlowTableIsBounded(t *testing.T) {
	cfg := paperConfig()
	cfg.MaxFlows = 100
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		for i := range 50 {
			r.open(router, uint16(1000+i))
		}
		for i := range 1000 {
			r.put("nic0", fromRouter(fmt.Sprintf("203.0.113.%d", 1+i%250), uint16(2000+i), 80).tcp("S", ""))
		}
		if n := r.plane.Status().Flows; n != 100 {
			t.Errorf("%d flows, want 100", n)
		}
		r.got("vnic-A")
		for i := range 50 {
			r.put("nic0", fromRouter(router, uint16(1000+i), 80).tcp("A", "still here"))
			if d := decode(r.one("vnic-A")); d.payload != "still here" {
				t.Errorf("an established flow is gone: %+v", d)
			}
		}
		// Established flows take all the room: a new one of a client that has as many is refused.
		for i := range 50 {
			r.open(otherHost, uint16(3000+i))
		}
		r.got("vnic-A")
		r.put("nic0", fromRouter(otherHost, 5000, 80).tcp("S", ""))
		r.silent("vnic-A")
		if r.drops("nic0", "table_full") == 0 {
			t.Error("the refused flow is not counted")
		}
		// The same bound, lower: a reload does not end established flows.
		smaller := *cfg
		smaller.MaxFlows = 10
		if err := r.plane.Apply(&smaller); err != nil {
			t.Fatal(err)
		}
		if s := r.plane.Status(); s.Flows != 100 || s.MaxFlows != 10 {
			t.Errorf("%d flows of at most %d after a lower bound, want 100 of 10", s.Flows, s.MaxFlows)
		}
	})
}

// Row L1: idle flows go before busy ones when half-open flows do not make room.
func TestIdleFlowsMakeRoom(t *testing.T) {
	cfg := paperConfig()
	cfg.MaxFlows = 4
	cfg.Segments["a"].Egress = config.EgressOff
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		for i := range 4 {
			r.put("nic0", fromRouter(router, uint16(1000+i), 53).udp("x"))
			time.Sleep(time.Second)
		}
		r.put("nic0", fromRouter(router, 1000, 53).udp("busy"))
		r.put("nic0", fromRouter(router, 1004, 53).udp("new"))
		r.got("vnic-A")
		r.got("nic0") // ARP
		r.put("vnic-A", fromA(routerOnA, 53, 1000).udp("to the busy one"))
		if len(r.got("nic0")) != 1 {
			t.Error("the busy flow made room")
		}
		r.put("vnic-A", fromA(routerOnA, 53, 1001).udp("to the idle one"))
		r.silent("nic0")
	})
}

// Rows L1 and L2: connections that a client opens and leaves idle do not keep others
// out for longer than SpareTime, and only its own make room, idle as others' may be.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	cfg := paperConfig()
	cfg.MaxFlows = 100
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		for i := range 3 {
			r.open(router, uint16(1000+i))
		}
		for i := range 97 {
			r.open(otherHost, uint16(2000+i))
		}
		r.got("vnic-A")
		r.put("nic0", fromRouter(otherHost, 4999, 80).tcp("S", ""))
		r.silent("vnic-A") // all are fresh, and this client has most of them
		time.Sleep(flow.SpareTime + time.Second)
		for i := range 20 {
			r.put("nic0", fromRouter(farHost, uint16(5000+i), 80).tcp("S", ""))
			r.one("vnic-A")
		}
		// Beyond their share established flows go no further.
		for i := range 1000 {
			r.put("nic0", fromRouter(fmt.Sprintf("198.51.100.%d", 1+i%250), uint16(6000+i), 80).tcp("S", ""))
		}
		r.got("vnic-A")
		for i := range 3 {
			r.put("nic0", fromRouter(router, uint16(1000+i), 80).tcp("A", "still here"))
			if d := decode(r.one("vnic-A")); d.payload != "still here" {
				t.Errorf("a connection of a client with few is gone: %+v", d)
			}
		}
		left := 0
		for i := range 97 {
			r.put("nic0", fromRouter(otherHost, uint16(2000+i), 80).tcp("A", ""))
			left += len(r.got("vnic-A"))
		}
		if want := 100*flow.EstablishedShare/8 - 3; left != want {
			t.Errorf("%d connections of the client with many are left, want %d", left, want)
		}
	})
}

// Row L1: whoever keeps the whole table busy with connections, a client or a segment whose helper
// outside answers, makes room for others until they have half as many.
func TestBusyConnectionsMakeRoomForOthers(t *testing.T) {
	const most = 100
	cfg := paperConfig()
	cfg.MaxFlows = most
	cfg.Segments["b"].Egress = config.EgressAny
	for name, greedy := range map[string]func(r *rig, port uint16) (busy func()){
		"a client": func(r *rig, port uint16) func() {
			r.open(otherHost, port)
			return func() { r.put("nic0", fromRouter(otherHost, port, 80).tcp("A", "busy")) }
		},
		"a segment": func(r *rig, port uint16) func() {
			b := ends{vnicBMAC, routerMAC, serverB, farHost, port, 443}
			r.put("vnic-B", b.tcp("S", ""))
			r.put("nic0", ends{routerMAC, nicMAC, farHost, pseudo, 443, decode(r.one("nic0")).sport}.tcp("SA", ""))
			r.put("vnic-B", b.tcp("A", ""))
			r.one("nic0")
			return func() { r.put("vnic-B", b.tcp("A", "busy")) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
				var connections []func()
				keepBusy := func() {
					for _, busy := range connections {
						busy()
					}
					for _, d := range r.machine.devices {
						d.take()
					}
				}
				for port := range uint16(most) {
					connections = append(connections, greedy(r, 10000+port))
				}
				opened := 0
				for port := range uint16(most) {
					if port%10 == 0 {
						time.Sleep(time.Second)
						keepBusy()
					}
					r.put("nic0", fromRouter(router, 4000+port, 80).tcp("S", ""))
					came := r.got("vnic-A")
					if len(came) == 0 {
						continue
					}
					opened++
					r.put("vnic-A", fromA(decode(came[0]).src, 80, decode(came[0]).sport).tcp("SA", ""))
					r.put("nic0", fromRouter(router, 4000+port, 80).tcp("A", ""))
					for _, d := range r.machine.devices {
						d.take()
					}
				}
				if opened < most/4 || opened > most/2 {
					t.Errorf("%d connections of another client begin, want a quarter to a half of %d", opened, most)
				}
				alive := 0
				for port := range uint16(most) {
					r.put("nic0", fromRouter(router, 4000+port, 80).tcp("A", "still here"))
					alive += len(r.got("vnic-A"))
				}
				if alive < opened {
					t.Errorf("%d of %d connections of the other client live", alive, opened)
				}
			})
		})
	}
}

// Row L1: if one client or segment fills the table with busy UDP flows, these make room, and not
// the flows of others that are less busy.
func TestOneSendersFloodSparesOthers(t *testing.T) {
	const most = 100
	cfg := paperConfig()
	cfg.MaxFlows = most
	cfg.Segments["b"].Egress = config.EgressAny
	for name, flood := range map[string]struct {
		device string
		frame  func(port uint16) []byte
	}{
		"a client":  {"nic0", func(port uint16) []byte { return fromRouter(otherHost, port, 53).udp("x") }},
		"a segment": {"vnic-B", func(port uint16) []byte { return ends{vnicBMAC, routerMAC, serverB, farHost, port, 53}.udp("x") }},
	} {
		t.Run(name, func(t *testing.T) {
			onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
				const others = 10
				answers := make([][]byte, others)
				for i := range uint16(others) {
					r.put("nic0", fromRouter("198.51.100.7", 4000+i, 53).udp("question"))
					d := decode(r.one("vnic-A"))
					answers[i] = fromA(d.src, 53, d.sport).udp("answer")
				}
				for port := range uint16(30 * most) {
					if port%most == 0 {
						time.Sleep(100 * time.Millisecond)
					}
					r.put(flood.device, flood.frame(10000+port))
				}
				for _, d := range r.machine.devices {
					d.take()
				}
				alive := 0
				for _, answer := range answers {
					r.put("vnic-A", answer)
					alive += len(r.got("nic0"))
				}
				if alive != others {
					t.Errorf("%d of %d flows of another client live after a flood of one sender", alive, others)
				}
			})
		})
	}
}

// Row L2: while a flood of any kind fills the table over and over, a client that is
// slower than the flood can still connect, and one that closes its connection is
// heard to the end.
func TestFloodsSpareClients(t *testing.T) {
	cfg := paperConfig()
	cfg.MaxFlows = 100
	floods := map[string]func(source string, port uint16) [][]byte{
		"SYNs":      func(s string, p uint16) [][]byte { return [][]byte{fromRouter(s, p, 80).tcp("S", "")} },
		"datagrams": func(s string, p uint16) [][]byte { return [][]byte{fromRouter(s, p, 53).udp("x")} },
		"pings":     func(s string, p uint16) [][]byte { return [][]byte{fromRouter(s, p, 0).echo("x")} },
		"SYNs and RSTs": func(s string, p uint16) [][]byte {
			return [][]byte{fromRouter(s, p, 80).tcp("S", ""), fromRouter(s, p, 80).tcp("R", "")}
		},
	}
	for name, flood := range floods {
		t.Run(name, func(t *testing.T) {
			onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
				port := uint16(2000)
				flood := func(flows int) {
					for range flows {
						port++
						r.put("nic0", flood(fmt.Sprintf("203.0.113.%d", 1+port%250), port)...)
					}
					r.got("vnic-A")
					r.got("nic0")
				}
				flood(300)
				for i := range uint16(10) {
					client := fromRouter(router, 1000+i, 80)
					r.put("nic0", client.tcp("S", ""))
					flood(40)
					r.put("vnic-A", fromA(routerOnA, 80, 1000+i).tcp("SA", ""))
					r.one("nic0")
					r.put("nic0", client.tcp("A", "request"))
					if d := decode(r.one("vnic-A")); d.payload != "request" {
						t.Fatalf("the request comes as %+v", d)
					}
					r.put("vnic-A", fromA(routerOnA, 80, 1000+i).tcp("FA", "answer"))
					r.one("nic0")
					flood(40)
					r.put("nic0", client.tcp("FA", ""))
					r.one("vnic-A")
				}
			})
		})
	}
}

// Row L2: a client that is farther away than a flood of SYNs takes to fill the table
// completes its handshake, late as it is, and gets no other alias than the server has
// answered. Whoever was never answered, or answers too late, is refused (F5).
func TestLateHandshake(t *testing.T) {
	cfg := paperConfig()
	cfg.MaxFlows = 100
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		flood := func() {
			for i := range uint16(300) {
				r.put("nic0", fromRouter(fmt.Sprintf("203.0.113.%d", 1+i%250), 2000+i, 80).tcp("S", ""))
			}
			r.got("vnic-A")
			r.got("nic0")
		}
		begin := func(port uint16) (client, server ends) {
			client = fromRouter(router, port, 80)
			r.put("nic0", client.tcp("S", ""))
			r.one("vnic-A")
			return client, fromA(routerOnA, 80, port)
		}
		for _, packets := range [][]string{{"A", "request"}, {"PA", "the ACK was lost"}} {
			client, server := begin(1000)
			r.put("vnic-A", server.tcp("SA", ""))
			flood()
			r.put("nic0", client.tcp(packets[0], packets[1]))
			if d := decode(r.one("vnic-A")); d.payload != packets[1] || d.src != routerOnA || d.sport != 1000 {
				t.Fatalf("the server gets %+v", d)
			}
			r.silent("nic0")
			flood() // it is established now
			r.put("vnic-A", server.tcp("A", "answer"))
			if d := decode(r.one("nic0")); d.payload != "answer" {
				t.Errorf("the client gets %+v", d)
			}
			r.put("nic0", client.tcp("R", ""))
			r.got("vnic-A")
		}
		client, _ := begin(1001)
		flood()
		r.put("nic0", client.tcp("A", ""))
		r.silent("vnic-A")
		if d := decode(r.one("nic0")); d.flags&packet.TCPRST == 0 {
			t.Errorf("without an answer of the server the client gets %+v", d)
		}
		client, server := begin(1002)
		r.put("vnic-A", server.tcp("SA", ""))
		flood()
		time.Sleep(flow.IdleTimes[flow.ClassHalfOpen])
		r.got("nic0")
		r.put("nic0", client.tcp("A", ""))
		r.silent("vnic-A")
	})
}

// Rows A5 and L2: what the server knows a client by that has yet to complete its
// handshake is given to nobody else, though the flood wants just that port and is
// answered too.
func TestLateHandshakeKeepsItsTuple(t *testing.T) {
	cfg := paperConfig()
	cfg.MaxFlows = 8
	cfg.Segments["a"].Aliases = config.AddrRange{First: mustIP("192.168.50.2"), Last: mustIP("192.168.50.4")}
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		begin := func(client string) (server ends) {
			r.put("nic0", fromRouter(client, 1000, 80).tcp("S", ""))
			d := decode(r.one("vnic-A"))
			server = fromA(d.src, 80, d.sport)
			r.put("vnic-A", server.tcp("SA", ""))
			r.got("nic0")
			return server
		}
		server := begin(farHost)
		for i := range 300 {
			if other := begin(fmt.Sprintf("198.51.%d.%d", 100+i/200, 1+i%200)); other == server {
				t.Fatalf("the %dth of the flood got the tuple", i+1)
			}
			time.Sleep(10 * time.Millisecond) // the oldest go first
		}
		r.put("nic0", fromRouter(farHost, 1000, 80).tcp("A", "request"))
		if d := decode(r.one("vnic-A")); d.payload != "request" || d.src != server.dst || d.sport != server.dport {
			t.Errorf("the server gets %+v", d)
		}
	})
}

// Row L2: to configure a VNIC is work, which a host on the link has done by no ARP that
// it sends, but for the gateway: and that at most once in maintainInterval.
func TestARPFloods(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		vnic := r.machine.devices["vnic-A"]
		configured := func(flood func(i byte)) int {
			time.Sleep(2 * maintainInterval)
			_, before := vnic.configured()
			for i := range byte(100) {
				flood(i)
			}
			_, after := vnic.configured()
			return after - before
		}
		if n := configured(func(i byte) {
			mac := config.MAC{0x02, 0, 0, 0, 1, i}
			r.put("nic0", arp(true, mac, fmt.Sprintf("192.168.1.%d", 100+i), config.MAC{}, pseudo))
		}); n > 0 {
			t.Errorf("hosts have the VNIC configured %d times", n)
		}
		last := config.MAC{}
		if n := configured(func(i byte) {
			last = config.MAC{0x02, 0, 0, 0, 2, i}
			r.put("nic0", arp(true, last, router, config.MAC{}, pseudo))
		}); n > 1 {
			t.Errorf("a gateway that changes has the VNIC configured %d times, want once", n)
		}
		r.got("nic0")
		time.Sleep(link.LockTime + 2*maintainInterval)
		if !r.asksFor(router) {
			t.Error("after a MAC that was not taken in, the gateway is not asked for again")
		}
		r.put("nic0", arp(false, last, router, nicMAC, pseudo))
		time.Sleep(2 * maintainInterval)
		settings, _ := vnic.configured()
		if got := settings.Neighbours[mustIP(routerOnA)]; got != last {
			t.Errorf("in the end the gateway's alias resolves to %s, want %s", got, last)
		}
	})
}

// Row L1: what the documentation says that a flow costs is not less than what it
// does.
func TestFlowBytes(t *testing.T) {
	for _, path := range testedPaths {
		t.Run(path, flowBytes[path])
	}
}

// flowBytes are the tests of what a flow costs, by data path.
var flowBytes = map[string]func(*testing.T){"userspace": testOwnMemoryOfFlows}

func testOwnMemoryOfFlows(t *testing.T) {
	const flows = 100_000
	table := flow.OwnTable(config.DefaultMaxFlows, new(flow.Handshakes))
	in, out := iface.New(1, "in"), iface.New(2, "out")
	table.Know(in)
	table.Know(out)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range flows {
		p := packet.Packet{Tuple: packet.Tuple{Src: packet.AddrFrom4([]byte{10, 0, 0, byte(i >> 16)}), Sport: uint16(i), Proto: config.UDP}}
		if _, verdict := table.Insert(flow.New(in, out, &p, 0), only(p.Reversed())); verdict != packet.Keep {
			t.Fatal(verdict)
		}
	}
	table.RemoveIf(func(*flow.Flow) bool { return true }) // all records are spare
	runtime.GC()
	runtime.ReadMemStats(&after)
	aside := len(table.Records)*int(unsafe.Sizeof(table.Records[0])+unsafe.Sizeof(table.Answers[0])) +
		(len(table.Near)+len(table.Far))*int(unsafe.Sizeof(table.Near[0]))
	each := float64(aside)/config.DefaultMaxFlows + float64(int64(after.HeapAlloc-before.HeapAlloc))/flows
	t.Logf("%.1f bytes a flow", each)
	if each > flow.FlowBytes {
		t.Errorf("a flow costs %.1f bytes, more than the %d stated", each, flow.FlowBytes)
	}
	runtime.KeepAlive(table)
}

func only(t packet.Tuple) func(func(packet.Tuple) bool) {
	return func(yield func(packet.Tuple) bool) { yield(t) }
}

// Row L6: any byte string by any device crashes nothing and reaches no other
// segment; a legitimate client is served meanwhile.
func TestHostileFrames(t *testing.T) {
	cfg := paperConfig()
	cfg.Bridges["lan"].LBPolicy.Segments = []string{"a"}
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		r.open(farHost, 9999)
		beyond := fromRouter(farHost, 9998, 80).tcp("S", "")
		beyond[14+20+12] = 15 << 4 // its TCP header is said to be of 60 bytes
		r.put("nic0", beyond)
		r.silent("vnic-A")
		if n := r.drops("nic0", "malformed"); n != 1 {
			t.Errorf("%d frames dropped as malformed, want 1", n)
		}
		for i, f := range hostileFrames(20_000) {
			r.put("nic0", f)
			r.put("vnic-B", f)
			r.silent("vnic-B")
			if i%1000 == 0 {
				r.got("vnic-A")
				r.put("nic0", fromRouter(farHost, 9999, 80).tcp("A", "served"))
				if d := decode(r.one("vnic-A")); d.payload != "served" {
					t.Errorf("after %d frames the client got %+v", i, d)
				}
			}
		}
	})
}
