package integration_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row A1+: the router and a segment tag all that they send with VLAN id 0. ARP is answered,
// both directions work without the slow path, and frames leave the NIC without a tag.
func TestPriorityTaggedLink(t *testing.T) {
	t.Parallel()
	for _, protocol := range []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD} {
		for _, offload := range []string{"on", "off"} { // off: the tag is in the bytes on the wire
			t.Run(fmt.Sprintf("%04x, offload %s", protocol, offload), func(t *testing.T) {
				t.Parallel()
				onEachDataPath(t, func(t *testing.T, datapath string) { priorityTaggedLink(t, datapath, protocol, offload) })
			})
		}
	}
}

func priorityTaggedLink(t *testing.T, datapath string, protocol uint16, offload string) {
	s := newScene(t, paper.NetworkOptions{NAT: true})
	for _, feature := range []string{"tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"} {
		s.run(s.Router, "ethtool", "-K", paper.RouterWANDevice, feature, offload)
	}
	s.tagAll(s.Router, paper.RouterWANDevice, protocol, 3<<13)
	tagged := s.countTagged(s.Router, paper.RouterWANDevice)
	name := s.name + "-a"
	s.start(caddyfile{datapath: datapath, a: "ports any\nnetns " + name})
	a := s.enter(name)
	s.tagAll(a, "vnic-A", protocol, 5<<13)
	s.listen(a, "192.168.50.1:9000", func(conn net.Conn) { io.Copy(conn, conn) })
	s.wantService()

	slow := s.slowPackets()
	s.wantEchoed("192.168.1.2:9000", 4<<20)
	if more := s.slowPackets() - slow; more > 100 {
		t.Errorf("%d packets of a tagged transfer took the slow path", more)
	}
	if n := tagged(); n > 0 {
		t.Errorf("the NIC sent %d tagged frames", n)
	}
}

// tagAll lets a device of a host send all with a VLAN tag.
func (s *scene) tagAll(h *netlab.Host, device string, protocol, control uint16) {
	s.t.Helper()
	s.attach(h, device, ebpf.AttachTCXEgress, asm.Instructions{
		asm.Mov.Imm(asm.R2, int32(protocol>>8|protocol<<8)), // in network order
		asm.Mov.Imm(asm.R3, int32(control)),
		asm.FnSkbVlanPush.Call(),
		asm.Mov.Imm(asm.R0, -1), // TC_ACT_UNSPEC
		asm.Return(),
	})
}

// countTagged counts the frames with a tag that come in at a device of a host.
func (s *scene) countTagged(h *netlab.Host, device string) (count func() uint64) {
	s.t.Helper()
	const vlanPresent = 20 // offset in struct __sk_buff
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { counts.Close() })
	s.attach(h, device, ebpf.AttachTCXIngress, asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, vlanPresent, asm.Word),
		asm.JEq.Imm(asm.R2, 0, "out"),
		asm.LoadMapValue(asm.R1, counts.FD(), 0),
		asm.Mov.Imm(asm.R2, 1),
		asm.AddAtomic.Mem(asm.R1, asm.R2, asm.DWord, 0),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("out"), // TC_ACT_UNSPEC
		asm.Return(),
	})
	return func() (n uint64) {
		if err := counts.Lookup(uint32(0), &n); err != nil {
			s.t.Fatal(err)
		}
		return n
	}
}

// attach puts a program on a device of a host, by tcx, until the test ends.
func (s *scene) attach(h *netlab.Host, device string, where ebpf.AttachType, instructions asm.Instructions) {
	s.t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: instructions})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { program.Close() })
	err = h.Do(func() error {
		ifi, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		l, err := link.AttachTCX(link.TCXOptions{Interface: ifi.Index, Program: program, Attach: where})
		if err == nil {
			s.t.Cleanup(func() { l.Close() })
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// slowPackets is how many packets the programs have left to userspace.
func (s *scene) slowPackets() (n uint64) {
	s.t.Helper()
	links, err := s.Server.Netlink().LinkList()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, "vnic-slow") {
			n += l.Attrs().Statistics.TxPackets
		}
	}
	return n
}
