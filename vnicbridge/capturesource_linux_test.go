package vnicbridge

import (
	"bytes"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/net/bpf"
)

// A capture's programs, and the packet ring that stands in for them, see what the
// forwarder sends to a segment, with the direction and no more bytes than are kept.
func TestCaptureSources(t *testing.T) {
	runtime.LockOSThread() // until the thread ends with the test's goroutine
	if _, err := netns.New(); err != nil {
		t.Fatal(err)
	}
	m, err := newMachine()
	if err != nil {
		t.Fatal(err)
	}
	dev, err := m.makeVNIC(vnicSpec{segment: "a", iface: "vnic-A", address: netip.MustParsePrefix(serverA + "/24"), mac: vnicAMAC})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := dev.close(); err != nil {
			t.Error(err)
		}
		if err := m.close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := dev.configure(vnicSettings{mtu: 1500}); err != nil {
		t.Fatal(err)
	}
	options := sourceOptions{filter: []bpf.Instruction{bpf.RetConstant{Val: MinSnaplen}}, snaplen: MinSnaplen, memory: captureMemory}
	programs, err := m.capture(dev, options)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := programs.(deviceCapture); !ok {
		t.Errorf("programs are allowed, and the source is a %T", programs)
	}
	ns, err := currentNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.close()
	ring, err := openPacketRing(ringOptions{sourceOptions: options, ns: ns, ifindex: dev.index()})
	if err != nil {
		t.Fatal(err)
	}
	eth := fromRouter(routerOnA, 4000, 80).udp(string(make([]byte, 200)))
	for _, source := range []frameSource{programs, ring} {
		source.grant(1 << 20)
	}
	if n := dev.send([]frame{{data: append(make([]byte, vnetHeaderLen), eth...)}}); n != 1 {
		t.Fatal("the VNIC does not take the frame")
	}
	for _, source := range []frameSource{programs, ring} {
		found := 0
		for deadline := time.Now().Add(5 * time.Second); found == 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			source.take(func(f *capturedFrame) bool {
				if f.inbound && f.length == len(eth) && bytes.Equal(f.data, eth[:MinSnaplen]) {
					found++
				}
				return true
			})
		}
		if found != 1 {
			t.Errorf("%T has the frame %d times, want once", source, found)
		}
		if err := source.close(); err != nil {
			t.Error(err)
		}
	}
}
