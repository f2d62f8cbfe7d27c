package vnicbridge

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// The IPv6 addresses of dualConfig's bridge, and of hosts on its link.
const (
	dualPseudo   = "2001:db8:1::2"
	dualRouter   = "fe80::1"
	dualHost     = "2001:db8:1::77"
	dualStranger = "2001:db8:1::98"
	dualGroup    = "ff02::1:ff00:2" // the solicited-node group of the pseudo address
	allNodes     = "ff02::1"
)

// rawIPv6 builds a frame with an IPv6 packet to the NIC, or to the MAC of a group. Its
// checksum is nobody's business here.
func rawIPv6(src, dst string, next, hopLimit byte, payload ...byte) []byte {
	mac, to := nicMAC, netip.MustParseAddr(dst).As16()
	if to[0] == 0xff {
		mac = config.MAC{0x33, 0x33, to[12], to[13], to[14], to[15]}
	}
	from := netip.MustParseAddr(src).As16()
	ip := slices.Concat([]byte{0x60, 0, 0, 0, 0, 0, next, hopLimit}, from[:], to[:], payload)
	binary.BigEndian.PutUint16(ip[4:], uint16(len(payload)))
	return slices.Concat(mac[:], hostMAC[:], []byte{0x86, 0xdd}, ip)
}

