package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	programs "github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/kernel"
)

// programRing captures the frames that come in at a device, or those that leave by it.
// Its program runs before the programs that carry packets. While the quota lasts, the
// program copies the frames that match the filter to a ring buffer, and wakes nobody.
// Frames beyond the quota are counted. All frames go on.
//
// A packet socket would make the kernel clone each frame of the device, and does not see
// frames that are redirected from a TAP.
type programRing struct {
	RingOptions
	ingress bool

	frames, quota, full *ebpf.Map

	reader  *ringbuf.Reader
	program io.Closer // attached

	record  ringbuf.Record
	held    bool // the record was not taken yet
	dropped uint64
}

// programMemory is the size of the ring buffer: a power of two.
const programMemory = 2 << 20

// A record is the time (8 bytes, of CLOCK_MONOTONIC), the frame's length and whether a
// VLAN tag was taken out of it (4 bytes each), then as many bytes as are kept at most.
const recordHeader = 16

func (r *programRing) recordSize() int { return (recordHeader + r.Snaplen + 7) &^ 7 }

// Offsets in struct __sk_buff (include/uapi/linux/bpf.h) of the packet's type and of the
// flag that a VLAN tag was taken out.
const (
	skbPacketType  = 4
	skbVLANPresent = 20
)

// goOn is TC_ACT_UNSPEC, TCX_NEXT: the packet goes on to the next program.
const goOn = -1

// Where the filter's instructions jump to.
const (
	labelTake = "take"
	labelNext = "next"
)

func openProgramRing(on *kernel.Places, o RingOptions, ingress bool) (*programRing, error) {
	r := &programRing{RingOptions: o, ingress: ingress}
	err := r.makeMaps()
	if err == nil {
		err = r.attach(on)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *programRing) makeMaps() error {
	for _, m := range []struct {
		made **ebpf.Map
		spec ebpf.MapSpec
	}{
		{&r.frames, ebpf.MapSpec{Name: "frames", Type: ebpf.RingBuf, MaxEntries: programMemory}},
		{&r.quota, ebpf.MapSpec{Name: "quota", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}},
		{&r.full, ebpf.MapSpec{Name: "full", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 1}},
	} {
		made, err := ebpf.NewMap(&m.spec)
		if err != nil {
			return fmt.Errorf("making the BPF map %s of a capture: %w", m.spec.Name, host.ExplainBPF(err))
		}
		*m.made = made
	}
	var err error
	if r.reader, err = ringbuf.NewReader(r.frames); err != nil {
		return fmt.Errorf("mapping the ring buffer of a capture: %w", err)
	}
	r.reader.SetDeadline(time.Unix(1, 0)) // in the past: never wait
	return nil
}

// attach puts the program before all others on the device.
func (r *programRing) attach(on *kernel.Places) error {
	instructions, err := FromClassic(r.Filter, labelTake, labelNext)
	if err != nil {
		return err
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "capture", Type: ebpf.SchedCLS, Instructions: append(instructions, r.copyFrame()...), License: programs.License,
	})
	if err != nil {
		return fmt.Errorf("loading the BPF program of a capture: %w", host.ExplainBPF(err))
	}
	defer func() { _ = program.Close() }()
	at := ebpf.AttachTCXEgress
	if r.ingress {
		at = ebpf.AttachTCXIngress
	}
	place, err := on.Put(r.NS, r.Ifindex, at, program, kernel.Captures, false)
	if errors.Is(err, ebpf.ErrNotSupported) {
		place, err = on.Put(r.NS, r.Ifindex, at, program, kernel.Captures, true)
	}
	if err != nil {
		return fmt.Errorf("attaching the BPF program of a capture: %w", err)
	}
	r.program = place
	return nil
}

