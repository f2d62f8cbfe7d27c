package integration_test

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Other programs are on the NIC, by tcx and by clsact, before ours and behind it. They see
// the host's own packets, and stay when Caddy ends.
func TestOtherPrograms(t *testing.T) {
	onEachAttachment(t, func(t *testing.T, datapath, kernel string) {
		s := newScene(t, paper.NetworkOptions{})
		s.onKernel(kernel)
		s.ip(s.Server, "address add 192.168.1.3/24 dev nic0")
		s.ip(s.Server, "route add default via 192.168.1.1")
		s.listen(s.Server, "192.168.1.3:22", say("the host"))
		s.run(s.Server, "tc", "qdisc", "add", "dev", "nic0", "clsact")

		early, first, last := s.witness(), s.witness(), s.witness()
		early.attach(link.Head())
		first.addFilter(1)
		last.addFilter(60000)
		s.start(caddyfile{datapath: datapath})
		late := s.witness()
		late.attach(link.Tail())
		all := map[string]*witness{"tcx before": early, "tcx behind": late, "the first filter": first, "the last filter": last}

		visit := func() {
			t.Helper()
			if got, err := hear(s.PC1, "192.168.1.3:22", 5*time.Second); got != "the host" {
				t.Errorf("the host's own address gave PC1 %q (%v)", got, err)
			}
		}
		visit()
		if got := s.get("http://192.168.1.2/"); got != "a" {
			t.Errorf("PC1 got %q", got)
		}
		for name, w := range all {
			if w.saw("192.168.1.3") == 0 {
				t.Errorf("%s has not seen what is the host's", name)
			}
		}
		s.stop()
		for name, w := range all {
			seen := w.saw("192.168.1.3")
			visit()
			if w.saw("192.168.1.3") == seen {
				t.Errorf("%s sees nothing after our stop", name)
			}
		}
	})
}

// Row S4+: another program on the NIC ends with TC_ACT_OK, which keeps packets from the
// programs behind it. The bridge still gets all its packets, whether the other program was
// there before Caddy or comes before the bridge's program later. If the other program comes
// back at once, the bridge reports that and does not fight.
func TestAcceptingPrograms(t *testing.T) {
	onEachAttachment(t, func(t *testing.T, datapath, kernel string) {
		s := newScene(t, paper.NetworkOptions{})
		s.onKernel(kernel)
		s.run(s.Server, "tc", "qdisc", "add", "dev", "nic0", "clsact")
		put := func() (remove func()) { return s.accepts().attach(link.Head()) }
		if kernel == withoutTCX {
			put = func() func() { return s.accepts().addFilter(1) }
		}
		put()
		s.accepts().addFilter(1)
		s.start(caddyfile{datapath: datapath, a: "ports any", b: "ports any\nnetns " + s.ownNamespace("b"), policy: "steer b port tcp/9001\nlb_policy first a"})
		s.listen(s.Server, "192.168.50.1:9000", func(conn net.Conn) { io.Copy(conn, conn) })
		s.wantService()
		session := s.openSession("192.168.1.2:9000")
		session.want("behind nobody")

		from := len(s.caddy.Log(everything))
		put()
		if datapath == "kernel" {
			from = s.wantLogFrom(from, "the bridge's is put first again")
		}
		s.wantService()
		session.want("a program that came before")

		remove := put()
		if datapath == "kernel" {
			symptom := examples.SymptomOf(t, troubleshootingPage, "comes before the bridge's program")
			from = s.wantLogFrom(from, "comes before the bridge's program")
			wantAll(t, "the status", s.shell(symptom.Look[0]), []string{"Warning: device nic0: ", "comes before the bridge's program"})
		} else {
			session.want("a program that came back")
		}
		remove()
		if datapath == "kernel" {
			s.wantLogFrom(from, "no longer so: device nic0: ")
		}
		s.wantService()
		session.want("when it is gone")
	})
}

// Row S4+: if somebody takes the bridge's program off the NIC, the bridge puts it back.
func TestProgramTakenAway(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	s.onKernel(withoutTCX)
	s.start(caddyfile{datapath: "kernel"})
	s.run(s.Server, "tc", "filter", "delete", "dev", "nic0", "ingress")
	s.wantLog("the bridge's is put first again")
	s.wantFilters(1)
	s.wantService()
}

// accepts is a program that lets every packet go to the host, and to no other program.
func (s *scene) accepts() *witness {
	s.t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R0, 0), // TC_ACT_OK
		asm.Return(),
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { program.Close() })
	return &witness{s: s, program: program}
}

// witness is a program that counts the packets for each destination, and lets all
// go on.
type witness struct {
	s       *scene
	counts  *ebpf.Map
	program *ebpf.Program
}

func (s *scene) witness() *witness {
	s.t.Helper()
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: 64})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { counts.Close() })
	for _, address := range []string{"192.168.1.2", "192.168.1.3"} {
		if err := counts.Put(keyOf(address), uint64(0)); err != nil {
			s.t.Fatal(err)
		}
	}
	const destination = 30 // of an untagged IPv4 packet, in its frame
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadAbs(destination, asm.Word),
		asm.StoreMem(asm.RFP, -4, asm.R0, asm.Word),
		asm.LoadMapPtr(asm.R1, counts.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "on"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("on"), // TC_ACT_UNSPEC
		asm.Return(),
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { program.Close() })
	return &witness{s, counts, program}
}

// keyOf is an address as LoadAbs reads it.
func keyOf(address string) uint32 {
	a := netip.MustParseAddr(address).As4()
	return uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
}

// saw is how many packets for an address came by.
func (w *witness) saw(address string) (n uint64) {
	w.s.t.Helper()
	if err := w.counts.Lookup(keyOf(address), &n); err != nil {
		w.s.t.Fatal(err)
	}
	return n
}

// attach puts the witness on the NIC by tcx.
func (w *witness) attach(at link.Anchor) (remove func()) {
	w.s.t.Helper()
	var l link.Link
	err := w.s.Server.Do(func() (err error) {
		l, err = link.AttachTCX(link.TCXOptions{Interface: w.s.nicIndex(), Program: w.program, Attach: ebpf.AttachTCXIngress, Anchor: at})
		return err
	})
	if err != nil {
		w.s.t.Fatal(err)
	}
	w.s.t.Cleanup(func() { l.Close() })
	return func() { l.Close() }
}

// addFilter puts the witness on the NIC as a filter of clsact.
func (w *witness) addFilter(priority uint16) (remove func()) {
	w.s.t.Helper()
	info, err := w.program.Info()
	if err != nil {
		w.s.t.Fatal(err)
	}
	id, _ := info.ID()
	f := &netlink.BpfFilter{
		FilterAttrs:  netlink.FilterAttrs{LinkIndex: w.s.nicIndex(), Parent: netlink.HANDLE_MIN_INGRESS, Handle: uint32(id), Priority: priority, Protocol: unix.ETH_P_ALL},
		Fd:           w.program.FD(),
		Name:         "witness",
		DirectAction: true,
	}
	if err := w.s.Server.Netlink().FilterAdd(f); err != nil {
		w.s.t.Fatal(err)
	}
	return func() {
		if err := w.s.Server.Netlink().FilterDel(f); err != nil {
			w.s.t.Error(err)
		}
	}
}

func (s *scene) nicIndex() int {
	s.t.Helper()
	nic, err := s.Server.Netlink().LinkByName(paper.NICDevice)
	if err != nil {
		s.t.Fatal(err)
	}
	return nic.Attrs().Index
}
