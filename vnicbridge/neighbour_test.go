package vnicbridge

import (
	"net/netip"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// largeLink is the paper's system on a link with more hosts than neighbours that are
// remembered because they asked.
func largeLink() *config.Config {
	cfg := paperConfig()
	cfg.Bridges["lan"].Addresses = prefixes(pseudo + "/19")
	return cfg
}

// onLink is the i-th host of the large link, of 7,000, and its MAC.
func onLink(i int) (host string, mac config.MAC) {
	return netip.AddrFrom4([4]byte{192, 168, byte(2 + i>>8), byte(i)}).String(), config.MAC{0x02, 0, 0, 1, byte(i >> 8), byte(i)}
}

// connects lets a host on the link ask for the pseudo address and open a connection,
// and tells whether the server's answer reaches it.
func (r *rig) connects(host string, mac config.MAC, port uint16) bool {
	r.t.Helper()
	r.put("nic0", arp(true, mac, host, config.MAC{}, pseudo))
	r.got("nic0")
	return r.continues(host, mac, port, "S", "SA")
}

// continues lets a host send a segment and the server answer it, and tells whether the
// answer reaches the host.
func (r *rig) continues(host string, mac config.MAC, port uint16, question, answer string) bool {
	r.t.Helper()
	r.put("nic0", ends{mac, nicMAC, host, pseudo, port, 80}.tcp(question, ""))
	d := decode(r.one("vnic-A"))
	r.put("vnic-A", fromA(d.src, 80, d.sport).tcp(answer, ""))
	for _, raw := range r.got("nic0") {
		if d := decode(raw); d.dst == host && d.dstMAC == mac {
			return true
		}
	}
	return false
}

// asked is how many ARP requests the NIC has sent to all since the last time.
func (r *rig) asked() (broadcasts int) {
	for _, raw := range r.got("nic0") {
		f := asFrame(raw)
		if m, err := link.ParseARP(&f); err == nil && m.Request && f.DstMAC() == config.BroadcastMAC {
			broadcasts++
		}
	}
	return broadcasts
}

// sizeOf is how many entries a part of the table has.
func sizeOf(n *link.Neighbours, p link.NeighbourPart) int {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	return n.Table.Sizes[p]
}

// Row A7+: hosts that only asked for us take a part of the table, where the newest are
// remembered. No flood of them keeps a new host out, or a known one.
func TestHostsThatOnlyAskMakeRoom(t *testing.T) {
	onEachDataPath(t, largeLink(), func(t *testing.T, r *rig) {
		if !r.connects(otherHost, hostMAC, 4000) {
			t.Fatal("a host on the link gets no answer")
		}
		n := r.plane.bridges["lan"].links[config.IPv4].Table()
		for i := range 7000 {
			host, mac := onLink(i)
			r.put("nic0", arp(true, mac, host, config.MAC{}, pseudo))
		}
		r.got("nic0")
		if heard := sizeOf(n, link.PartHeard); heard > link.NeighbourBounds[link.PartHeard] || heard < link.NeighbourBounds[link.PartHeard]/2 {
			t.Errorf("%d hosts that only asked are remembered, want nearly %d", heard, link.NeighbourBounds[link.PartHeard])
		}
		refillARP(r)
		if !r.connects("192.168.31.200", config.MAC{0x02, 9, 9, 9, 9, 9}, 4000) {
			t.Error("a new host gets no answer after the flood")
		}
		if !r.continues(otherHost, hostMAC, 4000, "A", "A") {
			t.Error("a host that had a connection gets no answer after the flood")
		}
	})
}

// Row A7+: as many hosts as a large link has may have flows at once; all of them are
// kept, and reached at once.
func TestManyNeighboursWithFlows(t *testing.T) {
	cfg := largeLink()
	cfg.MaxFlows = 1 << 14
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		const hosts = 5000
		for i := range hosts {
			refillARP(r)
			if host, mac := onLink(i); !r.connects(host, mac, 4000) {
				t.Fatalf("host %d gets no answer", i)
			}
		}
		for i := range hosts {
			if host, mac := onLink(i); !r.continues(host, mac, 4000, "A", "A") {
				t.Fatalf("host %d is forgotten though it has a connection", i)
			}
		}
	})
}

// Row A7+: where even the hosts that frames go to are too many, the idlest make room,
// on whatever data path their frames go.
func TestTheIdlestNeighboursMakeRoom(t *testing.T) {
	onEachDataPath(t, largeLink(), func(t *testing.T, r *rig) {
		n := r.plane.bridges["lan"].links[config.IPv4].Table()
		n.Mu.Lock()
		n.Table.Bounds[link.PartUsed] = 64
		n.Mu.Unlock()
		for i := range 63 { // and the gateway
			if host, mac := onLink(i); !r.connects(host, mac, 4000) {
				t.Fatalf("host %d gets no answer", i)
			}
		}
		time.Sleep(2 * time.Second)
		for i := 10; i < 63; i++ {
			host, mac := onLink(i)
			r.continues(host, mac, 4000, "A", "A")
		}
		time.Sleep(2 * link.SurveyInterval)
		for i := 63; i < 68; i++ {
			if host, mac := onLink(i); !r.connects(host, mac, 4000) {
				t.Errorf("host %d, which is new, gets no answer", i)
			}
		}
		for i := range 68 {
			host, _ := onLink(i)
			_, known := n.Lookup(mustIP(host))
			if i >= 10 && !known {
				t.Errorf("host %d was forgotten before those that were idle for longer", i)
			}
		}
		if size := sizeOf(n, link.PartUsed); size > 64 {
			t.Errorf("%d hosts are remembered, want 64 at most", size)
		}
		if _, known := n.Lookup(mustIP(router)); !known {
			t.Error("the gateway was forgotten")
		}
		if host, mac := onLink(0); !r.connects(host, mac, 4000) {
			t.Error("a host that was forgotten gets no answer when it comes again")
		}
	})
}

