package integration_test

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// watch sees all that passes the server's devices, and all that a kernel takes for
// its own, by whatever way that came.
type watch struct {
	s          *separation
	capture    *netlab.Capture
	deliveries map[string]*deliveries // by place; "": of the host's namespace
}

// watchedDevices are the server's, with what is behind each.
var watchedDevices = []struct{ device, place string }{
	{"nic0", "the network"}, {"nic1", "the other network"}, {"other", "the host's third network"},
	{"vnic-A", "segment a"}, {"vnic-B", "segment b"}, {"vnic-F", "the front"},
}

// watch begins to watch. The caller closes it.
func (s *separation) watch() *watch {
	s.t.Helper()
	var devices []string
	for _, d := range watchedDevices {
		devices = append(devices, d.device)
	}
	capture, err := s.Server.Capture(devices...)
	if err != nil {
		s.t.Fatal(err)
	}
	w := &watch{s, capture, map[string]*deliveries{"": s.deliveries(s.Server)}}
	if s.apart() {
		for place, h := range map[string]*netlab.Host{"segment a": s.a, "segment b": s.b, "the front": s.front} {
			w.deliveries[place] = s.deliveries(h)
		}
	}
	return w
}

func (w *watch) close() {
	w.capture.Close()
	for _, d := range w.deliveries {
		d.close()
	}
}

// entry is how a probe gets to the server: by a device, which it comes in at or,
// from inside a segment, may go out of.
type entry struct {
	device string
	inside bool
}

// places names where something with a mark, or with other bytes, has been seen. What
// goes back to where it came from is an answer: an error that quotes it, say.
func (w *watch) places(from entry, mark, other []byte) (places []string) {
	w.s.t.Helper()
	has := func(data []byte) bool {
		return bytes.Contains(data, mark) || other != nil && bytes.Contains(data, other)
	}
	for _, f := range w.s.frames(w.capture) {
		d := watchedDevices[f.Interface]
		switch {
		case !has(f.Data), d.device == from.device && (from.inside || !f.Outgoing), w.leavesSegment(d.device, f):
		case d.device == from.device, f.Outgoing && isAnswer(f.Data):
			places = append(places, "answered")
		default:
			places = append(places, d.place)
		}
	}
	for namespace, d := range w.deliveries {
		for _, p := range d.all() {
			if !has(p) {
				continue
			}
			if place := delivered(namespace, p); !from.inside || place != placeOf(from.device) {
				places = append(places, place)
			}
		}
	}
	slices.Sort(places)
	return slices.Compact(places)
}

// through tells whether a probe that gets through has. From outside it is answered.
func (w *watch) through(p *probe, mark []byte) bool {
	places := w.places(p.entry, mark, nil)
	return len(places) > 0 && (p.entry.inside || slices.Contains(places, "answered"))
}

// leavesSegment tells whether a frame is on its way out of a segment: the bridge has
// yet to see it. A VNIC is the segment's own device, or its outer end if the segment
// is elsewhere.
func (w *watch) leavesSegment(device string, f netlab.Frame) bool {
	elsewhere := w.s.apart() || w.s.caddy == nil
	return strings.HasPrefix(device, "vnic-") && f.Outgoing != elsewhere
}

// isAnswer tells whether a frame is an ICMP message that quotes what it answers.
func isAnswer(frame []byte) bool {
	icmp, ok := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy).Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	return ok && icmp.TypeCode.Type() != layers.ICMPv4TypeEchoRequest
}

func placeOf(device string) string {
	for _, d := range watchedDevices {
		if d.device == device {
			return d.place
		}
	}
	return device
}

// delivered names who gets a packet in a namespace: in the host's, that depends on
// its address.
func delivered(namespace string, packet []byte) string {
	if namespace != "" {
		return namespace
	}
	switch netip.AddrFrom4([4]byte(packet[16:20])).String() {
	case "192.168.50.1":
		return "segment a"
	case "192.168.60.1":
		return "segment b"
	case "192.168.40.1":
		return "the front"
	}
	return "the host"
}

// deliveries are the packets that a host's kernel takes for its own.
type deliveries struct {
	sockets []int
	packets [][]byte // that were read, from the IP header on
}

func (s *separation) deliveries(h *netlab.Host) *deliveries {
	s.t.Helper()
	d := new(deliveries)
	err := h.Do(func() error {
		for _, protocol := range []int{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP} {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
			if err != nil {
				return err
			}
			d.sockets = append(d.sockets, fd)
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// all returns those that have come so far.
func (d *deliveries) all() [][]byte {
	buffer := make([]byte, 1<<16)
	for _, fd := range d.sockets {
		for {
			n, _, err := unix.Recvfrom(fd, buffer, 0)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				break // EAGAIN: that was all
			}
			d.packets = append(d.packets, slices.Clone(buffer[:n]))
		}
	}
	return d.packets
}

func (d *deliveries) close() {
	for _, fd := range d.sockets {
		unix.Close(fd)
	}
}
