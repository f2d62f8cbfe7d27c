package vnicbridge

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
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
	leads   *ebpf.Map // how many fragments may still follow a first one, by a hash of both

	mu   sync.Mutex // the plane asks while a NIC that is gone is closed
	told letInState // when it was last asked
}

// letInState is what the program keeps.
type letInState struct {
	Interval uint32 // of 2^24 ns
	Left     int32  // how many odd packets may come until the next one
	Strays   int32  // of these, fragments whose first one has not come
	_        uint32
	Packets  uint64 // that were left out beyond the bound
	Bytes    uint64
}

// oddPackets is how many packets that no program of the kernel data path can carry are
// let in for each interval of 2^24 ns, and oddIntervals for how many of these there may
// be at once: ODD_PACKETS and ODD_INTERVALS of bpf/bridge.c. So are followers, how many
// fragments may follow a first one, and leadBits, which make the size of leads.
const (
	oddPackets   = 671
	oddIntervals = 4
	followers    = 64
	leadBits     = 14
)

func newLetIn(pseudo netip.Addr) *letIn {
	l := &letIn{classic: pseudoAddressFilter(pseudo)}
	if l.load() != nil {
		_ = l.close()
		l.program, l.state, l.leads = nil, nil, nil
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
	l.leads, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "let_in_leads", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1 << leadBits,
	})
	if err != nil {
		return err
	}
	instructions, err := fromClassic(l.classic, labelOurs, labelOut)
	if err != nil {
		return err
	}
	l.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "let_in", Type: ebpf.SocketFilter, Instructions: slices.Concat(instructions, l.findOdd(), l.findStrays(), l.bound()), License: "GPL",
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
	return errors.Join(l.program.Close(), l.state.Close(), l.leads.Close()) // also what was not made
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
	labelOurs  = "ours" // by the classic part
	labelOut   = "out"
	labelIn    = "in"
	labelOdd   = "odd"
	labelBound = "bound"
)

const ipFragment = ethHeaderLen + 6 // where the flags and the offset of a fragment are

// isStray is the register that tells whether a packet is a fragment whose first one has
// not come. It takes the place of the frame's length, which is not needed any more.
const isStray = classicLen

// findOdd is the part of the program that comes after the filter, which has seen that
// there is a whole IP header, or that it is ARP: what programs of the kernel data path
// could carry goes in.
func (l *letIn) findOdd() asm.Instructions {
	const version, protocol, icmpType = ethHeaderLen, ethHeaderLen + 9, ethHeaderLen + ipv4MinLen
	return asm.Instructions{
		asm.LoadAbs(12, asm.Half).WithSymbol(labelOurs),
		asm.JNE.Imm(asm.R0, etherIPv4, labelIn),
		asm.LoadAbs(version, asm.Byte),
		asm.JNE.Imm(asm.R0, 0x45, labelOdd),
		asm.LoadAbs(ipFragment, asm.Half),
		asm.JSet.Imm(asm.R0, ipMoreFragments|ipFragmentOffset, labelOdd),
		asm.LoadAbs(protocol, asm.Byte),
		asm.JEq.Imm(asm.R0, int32(TCP), labelIn),
		asm.JEq.Imm(asm.R0, int32(UDP), labelIn),
		asm.JNE.Imm(asm.R0, int32(ICMP), labelOdd),
		asm.JLE.Imm(classicLen, icmpType, labelOdd),
		asm.LoadAbs(icmpType, asm.Byte),
		asm.JEq.Imm(asm.R0, icmpEchoReply, labelIn),
		asm.JEq.Imm(asm.R0, icmpEcho, labelIn),
	}
}

