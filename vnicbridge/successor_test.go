package vnicbridge

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// oldPlane is a predecessor without devices and flows, but with open ports.
type oldPlane struct {
	Predecessor // of which only the following is asked
	flows       *os.File
	ports       map[string][]config.PortRange
}

func (o oldPlane) Inventory() (Inventory, error) { return Inventory{Ports: o.ports}, nil }

func (o oldPlane) Yield() (State, error) {
	return State{Format: flow.SavedFormat, Files: succession.Files{flowsFile: o.flows}}, nil
}

// Row R1: a port that a listener of the predecessor has open stays open while the successor has taken
// over and does not listen yet: a new connection in between waits in the listening socket, which it has
// inherited.
func TestAPortStaysOpenUntilTheSuccessorListens(t *testing.T) {
	bubble(t, func(t *testing.T) {
		flows, err := os.Create(filepath.Join(t.TempDir(), "flows"))
		if err != nil {
			t.Fatal(err)
		}
		port := config.PortRange{Protocol: config.TCP, First: 80, Last: 80}
		r := newEmptyRig(t)
		r.plane.predecessor = func() (Predecessor, error) {
			return oldPlane{flows: flows, ports: map[string][]config.PortRange{"a": {port}}}, nil
		}
		cfg := paperConfig()
		cfg.Segments["a"].Ports = nil
		if err := r.plane.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		r.settle()
		enters := func(sport uint16, want int) {
			t.Helper()
			r.put("nic0", fromRouter(farHost, sport, 80).tcp("S", ""))
			if got := len(r.got("vnic-A")); got != want {
				t.Errorf("of a SYN %d come to segment a, want %d", got, want)
			}
		}
		enters(4000, 1)
		release := r.plane.OpenPort("a", port)
		if err := r.plane.Confirm(); err != nil {
			t.Fatal(err)
		}
		enters(4001, 1)
		release()
		enters(4002, 0)
	})
}
