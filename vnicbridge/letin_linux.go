package vnicbridge

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/gopacket/layers"
	"github.com/mdlayher/socket"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// letIn is the filter of a NIC's packet socket: it lets in the frames that the
// forwarder carries or answers. If eBPF is available, it is an eBPF filter that also
// rate-limits packets that only userspace can handle and ARP, as the NIC's program of
// the kernel data path does (bpf/bridge.c): a flood of them costs the kernel their drop,
// and the forwarder nothing. Else it is a classic filter, which has no such bound.
type letIn struct {
	classic classicFilter
	program *ebpf.Program
	state   *ebpf.Map
	hosts   *ebpf.Map // what hosts on the link are: arpNeighbour or arpGateway, by their addresses

	mu   sync.Mutex // the plane asks while a NIC that is gone is closed
	told letInState // when it was last asked
}

// letInState is what the program keeps.
type letInState struct {
	Odd       budget
	ARP       [arpKinds]budget
	Overload  letInTally // beyond the budgets
	OthersARP letInTally // neither about the pseudo address nor from a host that we send to
}

// budget is struct budget of bpf/types.h.
type budget struct {
	Interval uint32 // of 2^24 ns
	Left     int32
}

type letInTally struct{ Packets, Bytes uint64 }

func (t letInTally) since(before letInTally) tally {
	return tally{t.Packets - before.Packets, t.Bytes - before.Bytes}
}

// How many packets of a kind are let in for each interval of 2^24 ns, and for how many
// intervals at once: ODD_PACKETS and so on of bpf/bridge.c.
const (
	oddPackets   = 671
	oddIntervals = 4
	arpPackets   = 68
	arpIntervals = 60
)

func newLetIn(pseudo netip.Addr) *letIn {
	l := &letIn{classic: pseudoAddressFilter(pseudo)}
	if l.load(pseudo) != nil {
		_ = l.close()
		l.program, l.state, l.hosts = nil, nil, nil
	}
	return l
}

func (l *letIn) load(pseudo netip.Addr) (err error) {
	l.state, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "let_in", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(letInState{})), MaxEntries: 1,
	})
	if err != nil {
		return err
	}
	l.hosts, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "let_in_hosts", Type: ebpf.Hash, KeySize: 4, ValueSize: 4, Flags: unix.BPF_F_NO_PREALLOC,
		MaxEntries: uint32(neighbourBounds[partUsed]) + 1, // and the gateway
	})
	if err != nil {
		return err
	}
	instructions, err := fromClassic(l.classic, labelOurs, labelOut)
	if err != nil {
		return err
	}
	l.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "let_in", Type: ebpf.SocketFilter, Instructions: append(instructions, l.bound(pseudo)...), License: "GPL",
	})
	return err
}

func (l *letIn) attach(conn *socket.Conn) error {
	if l.program != nil {
		return conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_ATTACH_BPF, l.program.FD())
	}
	return l.classic.attach(conn)
}

// leftOut is what was left out since it was last asked. ARP that is nobody's business
// here counts like the ARP that the forwarder drops.
func (l *letIn) leftOut() map[dropReason]tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	var now letInState
	if l.state == nil || l.state.Lookup(uint32(0), &now) != nil {
		return nil
	}
	before := l.told
	l.told = now
	return map[dropReason]tally{
		dropOverload: now.Overload.since(before.Overload), dropARP: now.OthersARP.since(before.OthersARP),
	}
}

// know tells the program what a host on the link is. A host for which there is no room
// loses its own share of ARP only.
func (l *letIn) know(host addr, kind arpKind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := binary.BigEndian.Uint32(host.v4())
	switch {
	case l.hosts == nil:
	case kind == arpAnybody:
		_ = l.hosts.Delete(key)
	default:
		_ = l.hosts.Put(key, kind)
	}
}

func (l *letIn) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.program.Close(), l.state.Close(), l.hosts.Close()) // also what was not made
}

