package vnicbridge

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/capture"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// A capture's programs, and the packet ring that stands in for them, see what the
// forwarder sends to a segment, with the direction and no more bytes than are kept.
func TestCaptureSources(t *testing.T) {
	m, dev := apartVNIC(t, bothOnA)
	if _, err := dev.Configure(host.VNICSettings{MTU: 1500}); err != nil {
		t.Fatal(err)
	}
	options := capture.SourceOptions{Filter: []bpf.Instruction{bpf.RetConstant{Val: capture.MinSnaplen}}, Snaplen: capture.MinSnaplen, Memory: capture.CaptureMemory}
	programs, err := m.capture(dev, options)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := programs.(capture.DeviceCapture); !ok {
		t.Errorf("programs are allowed, and the source is a %T", programs)
	}
	ns, err := host.CurrentNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	ring, err := capture.OpenPacketRing(capture.RingOptions{SourceOptions: options, NS: ns, Ifindex: dev.Index()})
	if err != nil {
		t.Fatal(err)
	}
	eth := fromRouter(routerOnA, 4000, 80).udp(string(make([]byte, 200)))
	for _, source := range []capture.FrameSource{programs, ring} {
		source.Grant(1 << 20)
	}
	if n := dev.Send([]packet.Frame{{Data: append(make([]byte, packet.VNetHeaderLen), eth...)}}); n != 1 {
		t.Fatal("the VNIC does not take the frame")
	}
	for _, source := range []capture.FrameSource{programs, ring} {
		found := 0
		for deadline := time.Now().Add(5 * time.Second); found == 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			source.Take(func(f *capture.CapturedFrame) bool {
				if f.Inbound && f.Length == len(eth) && bytes.Equal(f.Data, eth[:capture.MinSnaplen]) {
					found++
				}
				return true
			})
		}
		if found != 1 {
			t.Errorf("%T has the frame %d times, want once", source, found)
		}
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	}
}