// Row A7+: SYNs from forged sources on the link make a bounded number of broadcasts
// and entries. They keep neither a host out that asks for us, nor one that a segment
// turns to.
func TestForgedHostsOnTheLink(t *testing.T) {
	cfg := largeLink()
	cfg.Segments["b"].Egress = config.EgressAny
	cfg.MaxFlows = 1 << 14
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		const forged = 6000
		for i := range forged {
			host, _ := onLink(i)
			r.put("nic0", ends{hostMAC, nicMAC, host, pseudo, 4000, 80}.tcp("S", ""))
			d := decode(r.one("vnic-A"))
			r.put("vnic-A", fromA(d.src, 80, d.sport).tcp("SA", ""))
		}
		if n := r.asked(); n < link.BroadcastBurst || n > link.BroadcastBurst+1 {
			t.Errorf("%d broadcasts for %d forged hosts at once, want %d", n, forged, link.BroadcastBurst)
		}
		n := r.plane.bridges["lan"].links[config.IPv4].Table()
		if size := sizeOf(n, link.PartResolving); size > link.NeighbourBounds[link.PartResolving] {
			t.Errorf("%d hosts are asked for at once, want %d at most", size, link.NeighbourBounds[link.PartResolving])
		}
		if !r.connects("192.168.31.200", config.MAC{0x02, 9, 9, 9, 9, 9}, 4000) {
			t.Error("a host on the link gets no answer during the flood")
		}
		r.put("vnic-B", ends{vnicBMAC, routerMAC, serverB, "192.168.31.201", 5000, 53}.udp("question"))
		if !r.asksFor("192.168.31.201") {
			t.Error("a host that a segment turns to is not asked for during the flood")
		}
		r.got("nic0")
		time.Sleep(2 * time.Second)
		if n := r.asked(); n < link.BroadcastRate || n > 3*link.BroadcastRate {
			t.Errorf("%d broadcasts in the next 2 s, want %d a second", n, link.BroadcastRate)
		}
		time.Sleep(10 * time.Second)
		if size := sizeOf(n, link.PartResolving); size != 0 {
			t.Errorf("%d hosts are asked for still, 10 s later", size)
		}
		n.Mu.Lock()
		defer n.Mu.Unlock()
		if n.Waiting != 0 {
			t.Errorf("%d bytes wait still", n.Waiting)
		}
	})
}

// Row L7: the frames that wait for hosts take bounded memory.
func TestWaitingFramesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := link.NewNeighbours(netip.MustParsePrefix("10.0.0.0/8"))
		n.Ask, n.GaveUp, n.Publish = func(packet.Addr, config.MAC) {}, func(int) {}, func(packet.Addr, config.MAC, bool) {}
		large := packet.Frame{Data: make([]byte, 64<<10)}
		refused := 0
		for i := range 4000 {
			if _, verdict := n.Forward(&large, packet.AddrFrom4([]byte{10, 0, byte(i >> 8), byte(i)}), false, 1); verdict == packet.DropUnresolved {
				refused++
			}
		}
		if n.Waiting > link.MaxWaitingBytes || refused < 3800 {
			t.Errorf("%d bytes wait, and %d of 4000 frames were refused", n.Waiting, refused)
		}
	})
}

// Row L7: a next hop's MAC changes at most once a second, and a change that was not
// taken in then is asked about.
func TestANextHopsMACChangesOnceASecond(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		time.Sleep(10 * time.Second)
		_, before := r.machine.devices["vnic-A"].configured()
		changes, last := 0, config.MAC{}
		for i := range 5000 {
			mac := config.MAC{0x02, 0, 0, 0, byte(i >> 8), byte(i)}
			refillARP(r)
			r.put("nic0", arp(true, mac, router, config.MAC{}, router))
			if now := r.plane.Status().Bridges["lan"].Gateways[0].MAC; now != last {
				changes, last = changes+1, now
			}
			time.Sleep(time.Millisecond)
		}
		if changes < 4 || changes > 6 {
			t.Errorf("the gateway's MAC changed %d times in 5 s", changes)
		}
		if _, after := r.machine.devices["vnic-A"].configured(); after-before > 8 {
			t.Errorf("the VNIC was configured %d times in 5 s", after-before)
		}
		r.got("nic0")
		time.Sleep(2 * time.Second)
		if !r.asksFor(router) {
			t.Error("the gateway is not asked which MAC it has")
		}
		r.put("nic0", arp(false, routerMAC, router, nicMAC, pseudo))
		if got := r.plane.Status().Bridges["lan"].Gateways[0].MAC; got != routerMAC {
			t.Errorf("after its answer the gateway has %s", got)
		}
	})
}
