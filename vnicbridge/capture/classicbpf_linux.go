package capture

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"
)

// Registers of a program that FromClassic makes. Loads from a packet take the frame
// from R6, and leave what they find in R0 (BPF_ABS and BPF_IND of
// Documentation/bpf/standardization/instruction-set.rst).
const (
	classicA     = asm.R0
	classicFrame = asm.R6
	classicX     = asm.R7
	classicSaved = asm.R8
	classicLen   = asm.R9
)

// FromClassic translates a classic BPF program, as package pcapfilter makes it, to eBPF for
// tc. The result jumps to the label match if the classic program returns a number above 0,
// else to noMatch.
//
// A load from beyond the end of the packet jumps to noMatch. Each load has its own check,
// because the kernel's check would end the whole program.
func FromClassic(program []bpf.Instruction, match, noMatch string) (asm.Instructions, error) {
	t := classicTranslator{match: match, noMatch: noMatch}
	t.add(
		asm.Mov.Reg(classicFrame, asm.R1),
		asm.LoadMem(classicLen, classicFrame, 0, asm.Word), // skb->len
		asm.Mov.Imm(classicA, 0),
		asm.Mov.Imm(classicX, 0),
	)
	for i, instruction := range program {
		begin := len(t.out)
		if err := t.translate(i, instruction); err != nil {
			return nil, err
		}
		t.out[begin] = t.out[begin].WithSymbol(classicLabel(i))
	}
	return t.out, nil
}

func classicLabel(i int) string { return fmt.Sprintf("classic%d", i) }

type classicTranslator struct {
	out            asm.Instructions
	match, noMatch string
}

func (t *classicTranslator) add(instructions ...asm.Instruction) {
	t.out = append(t.out, instructions...)
}

func (t *classicTranslator) translate(i int, instruction bpf.Instruction) error {
	switch in := instruction.(type) {
	case bpf.LoadAbsolute:
		t.loadAbsolute(in.Off, in.Size)
	case bpf.LoadIndirect:
		t.add(
			asm.Mov.Reg(asm.R1, classicX),
			asm.Add.Imm(asm.R1, int32(in.Off)+int32(in.Size)),
			asm.JGT.Reg(asm.R1, classicLen, t.noMatch),
			asm.LoadInd(classicA, classicX, int32(in.Off), classicSize(in.Size)),
		)
	case bpf.LoadMemShift: // X = 4 * (byte & 15)
		t.add(asm.Mov.Reg(classicSaved, classicA))
		t.loadAbsolute(in.Off, 1)
		t.add(
			asm.Mov.Reg(classicX, asm.R0),
			asm.And.Imm(classicX, 15),
			asm.LSh.Imm(classicX, 2),
			asm.Mov.Reg(classicA, classicSaved),
		)
	case bpf.LoadExtension:
		switch in.Num {
		case bpf.ExtLen:
			t.add(asm.Mov.Reg(classicA, classicLen))
		case bpf.ExtType:
			t.add(asm.LoadMem(classicA, classicFrame, skbPacketType, asm.Word))
		default:
			return fmt.Errorf("BPF extension %d is not known", in.Num)
		}
	case bpf.ALUOpConstant:
		op, ok := classicArithmetic[in.Op]
		if !ok {
			return fmt.Errorf("BPF operation %#x is not known", in.Op)
		}
		t.add(op.Imm32(classicA, int32(in.Val)))
	case bpf.JumpIf:
		return t.jump(i, in)
	case bpf.RetConstant:
		label := t.match
		if in.Val == 0 {
			label = t.noMatch
		}
		t.add(asm.Ja.Label(label))
	default:
		return fmt.Errorf("BPF instruction %v is not known", in)
	}
	return nil
}

func (t *classicTranslator) loadAbsolute(offset uint32, size int) {
	t.add(
		asm.JLT.Imm(classicLen, int32(offset)+int32(size), t.noMatch),
		asm.LoadAbs(int32(offset), classicSize(size)),
	)
}

func classicSize(bytes int) asm.Size {
	return map[int]asm.Size{1: asm.Byte, 2: asm.Half, 4: asm.Word}[bytes]
}

var classicArithmetic = map[bpf.ALUOp]asm.ALUOp{
	bpf.ALUOpAnd: asm.And, bpf.ALUOpOr: asm.Or, bpf.ALUOpAdd: asm.Add, bpf.ALUOpShiftLeft: asm.LSh, bpf.ALUOpShiftRight: asm.RSh,
}

var classicJumps = map[bpf.JumpTest]asm.JumpOp{
	bpf.JumpEqual: asm.JEq, bpf.JumpNotEqual: asm.JNE, bpf.JumpBitsSet: asm.JSet,
	bpf.JumpGreaterThan: asm.JGT, bpf.JumpGreaterOrEqual: asm.JGE, bpf.JumpLessThan: asm.JLT, bpf.JumpLessOrEqual: asm.JLE,
}

func (t *classicTranslator) jump(i int, in bpf.JumpIf) error {
	op, ok := classicJumps[in.Cond]
	if !ok {
		return fmt.Errorf("BPF comparison %d is not known", in.Cond)
	}
	t.add(
		op.Imm32(classicA, int32(in.Val), classicLabel(i+1+int(in.SkipTrue))),
		asm.Ja.Label(classicLabel(i+1+int(in.SkipFalse))),
	)
	return nil
}
