package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// maxStack is what a program's functions may take of the stack together, along any chain of
// calls, and stackUnit is the unit to which older kernels such as 6.1 round each
// (MAX_BPF_STACK, and check_max_stack_depth of the kernel's verifier). Newer ones round less,
// so loading the programs here would not show that they are refused there.
const (
	maxStack  = 512
	stackUnit = 32
)

func TestStackOfOlderKernels(t *testing.T) {
	for name, load := range map[string]func() (*ebpf.CollectionSpec, error){"bridge": LoadBridge, "letin": LoadLetIn} {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}
		for program, p := range spec.Programs {
			functions := functionsOf(p.Instructions)
			depth := functions[p.Instructions[0].Symbol()].deepest(functions)
			t.Logf("%s: %s takes %d bytes", name, program, depth)
			if depth > maxStack {
				t.Errorf("%s: %s takes %d bytes of stack, and older kernels have %d", name, program, depth, maxStack)
			}
		}
	}
}

// function is what a function takes of the stack, in bytes, and which others it calls.
type function struct {
	stack int
	calls []string
}

func functionsOf(instructions asm.Instructions) map[string]*function {
	functions := make(map[string]*function)
	var f *function
	copies := make(map[asm.Register]bool) // of the frame pointer
	for _, ins := range instructions {
		if symbol := ins.Symbol(); symbol != "" {
			f = new(function)
			functions[symbol] = f
		}
		switch class := ins.OpCode.Class(); {
		case ins.IsFunctionCall():
			f.calls = append(f.calls, ins.Reference())
		case ins.OpCode == asm.Mov.Reg(0, 0).OpCode:
			copies[ins.Dst] = ins.Src == asm.RFP
		case ins.OpCode == asm.Add.Imm(0, 0).OpCode && copies[ins.Dst]:
			f.stack = max(f.stack, -int(ins.Constant))
			copies[ins.Dst] = false
		case class.IsStore() && ins.Dst == asm.RFP, class.IsLoad() && ins.Src == asm.RFP:
			f.stack = max(f.stack, -int(ins.Offset))
		}
	}
	return functions
}

// deepest returns what the function and those that it calls take, at most.
func (f *function) deepest(functions map[string]*function) int {
	below := 0
	for _, name := range f.calls {
		below = max(below, functions[name].deepest(functions))
	}
	return (max(f.stack, 1)+stackUnit-1)/stackUnit*stackUnit + below
}