// copyFrame is the part of the program that comes after the filter.
func (r *programRing) copyFrame() asm.Instructions {
	frame, length, record, kept := classicFrame, asm.R7, asm.R8, asm.R9
	return asm.Instructions{
		asm.LoadMapValue(asm.R2, r.quota.FD(), 0).WithSymbol(labelTake),
		asm.LoadMem(asm.R1, asm.R2, 0, asm.DWord),
		asm.JSLE.Imm(asm.R1, 0, "full"),
		asm.LoadMem(length, frame, 0, asm.Word), // skb->len
		asm.Mov.Reg(kept, length),
		asm.JLE.Imm(kept, int32(r.Snaplen), "reserve"),
		asm.Mov.Imm(kept, int32(r.Snaplen)),
		asm.Mov.Imm(asm.R1, -FrameCost).WithSymbol("reserve"),
		asm.Sub.Reg(asm.R1, kept),
		asm.StoreXAdd(asm.R2, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, r.frames.FD()),
		asm.Mov.Imm(asm.R2, int32(r.recordSize())),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnRingbufReserve.Call(),
		asm.JEq.Imm(asm.R0, 0, "full"),
		asm.Mov.Reg(record, asm.R0),
		asm.StoreMem(record, 8, length, asm.Word),
		asm.LoadMem(asm.R1, frame, skbVLANPresent, asm.Word),
		asm.StoreMem(record, 12, asm.R1, asm.Word),
		asm.FnKtimeGetNs.Call(),
		asm.StoreMem(record, 0, asm.R0, asm.DWord),
		asm.JEq.Imm(kept, 0, "submit"), // impossible, but the verifier does not know
		asm.Mov.Reg(asm.R1, frame),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, record),
		asm.Add.Imm(asm.R3, recordHeader),
		asm.Mov.Reg(asm.R4, kept),
		asm.FnSkbLoadBytes.Call(),
		asm.Mov.Reg(asm.R1, record).WithSymbol("submit"),
		asm.Mov.Imm(asm.R2, unix.BPF_RB_NO_WAKEUP),
		asm.FnRingbufSubmit.Call(),
		asm.Ja.Label(labelNext),

		asm.StoreImm(asm.RFP, -4, 0, asm.Word).WithSymbol("full"),
		asm.LoadMapPtr(asm.R1, r.full.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, labelNext),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),

		asm.Mov.Imm(asm.R0, goOn).WithSymbol(labelNext),
		asm.Return(),
	}
}

// Take gives the frames that wait, in order.
func (r *programRing) Take(visit func(*CapturedFrame) bool) {
	ahead := wallAhead()
	for range programMemory / r.recordSize() {
		if !r.held && r.reader.ReadInto(&r.record) != nil {
			return
		}
		sample := r.record.RawSample
		length := int(binary.NativeEndian.Uint32(sample[8:]))
		f := CapturedFrame{
			time:    int64(binary.NativeEndian.Uint64(sample)) + ahead,
			Inbound: r.ingress != r.reversed,
			tagged:  binary.NativeEndian.Uint32(sample[12:]) != 0,
			Length:  length, Data: sample[recordHeader:][:min(length, r.Snaplen)],
		}
		if r.held = !visit(&f); r.held {
			return
		}
	}
}

// Grant sets the quota. If that fails, the rest of the last quota stays.
func (r *programRing) Grant(bytes int) { _ = r.quota.Put(uint32(0), int64(bytes)) }

// wallAhead is how far the wall clock is ahead of the programs' clock, in nanoseconds.
func wallAhead() int64 { return time.Now().UnixNano() - kernel.ProgramClock() }

// drops returns how many frames exceeded the quota or the ring since the last call.
func (r *programRing) drops() uint64 {
	var ofCPUs []uint64
	if r.full.Lookup(uint32(0), &ofCPUs) != nil {
		return 0
	}
	var total uint64
	for _, n := range ofCPUs {
		total += n
	}
	n := total - r.dropped
	r.dropped = total
	return n
}

// Close detaches the program and frees the maps.
func (r *programRing) Close() error {
	var errs []error
	if r.program != nil {
		errs = append(errs, r.program.Close())
	}
	if r.reader != nil {
		errs = append(errs, r.reader.Close())
	}
	for _, m := range []*ebpf.Map{r.frames, r.quota, r.full} {
		errs = append(errs, m.Close()) // a nil map, which was not made, closes without error
	}
	return errors.Join(errs...)
}
