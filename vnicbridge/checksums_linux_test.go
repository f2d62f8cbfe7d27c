package vnicbridge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Beside row F3: where one's complement has two zeros: a checksum that becomes zero, is
// zero, or is all ones, and its neighbours, come out of both data paths as the same
// bytes.
func TestZeroChecksumsAreAlike(t *testing.T) {
	w := newTwins(t, twinConfig())
	w.begin(t, twinConfig())
	in, out := fromRouter(farHost, 4000, 53), fromA("192.168.50.3", 53, 4000)
	mapped := ends{vnicBMAC, routerMAC, serverB, router, 5353, 53}
	w.put("vnic-A", fromA(routerOnA, 5353, 53).udp("takes the port of the next"))
	w.put("nic0", in.udp("opens"))
	out.dst = decode(w.last["vnic-A"]).src
	w.put("nic0", in.tcp("S", ""))
	for _, tc := range []struct {
		name     string
		from, to string
		frame    []byte
		checksum int // of the transport, in its header
	}{
		{"UDP in", "nic0", "vnic-A", in.udp("odd"), 6},
		{"UDP out", "vnic-A", "nic0", out.udp("even"), 6},
		{"TCP in", "nic0", "vnic-A", in.tcp("A", "odd"), 16},
		{"TCP out", "vnic-A", "nic0", out.tcp("A", ""), 16},
		{"UDP by another port", "vnic-B", "nic0", mapped.udp("x"), 6},
	} {
		for _, field := range []int{packet.EthHeaderLen + 10, packet.EthHeaderLen + packet.IPv4MinLen + tc.checksum} {
			t.Run(fmt.Sprint(tc.name, " at ", field), func(t *testing.T) {
				w.rigs[0].t, w.rigs[1].t = t, t
				sent := func(value uint16) uint16 {
					frame := bytes.Clone(tc.frame)
					binary.BigEndian.PutUint16(frame[field:], value)
					clear(w.last)
					w.put(tc.from, frame)
					if w.last[tc.to] == nil {
						t.Fatalf("nothing was sent by %s", tc.to)
					}
					return binary.BigEndian.Uint16(w.last[tc.to][field:])
				}
				const some = 0x1234
				zero := packet.Fold(uint32(some) + uint32(^sent(some))) // becomes zero
				zeros := 0
				for i := range uint16(7) {
					for _, value := range []uint16{zero + i - 3, i - 3} {
						if got := sent(value); got == 0 || got == 0xffff {
							zeros++
						}
					}
				}
				if zeros == 0 {
					t.Error("no checksum became zero")
				}
			})
		}
	}
}
