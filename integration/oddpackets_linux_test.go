package integration_test

import (
	"slices"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration"
)

// A neighbour floods the server with packets that take userspace's thought. As many as
// there may be come to it, the kernel drops the others, and every one is counted.
func TestOddPackets(t *testing.T) {
	const frames = 50000
	onEachInTurn(t, func(t *testing.T, datapath string) {
		s := newScene(t, integration.PaperOptions{Neighbours: 1})
		s.start(caddyfile{datapath: datapath})
		conn, mac, err := rawSocket(s.Neighbours[0], "eth0")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		odd := serialize(
			&layers.Ethernet{SrcMAC: mac, DstMAC: integration.NICMAC, EthernetType: layers.EthernetTypeIPv4},
			&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolGRE, SrcIP: []byte{192, 168, 1, 77}, DstIP: integration.PseudoAddr.AsSlice()},
		)
		s.sendFrames(conn, slices.Repeat([][]byte{odd}, frames)...)
		var drops map[string]uint64
		s.waitFor("all are counted", func() bool {
			drops = s.status().Bridges["lan"].Drops
			return drops["protocol"]+drops["overload"] >= frames
		})
		if drops["protocol"] == 0 || drops["overload"] == 0 {
			t.Errorf("of %d packets there was dropped: %v", frames, drops)
		}
		if got := s.get("http://192.168.1.2/"); got != "a" {
			t.Errorf("after the flood PC1 got %q", got)
		}
	})
}
