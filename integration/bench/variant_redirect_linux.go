package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// redirection is the least that a BPF program must do to bring packets from one device to
// another, for one client and one server: new addresses, adjusted checksums, and the
// redirect. It has no table and counts nothing. Every program between these devices costs at
// least as much.
type redirection struct {
	from, to             [2]netip.Addr // source and destination, before and after
	source, destination  net.HardwareAddr
	device, redirectFlag int
}

// Offsets in struct __sk_buff (include/uapi/linux/bpf.h).
const (
	skbData    = 76
	skbDataEnd = 80
)

// word returns four bytes of a packet as a program's immediate value.
func word(b []byte) int32 { return int32(binary.NativeEndian.Uint32(b)) }

func half(b []byte) int32 { return int32(binary.NativeEndian.Uint16(b)) }

// difference returns what the new addresses add to a one's complement checksum (RFC 1624).
func (r redirection) difference() int32 {
	var sum uint64
	for i := range r.from {
		sum += uint64(^uint32(word(r.from[i].AsSlice()))) + uint64(uint32(word(r.to[i].AsSlice())))
	}
	sum = sum&0xffffffff + sum>>32
	return int32(uint32(sum + sum>>32))
}

// folded returns the difference folded to 16 bits.
func (r redirection) folded() int32 {
	sum := uint32(r.difference())
	sum = sum&0xffff + sum>>16
	return int32(sum&0xffff + sum>>16)
}

func (r redirection) program() asm.Instructions {
	const transport = ipOffset + 20
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R6, skbData, asm.Word),
		asm.LoadMem(asm.R3, asm.R6, skbDataEnd, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, transport+8),
		asm.JGT.Reg(asm.R4, asm.R3, "pass"),
		asm.LoadMem(asm.R4, asm.R2, typeOffset, asm.Half),
		asm.JNE.Imm(asm.R4, half([]byte{0x08, 0x00}), "pass"),
	}
	for i, offset := range []int16{addressOffset, addressOffset + 4} {
		p = append(p,
			asm.LoadMem(asm.R4, asm.R2, offset, asm.Word),
			asm.JNE.Imm32(asm.R4, word(r.from[i].AsSlice()), "pass"),
			asm.StoreImm(asm.R2, offset, int64(word(r.to[i].AsSlice())), asm.Word))
	}
	for i, mac := range []net.HardwareAddr{r.destination, r.source} {
		if mac != nil {
			p = append(p,
				asm.StoreImm(asm.R2, int16(6*i), int64(word(mac)), asm.Word),
				asm.StoreImm(asm.R2, int16(6*i+4), int64(half(mac[4:])), asm.Half))
		}
	}
	return append(p,
		asm.LoadMem(asm.R7, asm.R2, protocolOffset, asm.Byte),
		asm.LoadMem(asm.R4, asm.R2, headerChecksum, asm.Half),
		asm.Xor.Imm(asm.R4, 0xffff),
		asm.Add.Imm(asm.R4, r.folded()),
		asm.Mov.Reg(asm.R5, asm.R4),
		asm.RSh.Imm(asm.R5, 16),
		asm.Add.Reg(asm.R4, asm.R5),
		asm.Xor.Imm(asm.R4, 0xffff),
		asm.StoreMem(asm.R2, headerChecksum, asm.R4, asm.Half),

		asm.Mov.Imm(asm.R2, transport+16),
		asm.Mov.Imm(asm.R5, 1<<4), // BPF_F_PSEUDO_HDR
		asm.JEq.Imm(asm.R7, unix.IPPROTO_TCP, "checksum"),
		asm.Mov.Imm(asm.R2, transport+6),
		asm.Mov.Imm(asm.R5, 1<<4|1<<5), // and BPF_F_MARK_MANGLED_0
		asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("checksum"),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm32(asm.R4, r.difference()),
		asm.FnL4CsumReplace.Call(),

		asm.Mov.Imm(asm.R1, int32(r.device)),
		asm.Mov.Imm(asm.R2, int32(r.redirectFlag)),
		asm.FnRedirect.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("pass"), // TC_ACT_UNSPEC
		asm.Return(),
	)
}

// attach loads the program and attaches it to a device.
func (r redirection) attach(device int, at ebpf.AttachType) (io.Closer, error) {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: r.program()})
	if err != nil {
		return nil, fmt.Errorf("the redirecting program: %w", err)
	}
	defer program.Close()
	return link.AttachTCX(link.TCXOptions{Interface: device, Program: program, Attach: at})
}

// startRedirect starts the two programs. Nobody would serve clients so: the variant shows how
// much of the kernel data path's cost is that of the packets' way itself.
func startRedirect(_ context.Context, s *site) error {
	tap, vnicMAC, err := s.makeTAP("vnic-A")
	if err != nil {
		return err
	}
	s.held = append(s.held, tap)
	// Like the bridge's own VNICs, the TAP takes whole GSO packets and unfinished checksums.
	if err := unix.IoctlSetInt(int(tap.Fd()), unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6); err != nil {
		return fmt.Errorf("offloads of the VNIC: %w", err)
	}
	// The programs do not answer ARP.
	if err := addNeighbour(s.client, clientDevice, s.public.Addr().AsSlice(), paper.NICMAC); err != nil {
		return err
	}
	nic, err := s.server.Netlink().LinkByName(paper.NICDevice)
	if err != nil {
		return err
	}
	vnic, err := s.server.Netlink().LinkByName("vnic-A")
	if err != nil {
		return err
	}
	nicIndex, vnicIndex := nic.Attrs().Index, vnic.Attrs().Index
	const ingress = 1 // BPF_F_INGRESS
	in := redirection{
		from: [2]netip.Addr{s.gateway.Addr(), s.public.Addr()}, to: [2]netip.Addr{s.alias, s.inner.Addr()},
		destination: vnicMAC, device: vnicIndex, redirectFlag: ingress,
	}
	out := redirection{
		from: [2]netip.Addr{s.inner.Addr(), s.alias}, to: [2]netip.Addr{s.public.Addr(), s.gateway.Addr()},
		source: paper.NICMAC, destination: paper.RouterMAC, device: nicIndex,
	}
	return s.server.Do(func() error {
		inward, err := in.attach(nicIndex, ebpf.AttachTCXIngress)
		if err != nil {
			return err
		}
		s.held = append(s.held, inward)
		outward, err := out.attach(vnicIndex, ebpf.AttachTCXEgress)
		if err == nil {
			s.held = append(s.held, outward)
		}
		return err
	})
}
