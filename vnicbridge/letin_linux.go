package vnicbridge

import (
	"errors"
	"net/netip"
	"sync"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/mdlayher/socket"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// letIn is the filter of a NIC's packet socket: it lets in what there is for the
// forwarder to carry or to answer. Where BPF may be had, it is a program that besides
// leaves out what is beyond the bound on odd packets, as the NIC's program of the kernel
// data path does (bpf/bridge.c): a flood of fragments costs the kernel their drop, and
// the forwarder nothing. Else it is a classic filter, which has no such bound.
type letIn struct {
	classic classicFilter
	program *ebpf.Program
	state   *ebpf.Map

	mu   sync.Mutex // the plane asks while a NIC that is gone is closed
	told letInState // when it was last asked
}

// letInState is what the program keeps.
type letInState struct {
	Interval uint32 // of 2^24 ns
	Left     int32  // how many odd packets may come until the next one
	Packets  uint64 // that were left out beyond the bound
	Bytes    uint64
}

// oddPackets is how many packets that no program of the kernel data path can carry are
// let in for each interval of 2^24 ns, and oddIntervals for how many of these there may
// be at once: ODD_PACKETS and ODD_INTERVALS of bpf/bridge.c.
const (
	oddPackets   = 671
	oddIntervals = 4
)

func newLetIn(pseudo netip.Addr) *letIn {
	l := &letIn{classic: pseudoAddressFilter(pseudo)}
	if l.load() != nil {
		_ = l.close()
		l.program, l.state = nil, nil
	}
	return l
}

func (l *letIn) load() (err error) {
	l.state, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "let_in", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(letInState{})), MaxEntries: 1,
	})
	if err != nil {
		return err
	}
	instructions, err := fromClassic(l.classic, labelOurs, labelOut)
	if err != nil {
		return err
	}
	l.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "let_in", Type: ebpf.SocketFilter, Instructions: append(instructions, l.boundOdd()...), License: "GPL",
	})
	return err
}

func (l *letIn) attach(conn *socket.Conn) error {
	if l.program != nil {
		return conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_ATTACH_BPF, l.program.FD())
	}
	return l.classic.attach(conn)
}

// overload is what was left out beyond the bound since it was last asked.
func (l *letIn) overload() (packets, bytes uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var now letInState
	if l.state == nil || l.state.Lookup(uint32(0), &now) != nil {
		return 0, 0
	}
	packets, bytes = now.Packets-l.told.Packets, now.Bytes-l.told.Bytes
	l.told = now
	return packets, bytes
}

func (l *letIn) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.program.Close(), l.state.Close()) // also what was not made
}

// pseudoAddressFilter lets in ARP, and IPv4 to the pseudo address; nothing that
// is another host's or our own. What it leaves out is not ours to count.
func pseudoAddressFilter(pseudo netip.Addr) classicFilter {
	a := pseudo.As4()
	address := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	return classicFilter{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: unix.PACKET_MULTICAST, SkipTrue: 6},
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherARP, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherIPv4, SkipTrue: 3},
		bpf.LoadAbsolute{Off: ethHeaderLen + 16, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: address, SkipTrue: 1},
		bpf.RetConstant{Val: maxFrameLen},
		bpf.RetConstant{Val: 0},
	}
}

// What the program goes on to.
const (
	labelOurs = "ours" // by the classic part
	labelOut  = "out"
	labelIn   = "in"
)

// boundOdd is the part of the program that comes after the filter, which has seen that
// there is a whole IP header, or that it is ARP.
func (l *letIn) boundOdd() asm.Instructions {
	const (
		version, fragment, protocol, icmpType = ethHeaderLen, ethHeaderLen + 6, ethHeaderLen + 9, ethHeaderLen + ipv4MinLen

		interval = int16(unsafe.Offsetof(letInState{}.Interval))
		left     = int16(unsafe.Offsetof(letInState{}.Left))
		packets  = int16(unsafe.Offsetof(letInState{}.Packets))
		bytes    = int16(unsafe.Offsetof(letInState{}.Bytes))
	)
	frame, state, now, more := classicFrame, asm.R7, asm.R8, asm.R2
	return asm.Instructions{
		asm.LoadAbs(12, asm.Half).WithSymbol(labelOurs),
		asm.JNE.Imm(asm.R0, etherIPv4, labelIn),
		asm.LoadAbs(version, asm.Byte),
		asm.JNE.Imm(asm.R0, 0x45, "odd"),
		asm.LoadAbs(fragment, asm.Half),
		asm.JSet.Imm(asm.R0, ipMoreFragments|ipFragmentOffset, "odd"),
		asm.LoadAbs(protocol, asm.Byte),
		asm.JEq.Imm(asm.R0, int32(TCP), labelIn),
		asm.JEq.Imm(asm.R0, int32(UDP), labelIn),
		asm.JNE.Imm(asm.R0, int32(ICMP), "odd"),
		asm.JLE.Imm(classicLen, icmpType, "odd"),
		asm.LoadAbs(icmpType, asm.Byte),
		asm.JEq.Imm(asm.R0, icmpEchoReply, labelIn),
		asm.JEq.Imm(asm.R0, icmpEcho, labelIn),

		asm.LoadMapValue(state, l.state.FD(), 0).WithSymbol("odd"),
		asm.FnKtimeGetNs.Call(),
		asm.Mov.Reg(now, asm.R0),
		asm.RSh.Imm(now, 24),
		asm.LSh.Imm(now, 32),
		asm.RSh.Imm(now, 32),
		asm.LoadMem(asm.R1, state, interval, asm.Word),
		asm.JEq.Reg(asm.R1, now, "same"),
		asm.StoreMem(state, interval, now, asm.Word),
		asm.Mov.Reg(more, now),
		asm.Sub.Reg32(more, asm.R1), // the intervals since
		asm.JLE.Imm(more, oddIntervals, "few"),
		asm.Mov.Imm(more, oddIntervals),
		asm.Mul.Imm(more, oddPackets).WithSymbol("few"),
		asm.LoadMem(asm.R1, state, left, asm.Word),
		asm.Add.Reg32(more, asm.R1),
		asm.JSLE.Imm32(more, oddIntervals*oddPackets, "room"),
		asm.Mov.Imm(more, oddIntervals*oddPackets),
		asm.StoreMem(state, left, more, asm.Word).WithSymbol("room"),
		asm.LoadMem(asm.R1, state, left, asm.Word).WithSymbol("same"),
		asm.JSLE.Imm32(asm.R1, 0, "beyond"),
		asm.Mov.Imm(asm.R1, -1),
		asm.AddAtomic.Mem(state, asm.R1, asm.Word, left),
		asm.Ja.Label(labelIn),

		asm.Mov.Imm(asm.R1, 1).WithSymbol("beyond"),
		asm.AddAtomic.Mem(state, asm.R1, asm.DWord, packets),
		asm.LoadMem(asm.R1, frame, 0, asm.Word), // skb->len
		asm.AddAtomic.Mem(state, asm.R1, asm.DWord, bytes),

		asm.Mov.Imm(asm.R0, 0).WithSymbol(labelOut),
		asm.Return(),
		asm.Mov.Imm(asm.R0, maxFrameLen).WithSymbol(labelIn),
		asm.Return(),
	}
}
