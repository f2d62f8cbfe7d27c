package vnicbridge

import (
	"maps"
	"testing"

	"github.com/cilium/ebpf/asm"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
)

// A program loads its own key at an address that depends on both words of the opposite key,
// and in IPv6 once more on all words of the addresses (after in bpf/flow.h), because arm64 keeps only such loads in order. x86 keeps all of
// them: no test that runs there would miss the dependency, so this one reads the programs.
func TestOwnKeyIsLoadedAfterTheOpposite(t *testing.T) {
	for _, name := range []string{bpf.BridgeProgFromNic, bpf.BridgeProgFromVnic} {
		code := instructionsByOffset(loadObjects(t).Programs[name].Instructions)
		words := make(map[int]int) // dependencies by how many words they are on
		for at, ins := range code {
			if ins.OpCode == asm.And.Imm(0, 0).OpCode && ins.Constant == 0 {
				n := wordsBefore(code, at)
				if words[n]++; n == 0 {
					continue // on the flags of a flow, before its shift is looked up
				}
				if loads := loadsThrough(code, at); loads != 2 {
					t.Errorf("%s: %d words of the own key depend on instruction %d, want 2", name, loads, at)
				}
			}
		}
		// One for each direction, where an IPv4 packet is carried, an IPv6 packet is
		// carried, one is admitted, and one is answered with a cookie; in IPv6 also those on the
		// addresses. And one for the shift of each family.
		if want := map[int]int{0: 2, 2: 8, 4: 6}; !maps.Equal(words, want) {
			t.Errorf("%s has dependencies on so many words, each so often: %v, want %v", name, words, want)
		}
	}
}

func instructionsByOffset(instructions asm.Instructions) map[asm.RawInstructionOffset]asm.Instruction {
	code := make(map[asm.RawInstructionOffset]asm.Instruction)
	for iter := instructions.Iterate(); iter.Next(); {
		code[iter.Offset] = *iter.Ins
	}
	return code
}

// loadWord is the operation that loads 64 bits.
var loadWord = asm.LoadMem(0, 0, 0, asm.DWord).OpCode

// wordsBefore counts the loaded words that are ORed before an instruction.
func wordsBefore(code map[asm.RawInstructionOffset]asm.Instruction, at asm.RawInstructionOffset) (words int) {
	missing := map[asm.Register]bool{code[at].Dst: true}
	for back := at - 1; len(missing) > 0 && back+32 > at; back-- {
		switch ins := code[back]; {
		case !missing[ins.Dst]:
		case ins.OpCode == asm.Or.Reg(0, 0).OpCode:
			missing[ins.Src] = true
		case ins.OpCode == asm.Mov.Reg(0, 0).OpCode:
			delete(missing, ins.Dst)
			missing[ins.Src] = true
		case ins.OpCode == loadWord:
			delete(missing, ins.Dst)
			words++
		}
	}
	return words
}

// loadsThrough counts the words that are loaded at addresses to which the result of an
// instruction is added, up to the next branch.
func loadsThrough(code map[asm.RawInstructionOffset]asm.Instruction, at asm.RawInstructionOffset) (loads int) {
	depends := map[asm.Register]bool{code[at].Dst: true}
	for at++; ; at++ {
		ins, ok := code[at]
		switch {
		case !ok:
			return loads
		case ins.OpCode == asm.Ja.Label("").OpCode:
			at += asm.RawInstructionOffset(ins.Offset)
		case ins.OpCode.Class().IsJump():
			return loads
		case ins.OpCode == asm.Add.Reg(0, 0).OpCode:
			depends[ins.Dst] = depends[ins.Dst] || depends[ins.Src]
		case ins.OpCode == asm.Mov.Reg(0, 0).OpCode:
			depends[ins.Dst] = depends[ins.Src]
		case ins.OpCode == loadWord:
			if depends[ins.Src] {
				loads++
			}
			depends[ins.Dst] = false
		}
	}
}