// rawNDP builds a solicitation (135) or an advertisement (136).
func rawNDP(kind byte, src, dst, target string) []byte {
	about := netip.MustParseAddr(target).As16()
	return rawIPv6(src, dst, 58, 255, slices.Concat([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, about[:])...)
}

// rawQuery builds a general query of MLDv2, behind a router alert.
func rawQuery(dst string) []byte {
	return rawIPv6(dualRouter, dst, 0, 1, slices.Concat([]byte{58, 0, 5, 2, 0, 0, 1, 0, 130}, make([]byte, 27))...)
}

func rawAdvertisementOfRouter() []byte {
	return rawIPv6(dualRouter, allNodes, 58, 255, slices.Concat([]byte{134}, make([]byte, 15))...)
}

// Rows L2 and L7: messages of NDP and MLD have budgets by kind, as those of ARP have. A flood
// of solicitations keeps out neither the gateway's advertisements nor the others.
func TestNDPHasBudgets(t *testing.T) {
	for _, path := range testedPaths {
		t.Run(path, func(t *testing.T) {
			gate := nicGates[path](t)
			if gate.lets(rawNDP(135, dualStranger, "ff02::1:ff00:98", "2001:db8:1::1:98")) {
				t.Error("let in, though it is between others")
			}
			if _, others := gate.dropped(); others != 1 {
				t.Errorf("%d messages between others were counted, want 1", others)
			}
			gate.wantBudgets(t, []namedFrame{
				{"solicitations of us", rawNDP(135, dualStranger, dualGroup, dualPseudo)},
				{"advertisements to us", rawNDP(136, dualStranger, dualPseudo, dualStranger)},
				{"a host that we send to", rawNDP(135, dualHost, dualGroup, dualPseudo)},
				{"the gateway", rawNDP(136, dualRouter, allNodes, dualRouter)},
				{"link-local addresses", rawNDP(135, dualStranger, "ff02::1:ff00:5", "fe80::5")},
				{"queries", rawQuery(allNodes)},
				{"routers", rawAdvertisementOfRouter()},
				{"ARP", arp(true, hostMAC, "192.168.1.99", config.MAC{}, pseudo)},
			})
		})
	}
}

// fate is what becomes of a frame from a NIC.
type fate string

const (
	toHost    fate = "the host's alone"
	toBoth    fate = "the host's, and ours"
	ours      fate = "ours alone"
	ofOthers  fate = "the host's, and counted as that of others"
	notToUs   fate = "dropped: another host's MAC"
	fromGroup fate = "dropped: a group's MAC"
	tooMany   fate = "dropped: too many"
)

// ipv6Fates are frames with what becomes of them at the NIC of dualConfig.
func ipv6Fates() map[string]struct {
	frame []byte
	want  fate
} {
	type entry = struct {
		frame []byte
		want  fate
	}
	toMAC := func(mac config.MAC, frame []byte) []byte { return append(mac[:], frame[6:]...) }
	fragment := func(next byte, bits uint16) []byte {
		return append([]byte{next, 0, byte(bits >> 8), byte(bits), 1, 2, 3, 4}, filled('x', 16)...)
	}
	segment := []byte(filled(0, 40))
	tcp := rawIPv6(dualStranger, dualPseudo, 6, 64, segment...)
	solicitation := rawNDP(135, dualStranger, dualGroup, dualPseudo)
	forwarded := func(dst string) []byte {
		f := rawNDP(135, dualStranger, dst, dualPseudo)
		f[packet.EthHeaderLen+7] = 254
		return f
	}
	return map[string]entry{
		"TCP":                                {tcp, ours},
		"UDP":                                {rawIPv6(dualStranger, dualPseudo, 17, 64, segment...), ours},
		"an echo":                            {rawIPv6(dualStranger, dualPseudo, 58, 64, 128, 0, 0, 0, 0, 1, 0, 1), ours},
		"an error":                           {rawIPv6(dualStranger, dualPseudo, 58, 64, append([]byte{1, 4, 0, 0, 0, 0, 0, 0}, segment...)...), ours},
		"a first fragment":                   {rawIPv6(dualStranger, dualPseudo, 44, 64, fragment(17, 1)...), ours},
		"a later fragment":                   {rawIPv6(dualStranger, dualPseudo, 44, 64, fragment(17, 8)...), ours},
		"destination options":                {rawIPv6(dualStranger, dualPseudo, 60, 64, append([]byte{6, 0, 1, 4, 0, 0, 0, 0}, segment...)...), ours},
		"no next header":                     {rawIPv6(dualStranger, dualPseudo, 59, 64), ours},
		"TCP with a priority tag":            {withTags(tcp, packet.EtherVLAN<<16|5<<13), ours},
		"TCP of another VLAN":                {withTags(tcp, packet.EtherVLAN<<16|5), toHost},
		"TCP to another address":             {rawIPv6(dualStranger, dualHost, 6, 64, segment...), toHost},
		"TCP to a link-local address":        {rawIPv6(dualStranger, "fe80::5", 6, 64, segment...), toHost},
		"TCP to another MAC":                 {toMAC(hostMAC, tcp), notToUs},
		"TCP to the broadcast MAC":           {toMAC(config.BroadcastMAC, tcp), fromGroup},
		"an echo to all nodes":               {rawIPv6(dualStranger, allNodes, 58, 255, 128, 0, 0, 0, 0, 1, 0, 1), toHost},
		"mDNS":                               {rawIPv6(dualStranger, "ff02::fb", 17, 255, segment...), toHost},
		"a solicitation":                     {solicitation, toBoth},
		"a solicitation with a priority tag": {withTags(solicitation, packet.EtherVLAN<<16), toBoth},
		"a solicitation of another VLAN":     {withTags(solicitation, packet.EtherVLAN<<16|5), toHost},
		"a probe":                            {rawNDP(135, dualStranger, dualPseudo, dualPseudo), ours},
		"DAD":                                {rawNDP(135, "::", dualGroup, dualPseudo), toBoth},
		"a forwarded solicitation":           {forwarded(dualGroup), toHost},
		"a forwarded solicitation to us":     {forwarded(dualPseudo), ours},
		"a truncated solicitation":           {solicitation[:len(solicitation)-4], toBoth},
		"a solicitation of another address":  {rawNDP(135, dualStranger, dualGroup, "2001:db8:2::2"), ofOthers},
		"a solicitation by a known host":     {rawNDP(135, dualHost, dualGroup, "2001:db8:2::2"), ofOthers},
		"a solicitation of a link-local":     {rawNDP(135, dualStranger, "ff02::1:ff00:5", "fe80::5"), toBoth},
		"a probe of a link-local":            {rawNDP(135, dualStranger, "fe80::5", "fe80::5"), toBoth},
		"an answer":                          {rawNDP(136, dualStranger, dualPseudo, dualStranger), ours},
		"a rival":                            {rawNDP(136, dualPseudo, allNodes, dualPseudo), toBoth},
		"the gateway's advertisement":        {rawNDP(136, dualRouter, allNodes, dualRouter), toBoth},
		"a known host's advertisement":       {rawNDP(136, dualHost, allNodes, dualHost), toBoth},
		"a stranger's advertisement":         {rawNDP(136, dualStranger, allNodes, dualStranger), ofOthers},
		"a router advertisement":             {rawAdvertisementOfRouter(), toBoth},
		"a router solicitation":              {rawIPv6(dualStranger, "ff02::2", 58, 255, 133, 0, 0, 0, 0, 0, 0, 0), toHost},
		"a redirect":                         {rawIPv6(dualRouter, dualPseudo, 58, 255, []byte(filled(137, 40))...), ours},
		"a query":                            {rawQuery(allNodes), toBoth},
		"a query of our group":               {rawQuery(dualGroup), toBoth},
		"a query to routers":                 {rawQuery("ff02::2"), toHost},
		"a query without a router alert":     {rawIPv6(dualRouter, allNodes, 58, 1, []byte(filled(130, 28))...), toHost},
		"a report":                           {rawIPv6(dualStranger, "ff02::16", 0, 1, append([]byte{58, 0, 5, 2, 0, 0, 1, 0, 143}, filled(0, 27)...)...), toHost},
		"a header with nothing behind it":    {tcp[:packet.EthHeaderLen+40], ours},
	}
}

// Rows S1 and A9: of IPv6 that comes in at a NIC, packets for the pseudo address are ours
// alone, and the host gets NDP and MLD too. All three filters agree: the kernel path's
// program, the eBPF filter of the packet socket, and the classic one, which cannot tell the
// messages of others.
func TestWhatOfIPv6IsOurs(t *testing.T) {
	if len(testedPaths) < 2 {
		t.Fatal("only root can load BPF programs")
	}
	t.Run("kernel", func(t *testing.T) {
		kernel := newFateRig(t, dualConfig())
		for name, tt := range ipv6Fates() {
			if got := kernel.fateOf(tt.frame); got != tt.want {
				t.Errorf("%s: the program makes it %s, want %s", name, got, tt.want)
			}
		}
	})
	t.Run("userspace", func(t *testing.T) {
		socket := socketGate(t)
		for name, tt := range ipv6Fates() {
			if tt.want == notToUs || tt.want == fromGroup {
				continue // a socket's filter knows that from the kernel
			}
			if got, want := socket.lets(tt.frame), tt.want == toBoth || tt.want == ours; got != want {
				t.Errorf("%s: the filter lets it in: %v, want %v", name, got, want)
			}
			if got, want := classicLets(t, dualPseudos(), tt.frame), tt.want != toHost; got != want {
				t.Errorf("%s: the classic filter lets it in: %v, want %v", name, got, want)
			}
		}
	})
}

// A bridge without an IPv6 address leaves all IPv6 to the host, and one without an IPv4
// address all ARP and IPv4, whatever addresses these have.
func TestTheOtherFamilyIsTheHosts(t *testing.T) {
	t.Run("IPv4 alone", func(t *testing.T) {
		wantAllLeft(t, paperConfig(), host.PseudoAddresses{mustIP(pseudo)}, func() (frames []namedFrame) {
			for name, tt := range ipv6Fates() {
				frames = append(frames, namedFrame{name, tt.frame})
			}
			return frames
		}())
	})
	t.Run("IPv6 alone", func(t *testing.T) {
		cfg := dualConfig()
		lan := cfg.Bridges["lan"]
		lan.Addresses, lan.Gateways = lan.Addresses[1:], lan.Gateways[1:]
		toNobody := fromRouter(router, 4000, 80)
		toNobody.dst = "0.0.0.0"
		wantAllLeft(t, cfg, host.PseudoAddresses{config.IPv6: mustIP(dualPseudo)}, []namedFrame{
			{"ARP", arp(true, hostMAC, otherHost, config.MAC{}, pseudo)},
			{"a probe by ARP", arp(true, hostMAC, "0.0.0.0", config.MAC{}, pseudo)},
			{"IPv4", fromRouter(router, 4000, 80).tcp("S", "")},
			{"IPv4 to nobody", toNobody.tcp("S", "")},
			{"IPv4 to nobody, tagged", withTags(toNobody.tcp("S", ""), packet.EtherVLAN<<16)},
		})
	})
}

// wantAllLeft wants the NIC's program, and the filters of its packet socket, to leave frames
// to the host.
func wantAllLeft(t *testing.T, cfg *config.Config, pseudo host.PseudoAddresses, frames []namedFrame) {
	t.Run("kernel", func(t *testing.T) {
		kernel := newFateRig(t, cfg)
		for _, f := range frames {
			if got := kernel.fateOf(f.frame); got != toHost {
				t.Errorf("%s: the program makes it %s", f.name, got)
			}
		}
	})
	t.Run("userspace", func(t *testing.T) { wantAllKeptOut(t, pseudo, frames) })
}

func wantAllKeptOut(t *testing.T, pseudo host.PseudoAddresses, frames []namedFrame) {
	l := host.NewLetIn(pseudo)
	defer l.Close()
	for _, f := range frames {
		n, err := l.Program.Run(&ebpf.RunOptions{Data: append(make([]byte, packet.EthHeaderLen), f.frame...)})
		if err != nil || n != 0 {
			t.Errorf("%s: the filter lets it in (%v)", f.name, err)
		}
		if classicLets(t, pseudo, f.frame) {
			t.Errorf("%s: the classic filter lets it in", f.name)
		}
	}
}

// The filters agree about damaged frames, too: what one lets in or counts, the others let in
// or count.
func TestFiltersAgreeAboutDamagedIPv6(t *testing.T) {
	t.Run("kernel", func(t *testing.T) {
		kernel, socket := newFateRig(t, dualConfig()), socketGate(t)
		random := rand.New(rand.NewPCG(1, 2))
		var frames [][]byte
		for _, tt := range ipv6Fates() {
			if tt.want != notToUs && tt.want != fromGroup {
				frames = append(frames, tt.frame)
			}
		}
		for range 3000 {
			f := slices.Clone(frames[random.IntN(len(frames))])
			for range random.IntN(4) {
				f[12+random.IntN(len(f)-12)] ^= byte(1 << random.IntN(8))
			}
			f = f[:max(packet.EthHeaderLen+40, random.IntN(len(f)+1))]
			overload, others := socket.dropped()
			in := socket.lets(f)
			nowOverload, nowOthers := socket.dropped()
			in = in || overload != nowOverload || others != nowOthers
			if classic := classicLets(t, dualPseudos(), f); classic != in {
				t.Errorf("%x: the classic filter lets it in: %v, the program: %v", f, classic, in)
			}
			if got := kernel.fateOf(f); (got != toHost) != in {
				t.Errorf("%x: the kernel path makes it %s, the socket's filter lets it in: %v", f, got, in)
			}
		}
	})
}

// Row L2: IPv6 for the pseudo address that only userspace can carry, or only count, is bounded.
func TestOddIPv6IsBounded(t *testing.T) {
	tcp := rawIPv6(dualStranger, dualPseudo, 6, 64, []byte(filled(0x50, 40))...)
	malformed := rawIPv6(dualStranger, dualPseudo, 6, 64, []byte(filled(0, 40))...)
	tests := []struct {
		name    string
		frame   []byte
		bounded bool
		usual   bool // to userspace, which carries what the programs leave
	}{
		{"TCP", tcp, false, true}, {"malformed TCP", malformed, true, true},
		{"TCP with a tag in its bytes", withTags(tcp, packet.EtherVLAN<<16), true, true},
		{"no next header", rawIPv6(dualStranger, dualPseudo, 59, 64), true, false},
	}
	t.Run("userspace", func(t *testing.T) {
		for _, tt := range tests {
			gate, dropped := socketGate(t), 0
			for range 20_000 {
				if !gate.lets(tt.frame) {
					dropped++
				}
			}
			if tt.usual == (dropped > 0) {
				t.Errorf("%s: %d of 20000 were dropped, bounded: %v", tt.name, dropped, !tt.usual)
			}
		}
	})
	t.Run("kernel", func(t *testing.T) {
		r := newFateRig(t, dualConfig())
		p := r.plane.datapaths.kernelPath().(memoryPath).Plane
		for _, tt := range tests {
			dropped := 0
			for range 100 {
				p.Odd.Spent = usedUp
				if r.fateOf(tt.frame) == tooMany {
					dropped++
				}
			}
			if tt.bounded != (dropped == 100) || !tt.bounded && dropped > 0 {
				t.Errorf("%s: %d of 100 were dropped, bounded: %v", tt.name, dropped, tt.bounded)
			}
		}
	})
}

func dualPseudos() host.PseudoAddresses {
	return host.PseudoAddresses{mustIP(pseudo), mustIP(dualPseudo)}
}

// fateRig tells what the NIC's program of the kernel path makes of a frame.
type fateRig struct{ *rig }

func newFateRig(t *testing.T, cfg *config.Config) fateRig {
	t.Helper()
	r := newEmptyRig(t)
	if err := r.plane.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	if nic := r.plane.bridges["lan"].iface; nic.V6 != nil {
		r.plane.datapaths.kernelPath().SetNeighbour(nic.V6, mustAddr(dualHost), hostMAC)
	}
	return fateRig{r}
}

func (r fateRig) fateOf(frame []byte) fate {
	nic, k := r.machine.device("nic0"), r.plane.datapaths.kernelPath().(memoryPath)
	refillARP(r.rig)
	budgets, drops := k.messageBudgets(r.rig, nic), r.dropsOf(k)
	_, code, err := nic.program(asFrame(frame))
	if err != nil {
		r.t.Fatal(err)
	}
	now := r.dropsOf(k)
	switch {
	case code == tcShot && now[packet.DropOverload] == drops[packet.DropOverload]+1:
		return tooMany
	case code == tcRedirect && now == drops:
		return ours
	case code == tcShot && now[packet.DropNotForUs] == drops[packet.DropNotForUs]+1:
		return notToUs
	case code == tcShot && now[packet.DropGroup] == drops[packet.DropGroup]+1:
		return fromGroup
	case code == tcUnspec && now[packet.DropARP] == drops[packet.DropARP]+1:
		return ofOthers
	case code == tcUnspec && now == drops && !slices.Equal(k.messageBudgets(r.rig, nic), budgets):
		return toBoth
	case code == tcUnspec && now == drops:
		return toHost
	}
	return "something else"
}

func (r fateRig) dropsOf(k memoryPath) (sum [packet.DropReasonCount]uint64) {
	for _, p := range r.plane.bridges["lan"].iface.Each() {
		for reason, n := range k.Counters(p).Drops {
			sum[reason] += n
		}
	}
	return sum
}
