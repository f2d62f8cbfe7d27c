package integration_test

import (
	"slices"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// A neighbour sends packets that only userspace can handle. A burst of them reaches
// userspace whole. Of a flood the kernel drops those beyond the rate limit. Every packet is
// counted.
func TestOddPackets(t *testing.T) {
	const burst, flood = 2600, 50000
	onEachInTurn(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{Neighbours: 1})
		s.start(caddyfile{datapath: datapath})
		conn, mac, err := rawSocket(s.Neighbours[0], "eth0")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		odd := serialize(
			&layers.Ethernet{SrcMAC: mac, DstMAC: paper.NICMAC, EthernetType: layers.EthernetTypeIPv4},
			&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolGRE, SrcIP: []byte{192, 168, 1, 77}, DstIP: paper.PseudoAddr.AsSlice()},
		)
		drops := func(frames uint64) (drops map[string]uint64) {
			s.waitFor("all are counted", func() bool {
				drops = s.status().Bridges["lan"].Drops
				return drops["protocol"]+drops["overload"] >= frames
			})
			return drops
		}
		s.sendFrames(conn, slices.Repeat([][]byte{odd}, burst)...)
		if got := drops(burst); got["overload"] > 0 {
			t.Errorf("of a burst of %d packets there was dropped: %v", burst, got)
		}
		var got map[string]uint64
		sent := burst
		for range 5 { // a busy machine may take so long that it is no flood
			s.sendFrames(conn, slices.Repeat([][]byte{odd}, flood)...)
			sent += flood
			if got = drops(uint64(sent)); got["overload"] > 0 {
				break
			}
		}
		if got["protocol"] <= burst || got["overload"] == 0 {
			t.Errorf("of floods of %d packets, after the burst, there was dropped: %v", flood, got)
		}
		if got := s.get("http://192.168.1.2/"); got != "a" {
			t.Errorf("after the flood PC1 got %q", got)
		}
	})
}