// pseudoAddressFilter lets in ARP, and IPv4 to the pseudo address, with a priority tag
// too; nothing that is another host's or our own. What it leaves out is not ours to
// count.
func pseudoAddressFilter(pseudo netip.Addr) classicFilter {
	address := binary.BigEndian.Uint32(pseudo.AsSlice())
	const tagged = ethHeaderLen + vlanTagLen
	return classicFilter{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: unix.PACKET_MULTICAST, SkipTrue: 15},
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherARP, SkipTrue: 12},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherIPv4, SkipTrue: 9},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherVLAN, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherQinQ, SkipTrue: 10},
		bpf.LoadAbsolute{Off: 14, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: vlanID, SkipTrue: 8},
		bpf.LoadAbsolute{Off: tagged - 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherARP, SkipTrue: 5},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherIPv4, SkipTrue: 5},
		bpf.LoadAbsolute{Off: tagged + 16, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: address, SkipTrue: 2, SkipFalse: 3},
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

// Offsets in a frame that bound looks at.
const (
	ipVersionAt  = ethHeaderLen
	ipFragmentAt = ethHeaderLen + 6
	ipProtocolAt = ethHeaderLen + 9
	icmpTypeAt   = ethHeaderLen + ipv4MinLen

	arpOperationAt = ethHeaderLen + 6
	arpSenderAt    = ethHeaderLen + 14
	arpTargetAt    = ethHeaderLen + 24
)

// bound is the part of the program that comes after the filter, which has seen that
// there is a whole IP header, or that the frame is ARP.
func (l *letIn) bound(pseudo netip.Addr) asm.Instructions {
	return slices.Concat(
		asm.Instructions{
			asm.LoadAbs(12, asm.Half).WithSymbol(labelOurs),
			asm.JEq.Imm(asm.R0, etherARP, "arp"),
			asm.JNE.Imm(asm.R0, etherIPv4, "odd"), // it has a tag
			asm.LoadAbs(ipVersionAt, asm.Byte),
			asm.JNE.Imm(asm.R0, 0x45, "odd"),
			asm.LoadAbs(ipFragmentAt, asm.Half),
			asm.JSet.Imm(asm.R0, ipMoreFragments|ipFragmentOffset, "odd"),
			asm.LoadAbs(ipProtocolAt, asm.Byte),
			asm.JEq.Imm(asm.R0, int32(TCP), labelIn),
			asm.JEq.Imm(asm.R0, int32(UDP), labelIn),
			asm.JNE.Imm(asm.R0, int32(ICMP), "odd"),
			asm.JLE.Imm(classicLen, icmpTypeAt, "odd"),
			asm.LoadAbs(icmpTypeAt, asm.Byte),
			asm.JEq.Imm(asm.R0, icmpEchoReply, labelIn),
			asm.JEq.Imm(asm.R0, icmpEcho, labelIn),

			asm.Mov.Imm(budgetAt, int32(unsafe.Offsetof(letInState{}.Odd))).WithSymbol("odd"),
			asm.Mov.Imm(budgetPackets, oddPackets),
			asm.Mov.Imm(budgetIntervals, oddIntervals),
			asm.Ja.Label("spend"),
		},
		l.arpKind(pseudo),
		l.spend(),
		asm.Instructions{
			asm.Mov.Imm(asm.R0, 0).WithSymbol(labelOut),
			asm.Return(),
			asm.Mov.Imm(asm.R0, maxFrameLen).WithSymbol(labelIn),
			asm.Return(),
		},
	)
}

// Registers by which the parts of the program say which budget a packet takes from: its
// offset in letInState, and what it grows by.
const (
	budgetAt        = asm.R7
	budgetPackets   = asm.R3
	budgetIntervals = asm.R4
)

