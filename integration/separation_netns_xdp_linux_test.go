package integration_test

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row S4: the administrator of a segment with a namespace of its own may filter by XDP there.
// No packet passes such a program by, although the kernel path otherwise saves packets the way
// through the pair's queue.
func TestSegmentXDP(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		name := s.ownNamespace("a")
		s.start(caddyfile{datapath: datapath, a: "netns " + name})
		s.wantService()
		const requests = 20
		throughOuterEnd := func() uint64 {
			before := s.sentBy("vnic-A")
			for range requests {
				s.get("http://192.168.1.2/")
			}
			return s.sentBy("vnic-A") - before
		}
		if n := throughOuterEnd(); datapath == "kernel" && n >= requests {
			t.Errorf("%d frames of %d requests left by the outer end", n, requests)
		}

		attached := s.drops(s.enter(name), "vnic-A")
		s.waitFor("the segment's program drops what comes in", func() bool { return !s.connects("192.168.1.2:80") })
		attached.Close()
		s.wantService()
		s.waitFor("frames take the short way again", func() bool {
			return datapath != "kernel" || throughOuterEnd() < requests
		})
	})
}

// sentBy is how many frames have left by a device of the server.
func (s *scene) sentBy(device string) uint64 {
	s.t.Helper()
	link, err := s.Server.Netlink().LinkByName(device)
	if err != nil {
		s.t.Fatal(err)
	}
	return link.Attrs().Statistics.TxPackets
}

// drops puts an XDP program on a device of a host. It drops every frame.
func (s *scene) drops(h *netlab.Host, device string) link.Link {
	s.t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R0, 1), // XDP_DROP
		asm.Return(),
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { program.Close() })
	on, err := h.Netlink().LinkByName(device)
	if err != nil {
		s.t.Fatal(err)
	}
	var attached link.Link
	err = h.Do(func() error {
		attached, err = link.AttachXDP(link.XDPOptions{Program: program, Interface: on.Attrs().Index, Flags: unix.XDP_FLAGS_DRV_MODE})
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { attached.Close() })
	return attached
}
