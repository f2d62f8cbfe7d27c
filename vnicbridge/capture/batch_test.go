package capture

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/pcapfilter"
)

// frameIPv6 is a frame with an IPv6 header and what follows it.
func frameIPv6(src, dst string, next byte, content ...byte) []byte {
	f := make([]byte, packet.EthHeaderLen+40, 200)
	binary.BigEndian.PutUint16(f[12:], packet.EtherIPv6)
	ip := f[packet.EthHeaderLen:]
	ip[0], ip[6], ip[7] = 6<<4, next, 64
	binary.BigEndian.PutUint16(ip[4:], uint16(len(content)))
	a, b := netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16()
	copy(ip[8:], a[:])
	copy(ip[24:], b[:])
	return append(f, content...)
}

// solicitation is a message of NDP about an address.
func solicitation(kind byte, target string) []byte {
	a := netip.MustParseAddr(target).As16()
	return append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, a[:]...)
}

// A frame without a flow is from, to or about a client of either family.
func TestNames(t *testing.T) {
	const client, other = "2001:db8:10::2", "2001:db8:1::2"
	for name, tt := range map[string]struct {
		data []byte
		want bool
	}{
		"from it":               {frameIPv6(client, other, 17), true},
		"to it":                 {frameIPv6(other, client, 17), true},
		"of others":             {frameIPv6(other, "2001:db8:11::2", 17), false},
		"about it":              {frameIPv6(other, "ff02::1:ff00:2", 58, solicitation(135, client)...), true},
		"an answer about it":    {frameIPv6(other, "ff02::1", 58, solicitation(136, client)...), true},
		"data like its address": {frameIPv6(other, "ff02::1", 58, solicitation(128, client)...), false},
		"a datagram like NDP":   {frameIPv6(other, "ff02::1", 17, solicitation(135, client)...), false},
		"cut":                   {frameIPv6(other, client, 17)[:40], false},
		"IPv4":                  {append([]byte{12: 8, 13: 0}, make([]byte, 40)...), false},
	} {
		c := &Capture{opts: Options{Client: netip.MustParsePrefix("2001:db8:10::/64")}}
		if got := c.names(&CapturedFrame{Data: tt.data}); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// listSource is a source whose frames passed at given times.
type listSource struct {
	FrameSource
	times []time.Time
}

func (s *listSource) Take(visit func(*CapturedFrame) bool) {
	for _, at := range s.times {
		visit(&CapturedFrame{time: at.UnixNano()})
	}
}

func (*listSource) Grant(int) {}

// A capture begins at the same time at all devices, although it opens them one after the other. Frames of
// a clock that has been set belong to it.
func TestDevicesBeginTogether(t *testing.T) {
	began := time.Now().Add(-time.Second)
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	c := &Capture{budget: NewBudget(), opened: at(-20), began: began, points: []*capturePoint{
		{source: &listSource{times: []time.Time{at(-10), at(-1), at(1), at(4)}}},
		{source: &listSource{times: []time.Time{at(2), at(3), at(-3_600_000)}}},
	}}
	c.take()
	var got []int64
	for _, f := range c.batch.frames {
		got = append(got, (f.time-began.UnixNano())/1e6)
	}
	if want := []int64{-3_600_000, 1, 2, 3, 4}; !slices.Equal(got, want) {
		t.Errorf("frames of %v ms after the beginning are taken, want %v", got, want)
	}
}

// On a NIC the filter takes what is for, from and about the pseudo addresses, of either
// family or of both, and nothing else.
func TestFilterOfNIC(t *testing.T) {
	const v4, v6 = "192.168.1.2", "2001:db8:1::2"
	arp := append([]byte{12: 8, 13: 6, 20: 0, 21: 1}, make([]byte, 24)...)
	copy(arp[packet.EthHeaderLen+24:], netip.MustParseAddr(v4).AsSlice())
	for _, tt := range []struct {
		addresses []string
		filter    string
		data      []byte
		want      bool
	}{
		{[]string{v4, v6}, "", arp, true},
		{[]string{v6}, "", arp, false},
		{[]string{v4, v6}, "", frameIPv6("2001:db8:10::2", v6, 6, make([]byte, 20)...), true},
		{[]string{v4, v6}, "", frameIPv6(v6, "2001:db8:10::2", 6, make([]byte, 20)...), true},
		{[]string{v4, v6}, "udp", frameIPv6(v6, "2001:db8:10::2", 6, make([]byte, 20)...), false},
		{[]string{v6}, "tcp", frameIPv6(v6, "2001:db8:10::2", 6, make([]byte, 20)...), true},
		{[]string{v4, v6}, "", frameIPv6("2001:db8:1::3", "2001:db8:10::2", 6, make([]byte, 20)...), false},
		{[]string{v4, v6}, "", frameIPv6("fe80::1", "ff02::1:ff00:2", 58, solicitation(135, v6)...), true},
		{[]string{v6}, "", frameIPv6("fe80::1", "ff02::1", 58, solicitation(136, v6)...), true},
		{[]string{v4, v6}, "", frameIPv6("fe80::1", "ff02::1:ff00:2", 58, solicitation(135, "2001:db8:2::2")...), false},
		{[]string{v4, v6}, "", frameIPv6("fe80::1", "ff02::1", 58, solicitation(134, v6)...), false},
		{[]string{v4}, "", frameIPv6("fe80::1", "ff02::1:ff00:2", 58, solicitation(135, v6)...), false},
	} {
		opts := Options{Filter: tt.filter}
		program, err := pcapfilter.Compile(opts.on(nicWith(tt.addresses)), 100)
		if err != nil {
			t.Fatal(err)
		}
		vm, err := bpf.NewVM(program)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := vm.Run(tt.data); err != nil || (n > 0) != tt.want {
			t.Errorf("%v %q: %x gives %d (%v), want %v", tt.addresses, tt.filter, tt.data, n, err, tt.want)
		}
	}
}

// nicWith is the iface of a NIC with pseudo addresses.
func nicWith(addresses []string) *iface.Iface {
	nic := iface.New(1, "nic0")
	nic.NIC = &iface.NICSide{Address: packet.NoAddr}
	for _, text := range addresses {
		a := netip.MustParseAddr(text)
		if side := (&iface.NICSide{Address: packet.AddrOf(a)}); a.Is4() {
			nic.NIC = side
		} else {
			nic.V6 = iface.New(2, "nic0")
			nic.V6.NIC = side
		}
	}
	return nic
}
