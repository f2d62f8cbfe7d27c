package kernel

import (
	"log/slog"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// Options are what a kernel data path needs of the plane.
type Options struct {
	MaxFlows   int
	Extras     flow.Extras
	Open       *rules.OpenPorts
	Handshakes *flow.Handshakes // of flows that the table evicts
	Clock      func() int64     // nanoseconds, monotonic

	// Run is the forwarder. It carries the packets that the programs leave to userspace: it
	// receives them from a device as if they had come in at an iface, until the device is
	// closed.
	Run func(in *iface.Iface, from iface.Device) error
	// Refusals is how many packets that userspace can only refuse the programs leave to
	// userspace between two ticks. The programs drop those beyond it.
	Refusals int32

	Log *slog.Logger
}
