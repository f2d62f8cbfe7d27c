package kernel

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
	"log/slog"
	"os"
	"testing"
	"time"
)

func TestTry(t *testing.T) {
	k, err := New(Options{MaxFlows: 65536, Wide: true, Open: new(rules.OpenPorts), Handshakes: new(flow.Handshakes), Clock: func() int64 { return 0 }, Log: slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug}))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, i6 := range []uint32{0, 1} {
		for _, name := range []string{bpf.BridgeProgFromNic, bpf.BridgeProgFromVnic} {
			b := time.Now()
			p, err := k.load(ProgramKey{name: name, index6: i6})
			if err != nil {
				t.Fatal(err)
			}
			info, _ := p.Info()
			n, _ := info.VerifiedInstructions()
			t.Log(name, i6, time.Since(b), n)
		}
	}
}
