package netlab

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// TestPing pings the server through the router, which counts the TTL down once
// each way, and an address that nobody has.
func TestPing(t *testing.T) {
	n := newTestNetwork(t, true)
	capture, err := n.router.Capture("wan")
	if err != nil {
		t.Fatal(err)
	}
	defer capture.Close()

	var seen []int
	ping, err := n.client.Ping(t.Context(), serverAddr, PingOptions{
		Count: 3, Interval: time.Millisecond, Size: 1000,
		OnReply: func(r PingReply) { seen = append(seen, r.Seq) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if ping.Sent != 3 || ping.Lost() != 0 || ping.Duplicates != 0 || len(seen) != 3 {
		t.Errorf("%+v, seen %v", ping, seen)
	}
	for _, r := range ping.Replies {
		if r.TTL != 63 || r.Bytes != 1008 || r.From != serverAddr || r.RTT <= 0 {
			t.Errorf("reply %+v", r)
		}
	}
	requests, replies := countEchoes(t, capture, func(e Echo) bool { return e.Outgoing == e.Request })
	if requests != 3 || replies != 3 {
		t.Errorf("%d requests and %d replies captured, want 3 and 3", requests, replies)
	}

	ping, err = n.client.Ping(t.Context(), netip.MustParseAddr("198.51.100.99"), PingOptions{Count: 2, Interval: time.Millisecond, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if ping.Lost() != 2 || ping.RTT() != (RTT{}) {
		t.Errorf("nobody answers, but %+v", ping)
	}
}

// TestOffloads looks at a download on the link: with offloads there are frames
// over the MTU, without them none, and every TCP checksum is right.
func TestOffloads(t *testing.T) {
	for name, on := range map[string]bool{"on": true, "off": false} {
		t.Run(name, func(t *testing.T) {
			n := newTestNetwork(t, on)
			capture, err := n.server.Capture("eth0")
			if err != nil {
				t.Fatal(err)
			}
			defer capture.Close()
			body := strings.Repeat("0123456789abcdef", 1<<14)
			serve(t, n.server, body)
			if get(t, n.client) != body {
				t.Error("the page came out wrong")
			}
			frames, err := capture.Frames()
			if err != nil {
				t.Fatal(err)
			}
			largest, unfinished := 0, 0
			for _, f := range frames {
				largest = max(largest, len(f.Data))
				if f.Outgoing && !tcpChecksumValid(f) {
					unfinished++
				}
			}
			if got := largest > 1514; got != on {
				t.Errorf("the largest frame has %d bytes", largest)
			}
			if got := unfinished > 0; got != on {
				t.Errorf("%d of %d frames without a valid TCP checksum", unfinished, len(frames))
			}
		})
	}
}

// tcpChecksumValid is also true for frames that are not TCP.
func tcpChecksumValid(f Frame) bool {
	p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.Default)
	ip, ok := p.NetworkLayer().(*layers.IPv4)
	if !ok || ip.Protocol != layers.IPProtocolTCP {
		return true
	}
	length := len(ip.Payload)
	pseudo := append([]byte{}, ip.SrcIP...)
	pseudo = append(pseudo, ip.DstIP...)
	pseudo = append(pseudo, 0, byte(ip.Protocol), byte(length>>8), byte(length))
	return checksumValid(append(pseudo, ip.Payload...))
}

// TestPingIPv6 pings an address of a link at once: nothing waits for duplicate address
// detection.
func TestPingIPv6(t *testing.T) {
	n, err := NewNetwork(fmt.Sprintf("labtest-ipv6-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	hosts := make([]*Host, 2)
	for i, name := range []string{"one", "two"} {
		if hosts[i], err = n.NewHost(name); err != nil {
			t.Fatal(err)
		}
	}
	one, two := netip.MustParsePrefix("2001:db8::1/64"), netip.MustParsePrefix("2001:db8::2/64")
	err = n.Link(End{Host: hosts[0], Device: "eth0", V6: []netip.Prefix{one, netip.MustParsePrefix("fe80::1/64")}},
		End{Host: hosts[1], Device: "eth0", V6: []netip.Prefix{two}})
	if err != nil {
		t.Fatal(err)
	}
	capture, err := hosts[1].Capture("eth0")
	if err != nil {
		t.Fatal(err)
	}
	defer capture.Close()
	for _, to := range []netip.Addr{two.Addr(), one.Addr()} { // over the link, and to itself
		ping, err := hosts[0].Ping(t.Context(), to, PingOptions{Count: 2, Interval: time.Millisecond, Size: 1000})
		if err != nil || ping.Lost() != 0 || ping.Duplicates != 0 {
			t.Fatalf("ping %s: %+v (%v)", to, ping, err)
		}
		for _, r := range ping.Replies {
			if r.TTL != 64 || r.Bytes != 1008 || r.From != to {
				t.Errorf("reply %+v", r)
			}
		}
	}
	requests, replies := countEchoes(t, capture, func(e Echo) bool {
		return e.Outgoing != e.Request && len(e.Payload) == 1000 && e.TTL == 64
	})
	if requests != 2 || replies != 2 {
		t.Errorf("%d requests and %d replies captured, want 2 and 2", requests, replies)
	}
}

// countEchoes counts the echoes in a capture. Each must have right checksums and be as wanted.
func countEchoes(t *testing.T, capture *Capture, wanted func(Echo) bool) (requests, replies int) {
	t.Helper()
	frames, err := capture.Frames()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		e, ok := ParseEcho(f)
		if !ok {
			continue
		}
		if !e.ChecksumsValid || !wanted(e) {
			t.Errorf("echo %+v", e)
		}
		if e.Request {
			requests++
		} else {
			replies++
		}
	}
	return requests, replies
}
