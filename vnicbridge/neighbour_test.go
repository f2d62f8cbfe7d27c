package vnicbridge

import (
	"net/netip"
	"testing"
	"time"
)

// largeLink is the paper's system on a link with more hosts than neighbours that are
// remembered because they asked.
func largeLink() *Config {
	cfg := paperConfig()
	cfg.Bridges["lan"].Addresses = prefixes(pseudo + "/19")
	return cfg
}

// onLink is the i-th host of the large link, of 7,000, and its MAC.
func onLink(i int) (host string, mac MAC) {
	return netip.AddrFrom4([4]byte{192, 168, byte(2 + i>>8), byte(i)}).String(), MAC{0x02, 0, 0, 1, byte(i >> 8), byte(i)}
}

// connects lets a host on the link ask for the pseudo address and open a connection,
// and tells whether the server's answer reaches it.
func (r *rig) connects(host string, mac MAC, port uint16) bool {
	r.t.Helper()
	r.put("nic0", arp(true, mac, host, MAC{}, pseudo))
	r.got("nic0")
	return r.continues(host, mac, port, "S", "SA")
}

// continues lets a host send a segment and the server answer it, and tells whether the
// answer reaches the host.
func (r *rig) continues(host string, mac MAC, port uint16, question, answer string) bool {
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
		if m, err := parseARP(&f); err == nil && m.request && f.dstMAC() == broadcastMAC {
			broadcasts++
		}
	}
	return broadcasts
}

// sizeOf is how many entries a part of the table has.
func sizeOf(n *neighbours, p neighbourPart) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.table.sizes[p]
}

// Row A7+: hosts that only asked for us take a part of the table, where the newest are
// remembered. No flood of them keeps a new host out, or a known one.
func TestHostsThatOnlyAskMakeRoom(t *testing.T) {
	onEachDataPath(t, largeLink(), func(t *testing.T, r *rig) {
		if !r.connects(otherHost, hostMAC, 4000) {
			t.Fatal("a host on the link gets no answer")
		}
		n := r.plane.bridges["lan"].link.neighbours
		for i := range 7000 {
			host, mac := onLink(i)
			r.put("nic0", arp(true, mac, host, MAC{}, pseudo))
		}
		r.got("nic0")
		if heard := sizeOf(n, partHeard); heard > neighbourBounds[partHeard] || heard < neighbourBounds[partHeard]/2 {
			t.Errorf("%d hosts that only asked are remembered, want nearly %d", heard, neighbourBounds[partHeard])
		}
		refillARP(r)
		if !r.connects("192.168.31.200", MAC{0x02, 9, 9, 9, 9, 9}, 4000) {
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
		n := r.plane.bridges["lan"].link.neighbours
		n.mu.Lock()
		n.table.bounds[partUsed] = 64
		n.mu.Unlock()
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
		time.Sleep(2 * surveyInterval)
		for i := 63; i < 68; i++ {
			if host, mac := onLink(i); !r.connects(host, mac, 4000) {
				t.Errorf("host %d, which is new, gets no answer", i)
			}
		}
		for i := range 68 {
			host, _ := onLink(i)
			_, known := n.lookup(mustIP(host))
			if i >= 10 && !known {
				t.Errorf("host %d was forgotten before those that were idle for longer", i)
			}
		}
		if size := sizeOf(n, partUsed); size > 64 {
			t.Errorf("%d hosts are remembered, want 64 at most", size)
		}
		if _, known := n.lookup(mustIP(router)); !known {
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
	cfg.Segments["b"].Egress = EgressAny
	cfg.MaxFlows = 1 << 14
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		const forged = 6000
		for i := range forged {
			host, _ := onLink(i)
			r.put("nic0", ends{hostMAC, nicMAC, host, pseudo, 4000, 80}.tcp("S", ""))
			d := decode(r.one("vnic-A"))
			r.put("vnic-A", fromA(d.src, 80, d.sport).tcp("SA", ""))
		}
		if n := r.asked(); n < broadcastBurst || n > broadcastBurst+1 {
			t.Errorf("%d broadcasts for %d forged hosts at once, want %d", n, forged, broadcastBurst)
		}
		n := r.plane.bridges["lan"].link.neighbours
		if size := sizeOf(n, partResolving); size > neighbourBounds[partResolving] {
			t.Errorf("%d hosts are asked for at once, want %d at most", size, neighbourBounds[partResolving])
		}
		if !r.connects("192.168.31.200", MAC{0x02, 9, 9, 9, 9, 9}, 4000) {
			t.Error("a host on the link gets no answer during the flood")
		}
		r.put("vnic-B", ends{vnicBMAC, routerMAC, serverB, "192.168.31.201", 5000, 53}.udp("question"))
		if !r.asksFor("192.168.31.201") {
			t.Error("a host that a segment turns to is not asked for during the flood")
		}
		r.got("nic0")
		time.Sleep(2 * time.Second)
		if n := r.asked(); n < broadcastRate || n > 3*broadcastRate {
			t.Errorf("%d broadcasts in the next 2 s, want %d a second", n, broadcastRate)
		}
		time.Sleep(10 * time.Second)
		if size := sizeOf(n, partResolving); size != 0 {
			t.Errorf("%d hosts are asked for still, 10 s later", size)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.waiting != 0 {
			t.Errorf("%d bytes wait still", n.waiting)
		}
	})
}

// Row L7: the frames that wait for hosts take bounded memory.
func TestWaitingFramesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNeighbours(netip.MustParsePrefix("10.0.0.0/8"))
		n.ask, n.gaveUp, n.publish = func(addr, MAC) {}, func(int) {}, func(addr, MAC, bool) {}
		large := frame{data: make([]byte, 64<<10)}
		refused := 0
		for i := range 4000 {
			if _, verdict := n.forward(&large, addrFrom4([]byte{10, 0, byte(i >> 8), byte(i)}), false, 1); verdict == dropUnresolved {
				refused++
			}
		}
		if n.waiting > maxWaitingBytes || refused < 3800 {
			t.Errorf("%d bytes wait, and %d of 4000 frames were refused", n.waiting, refused)
		}
	})
}

// Row L7: a next hop's MAC changes at most once a second, and a change that was not
// taken in then is asked about.
func TestANextHopsMACChangesOnceASecond(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		time.Sleep(10 * time.Second)
		_, before := r.machine.devices["vnic-A"].configured()
		changes, last := 0, MAC{}
		for i := range 5000 {
			mac := MAC{0x02, 0, 0, 0, byte(i >> 8), byte(i)}
			refillARP(r)
			r.put("nic0", arp(true, mac, router, MAC{}, router))
			if now := r.plane.Status().Bridges["lan"].GatewayMAC; now != last {
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
		if got := r.plane.Status().Bridges["lan"].GatewayMAC; got != routerMAC {
			t.Errorf("after its answer the gateway has %s", got)
		}
	})
}