// findStrays is what is_stray of bpf/bridge.c does. Its hash is secret, since the number
// that it multiplies by is.
func (l *letIn) findStrays() asm.Instructions {
	const (
		id, source = ethHeaderLen + 4, ethHeaderLen + 12
		more       = asm.R1
	)
	left, bits, hash := asm.R0, asm.R8, asm.R7
	return asm.Instructions{
		asm.LoadAbs(ipFragment, asm.Half).WithSymbol(labelOdd),
		asm.Mov.Reg(bits, asm.R0),
		asm.Mov.Imm(isStray, 0),
		asm.JSet.Imm(bits, ipMoreFragments|ipFragmentOffset, "fragment"),
		asm.Ja.Label(labelBound),
		asm.LoadAbs(source, asm.Word).WithSymbol("fragment"),
		asm.Mov.Reg(hash, asm.R0),
		asm.LSh.Imm(hash, 16),
		asm.LoadAbs(id, asm.Half),
		asm.Or.Reg(hash, asm.R0),
		asm.LoadImm(asm.R1, int64(rand.Uint64()|1), asm.DWord),
		asm.Mul.Reg(hash, asm.R1),
		asm.RSh.Imm(hash, 64-leadBits),
		asm.StoreMem(asm.RFP, -4, hash, asm.Word),
		asm.LoadMapPtr(asm.R1, l.leads.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(left, 0, labelBound),
		asm.JSet.Imm(bits, ipFragmentOffset, "later"),
		asm.StoreImm(left, 0, followers, asm.Word),
		asm.Ja.Label(labelBound),
		asm.LoadMem(asm.R1, left, 0, asm.Word).WithSymbol("later"),
		asm.JSGT.Imm32(asm.R1, 0, "led"),
		asm.Mov.Imm(isStray, 1),
		asm.Ja.Label(labelBound),
		asm.JSet.Imm(bits, ipMoreFragments, "more").WithSymbol("led"),
		asm.StoreImm(left, 0, 0, asm.Word),
		asm.Ja.Label(labelBound),
		asm.Mov.Imm(more, -1).WithSymbol("more"),
		asm.AddAtomic.Mem(left, more, asm.Word, 0),
	}
}

// at gives instructions a label.
func at(label string, instructions asm.Instructions) asm.Instructions {
	instructions[0] = instructions[0].WithSymbol(label)
	return instructions
}

// bound leaves out what is beyond the bound on odd packets.
func (l *letIn) bound() asm.Instructions {
	const (
		interval = int16(unsafe.Offsetof(letInState{}.Interval))
		left     = int16(unsafe.Offsetof(letInState{}.Left))
		strays   = int16(unsafe.Offsetof(letInState{}.Strays))
		packets  = int16(unsafe.Offsetof(letInState{}.Packets))
		bytes    = int16(unsafe.Offsetof(letInState{}.Bytes))
	)
	frame, state, now, passed := classicFrame, asm.R7, asm.R8, asm.R2
	// refill gives a field its packets for the intervals that have passed.
	refill := func(field int16, packets int32) asm.Instructions {
		room := fmt.Sprint("room", field)
		return asm.Instructions{
			asm.Mov.Reg(asm.R3, passed),
			asm.Mul.Imm(asm.R3, packets),
			asm.LoadMem(asm.R1, state, field, asm.Word),
			asm.Add.Reg32(asm.R3, asm.R1),
			asm.JSLE.Imm32(asm.R3, oddIntervals*packets, room),
			asm.Mov.Imm(asm.R3, oddIntervals*packets),
			asm.StoreMem(state, field, asm.R3, asm.Word).WithSymbol(room),
		}
	}
	take := func(field int16) asm.Instructions {
		return asm.Instructions{
			asm.LoadMem(asm.R1, state, field, asm.Word),
			asm.JSLE.Imm32(asm.R1, 0, "beyond"),
			asm.Mov.Imm(asm.R1, -1),
			asm.AddAtomic.Mem(state, asm.R1, asm.Word, field),
		}
	}
	return slices.Concat(asm.Instructions{
		asm.LoadMapValue(state, l.state.FD(), 0).WithSymbol(labelBound),
		asm.FnKtimeGetNs.Call(),
		asm.Mov.Reg(now, asm.R0),
		asm.RSh.Imm(now, 24),
		asm.LSh.Imm(now, 32),
		asm.RSh.Imm(now, 32),
		asm.LoadMem(asm.R1, state, interval, asm.Word),
		asm.JEq.Reg(asm.R1, now, "same"),
		asm.StoreMem(state, interval, now, asm.Word),
		asm.Mov.Reg(passed, now),
		asm.Sub.Reg32(passed, asm.R1),
		asm.JLE.Imm(passed, oddIntervals, "few"),
		asm.Mov.Imm(passed, oddIntervals),
	}, at("few", refill(left, oddPackets)), refill(strays, oddPackets/2), asm.Instructions{
		asm.JEq.Imm(isStray, 0, "no stray").WithSymbol("same"),
	}, take(strays), at("no stray", take(left)), asm.Instructions{
		asm.Ja.Label(labelIn),

		asm.Mov.Imm(asm.R1, 1).WithSymbol("beyond"),
		asm.AddAtomic.Mem(state, asm.R1, asm.DWord, packets),
		asm.LoadMem(asm.R1, frame, 0, asm.Word), // skb->len
		asm.AddAtomic.Mem(state, asm.R1, asm.DWord, bytes),

		asm.Mov.Imm(asm.R0, 0).WithSymbol(labelOut),
		asm.Return(),
		asm.Mov.Imm(asm.R0, maxFrameLen).WithSymbol(labelIn),
		asm.Return(),
	})
}
