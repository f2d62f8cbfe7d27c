package vnicbridge

import (
	"testing"
	"unsafe"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// What is in network order lies in memory with its first byte first, on machines of
// either byte order.
func TestNetworkOrder(t *testing.T) {
	short := packet.BE16(0x0806)
	if got, want := *(*[2]byte)(unsafe.Pointer(&short)), [2]byte{8, 6}; got != want {
		t.Errorf("0x0806 lies in memory as %v, want %v", got, want)
	}
	long := packet.BE32(packet.AddrOf(mustIP("192.168.1.2")))
	if got, want := *(*[4]byte)(unsafe.Pointer(&long)), [4]byte{192, 168, 1, 2}; got != want {
		t.Errorf("192.168.1.2 lies in memory as %v, want %v", got, want)
	}
}
