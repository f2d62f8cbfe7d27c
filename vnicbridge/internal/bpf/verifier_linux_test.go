package bpf

import (
	"regexp"
	"strconv"
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
		for other := range spec.Programs {
			if other != name {
				delete(spec.Programs, other)
			}
		}
		if err := spec.Variables[BridgeVarSelf6].Set(uint32(2)); err != nil { // otherwise it leaves out IPv6
			t.Fatal(err)
		}
		collection, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
		if err != nil {
			t.Fatal(err)
		}
		defer collection.Close()
		log := collection.Programs[name].VerifierLog
		found := regexp.MustCompile(`processed (\d+) insns`).FindStringSubmatch(log)
		if found == nil {
			t.Fatalf("%s: the verifier does not tell what it did:\n%s", name, log)
		}
		n, _ := strconv.Atoi(found[1])
		t.Logf("%s: %d instructions", name, n)
		if n > mostVerified {
			t.Errorf("%s: the verifier looks at %d instructions, want %d at most", name, n, mostVerified)
		}
	}
}