// arpKind finds the budget of an ARP message, as arp_kind of bpf/bridge.c does.
func (l *letIn) arpKind(pseudo netip.Addr) asm.Instructions {
	ours := int32(binary.BigEndian.Uint32(pseudo.AsSlice()))
	kind, sender := asm.R7, asm.R8
	const key = -4 // on the stack
	return asm.Instructions{
		asm.Mov.Imm(kind, int32(arpAnybody)).WithSymbol("arp"),
		asm.JLT.Imm(classicLen, ethHeaderLen+arpLen, "arp budget"), // malformed, as the forwarder finds
		asm.LoadAbs(arpSenderAt, asm.Word),
		asm.Mov.Reg(sender, asm.R0),
		asm.StoreMem(asm.RFP, key, asm.R0, asm.Word),
		asm.LoadMapPtr(asm.R1, l.hosts.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, key),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "arp stranger"),
		asm.LoadMem(kind, asm.R0, 0, asm.Word),
		asm.JEq.Imm(kind, int32(arpGateway), "arp budget"),
		asm.Mov.Imm(kind, int32(arpNeighbour)), // to the verifier it is any number

		asm.LoadAbs(arpTargetAt, asm.Word).WithSymbol("arp stranger"),
		asm.JNE.Imm32(asm.R0, ours, "arp to others"),
		asm.LoadAbs(arpOperationAt, asm.Half),
		asm.JNE.Imm(asm.R0, int32(layers.ARPReply), "arp budget"),
		asm.Mov.Imm(kind, int32(arpAnswer)),
		asm.Ja.Label("arp budget"),

		asm.JEq.Imm(kind, int32(arpNeighbour), "arp budget").WithSymbol("arp to others"),
		asm.JEq.Imm32(sender, ours, "arp budget"),
		asm.Mov.Imm(budgetAt, int32(unsafe.Offsetof(letInState{}.OthersARP))),
		asm.Ja.Label("count"),

		asm.LSh.Imm(kind, 3).WithSymbol("arp budget"), // the size of a budget
		asm.Add.Imm(kind, int32(unsafe.Offsetof(letInState{}.ARP))),
		asm.Mov.Imm(budgetPackets, arpPackets),
		asm.Mov.Imm(budgetIntervals, arpIntervals),
	}
}

// spend takes a packet from a budget, as spend of bpf/bridge.c does, or counts it.
func (l *letIn) spend() asm.Instructions {
	const (
		interval, left = int16(unsafe.Offsetof(budget{}.Interval)), int16(unsafe.Offsetof(budget{}.Left))
		packets, bytes = int16(unsafe.Offsetof(letInTally{}.Packets)), int16(unsafe.Offsetof(letInTally{}.Bytes))
	)
	const packetsSaved, intervalsSaved = -8, -16 // on the stack
	frame, state, now, more := classicFrame, asm.R8, asm.R2, asm.R5
	return asm.Instructions{
		asm.StoreMem(asm.RFP, packetsSaved, budgetPackets, asm.DWord).WithSymbol("spend"),
		asm.StoreMem(asm.RFP, intervalsSaved, budgetIntervals, asm.DWord),
		asm.LoadMapValue(state, l.state.FD(), 0),
		asm.Add.Reg(state, budgetAt),
		asm.FnKtimeGetNs.Call(),
		asm.LoadMem(budgetPackets, asm.RFP, packetsSaved, asm.DWord),
		asm.LoadMem(budgetIntervals, asm.RFP, intervalsSaved, asm.DWord),
		asm.Mov.Reg(now, asm.R0),
		asm.RSh.Imm(now, 24),
		asm.LSh.Imm(now, 32),
		asm.RSh.Imm(now, 32),
		asm.LoadMem(asm.R1, state, interval, asm.Word),
		asm.JEq.Reg(asm.R1, now, "same"),
		asm.StoreMem(state, interval, now, asm.Word),
		asm.Mov.Reg(more, now),
		asm.Sub.Reg32(more, asm.R1), // the intervals since
		asm.JLE.Reg(more, budgetIntervals, "few"),
		asm.Mov.Reg(more, budgetIntervals),
		asm.Mul.Reg(more, budgetPackets).WithSymbol("few"),
		asm.Mul.Reg(budgetIntervals, budgetPackets), // the most that may come at once
		asm.LoadMem(asm.R1, state, left, asm.Word),
		asm.Add.Reg32(more, asm.R1),
		asm.JSLE.Reg32(more, budgetIntervals, "room"),
		asm.Mov.Reg(more, budgetIntervals),
		asm.StoreMem(state, left, more, asm.Word).WithSymbol("room"),
		asm.LoadMem(asm.R1, state, left, asm.Word).WithSymbol("same"),
		asm.JSLE.Imm32(asm.R1, 0, "beyond"),
		asm.Mov.Imm(asm.R1, -1),
		asm.AddAtomic.Mem(state, asm.R1, asm.Word, left),
		asm.Ja.Label(labelIn),

		asm.Mov.Imm(budgetAt, int32(unsafe.Offsetof(letInState{}.Overload))).WithSymbol("beyond"),
		asm.LoadMapValue(state, l.state.FD(), 0).WithSymbol("count"),
		asm.Add.Reg(state, budgetAt),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(state, asm.R1, asm.DWord, packets),
		asm.LoadMem(asm.R1, frame, 0, asm.Word), // skb->len
		asm.AddAtomic.Mem(state, asm.R1, asm.DWord, bytes),
	}
}
