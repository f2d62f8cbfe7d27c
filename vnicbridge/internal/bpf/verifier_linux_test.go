package bpf

import (
	"maps"
	"testing"

	"github.com/cilium/ebpf"
)

// mostVerified is how many instructions the kernel's verifier may look at until it has accepted a
// program. It looks at some 600 in a millisecond, and a start waits for it, once for each device. What
// is inlined into a loop counts once for each iteration, what a global function has counts once.
const mostVerified = 120_000

func TestTheVerifierIsQuick(t *testing.T) {
	for _, name := range []string{BridgeProgFromNic, BridgeProgFromVnic} {
		spec, err := LoadBridge()
		if err != nil {
			t.Fatal(err)
		}
		maps.DeleteFunc(spec.Programs, func(other string, _ *ebpf.ProgramSpec) bool { return other != name })
		if err := spec.Variables[BridgeVarSelf6].Set(uint32(2)); err != nil { // otherwise it leaves out IPv6
			t.Fatal(err)
		}
		collection, err := ebpf.NewCollection(spec)
		if err != nil {
			t.Fatal(err)
		}
		defer collection.Close()
		info, err := collection.Programs[name].Info()
		if err != nil {
			t.Fatal(err)
		}
		n, ok := info.VerifiedInstructions()
		t.Logf("%s: %d instructions", name, n)
		if !ok || n > mostVerified {
			t.Errorf("%s: the verifier looks at %d instructions (known: %v), want %d at most", name, n, ok, mostVerified)
		}
	}
}
