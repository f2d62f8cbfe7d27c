package paper

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// paperEcho builds the four frames as a right bridge would carry them, in the
// order of the way. edit may spoil one before it is serialized.
func paperEcho(t *testing.T, client, alias netip.Addr, edit func(i int, eth *layers.Ethernet, ip *layers.IPv4, icmp *layers.ICMPv4, payload []byte)) []netlab.Frame {
	t.Helper()
	var frames []netlab.Frame
	for i, figure := range familyIPv4.frameFigures(client, alias) {
		kind := uint8(layers.ICMPv4TypeEchoReply)
		if figure.request {
			kind = layers.ICMPv4TypeEchoRequest
		}
		eth := &layers.Ethernet{SrcMAC: figure.ethSrc, DstMAC: figure.ethDst, EthernetType: layers.EthernetTypeIPv4}
		ip := &layers.IPv4{Version: 4, TTL: figure.ttl, Id: 0x2c93, Protocol: layers.IPProtocolICMPv4, SrcIP: figure.src.AsSlice(), DstIP: figure.dst.AsSlice()}
		icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0), Id: 0x285f, Seq: 95}
		payload := make([]byte, 56)
		for k := range payload {
			payload[k] = byte(k)
		}
		if edit != nil {
			edit(i, eth, ip, icmp, payload)
		}
		buffer := gopacket.NewSerializeBuffer()
		options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
		if err := gopacket.SerializeLayers(buffer, options, eth, ip, icmp, gopacket.Payload(payload)); err != nil {
			t.Fatal(err)
		}
		frames = append(frames, netlab.Frame{Interface: figure.index, Time: time.Unix(1426550400, 0).Add(figure.at), Data: buffer.Bytes()})
	}
	return frames
}

// differing are the names of the checks that fail, behind their figures'.
func differing(sections []Section) (all []string) {
	for _, s := range sections {
		for _, c := range s.differing() {
			all = append(all, s.Figure+" "+c.What)
		}
	}
	return all
}

func TestFrameSections(t *testing.T) {
	four, err := findEcho(paperEcho(t, RouterAddr, segmentA.gateway, nil))
	if err != nil {
		t.Fatal(err)
	}
	sections := familyIPv4.frameSections(four, RouterAddr, segmentA.gateway)
	if got := differing(sections); got != nil {
		t.Errorf("the paper's own frames differ: %v", got)
	}
	alias := netip.MustParseAddr("192.168.50.77")
	if four, err = findEcho(paperEcho(t, PC1Addr, alias, nil)); err != nil {
		t.Fatal(err)
	}
	if got := familyIPv4.framesSection(four, PC1Addr, alias).differing(); got != nil {
		t.Errorf("PC1's frames differ: %v", got)
	}
	for _, wrong := range []netip.Addr{segmentA.gateway, segmentA.vnic, netip.MustParseAddr("192.168.60.7")} {
		if familyIPv4.framesSection(four, PC1Addr, wrong).Checks[0].Verdict != Differs {
			t.Errorf("%s passes for an alias of PC1", wrong)
		}
	}
}

// TestFrameSectionsDiffer spoils one field of one frame at a time, and expects
// exactly the checks on it to fail.
func TestFrameSectionsDiffer(t *testing.T) {
	other := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for name, test := range map[string]struct {
		frame int
		spoil func(eth *layers.Ethernet, ip *layers.IPv4, payload []byte)
		want  []string
	}{
		"VNIC's MAC outside": {3, func(eth *layers.Ethernet, _ *layers.IPv4, _ []byte) { eth.SrcMAC = vnicAMAC }, []string{"Fig-14 Ethernet source"}},
		"wrong MAC inside":   {1, func(eth *layers.Ethernet, _ *layers.IPv4, _ []byte) { eth.DstMAC = other }, []string{"Fig-13 Ethernet destination"}},
		"source kept":        {1, func(_ *layers.Ethernet, ip *layers.IPv4, _ []byte) { ip.SrcIP = RouterAddr.AsSlice() }, []string{"Fig-13 IP source"}},
		"destination kept":   {3, func(_ *layers.Ethernet, ip *layers.IPv4, _ []byte) { ip.DstIP = segmentA.gateway.AsSlice() }, []string{"Fig-14 IP destination"}},
		"TTL counted down":   {1, func(_ *layers.Ethernet, ip *layers.IPv4, _ []byte) { ip.TTL-- }, []string{"Fig-13 TTL"}},
		"IP id changed":      {3, func(_ *layers.Ethernet, ip *layers.IPv4, _ []byte) { ip.Id++ }, []string{"Fig-14 IP id"}},
		"payload changed":    {1, func(_ *layers.Ethernet, _ *layers.IPv4, payload []byte) { payload[40]++ }, []string{"Fig-13 ICMP payload"}},
	} {
		frames := paperEcho(t, RouterAddr, segmentA.gateway, func(i int, eth *layers.Ethernet, ip *layers.IPv4, _ *layers.ICMPv4, payload []byte) {
			if i == test.frame {
				test.spoil(eth, ip, payload)
			}
		})
		four, err := findEcho(frames)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := differing(familyIPv4.frameSections(four, RouterAddr, segmentA.gateway)); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v differ, want %v", name, got, test.want)
		}
	}
}

func TestFrameChecksums(t *testing.T) {
	for name, offset := range map[string]int{"IP": 24, "ICMP": 36} {
		frames := paperEcho(t, RouterAddr, segmentA.gateway, nil)
		frames[1].Data[offset]++
		four, err := findEcho(frames)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"Fig-13 checksums, IP and ICMP"}
		if got := differing(familyIPv4.frameSections(four, RouterAddr, segmentA.gateway)); !slices.Equal(got, want) {
			t.Errorf("wrong %s checksum: %v differ, want %v", name, got, want)
		}
	}
}

func TestFindEchoMissing(t *testing.T) {
	frames := paperEcho(t, RouterAddr, segmentA.gateway, nil)
	for i, figure := range familyIPv4.frameFigures(RouterAddr, segmentA.gateway) {
		rest := slices.Concat(frames[:i], frames[i+1:])
		if _, err := findEcho(rest); err == nil {
			t.Errorf("the frame of %s is missing, and nothing is said", figure.figure)
		}
	}
	if _, err := findEcho([]netlab.Frame{{Data: []byte{1, 2, 3}}, {}}); err == nil {
		t.Error("an echo in garbage")
	}
}
