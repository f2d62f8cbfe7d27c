package kernel

import (
	"log/slog"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// Options are what a kernel data path needs of its surroundings.
type Options struct {
	MaxFlows   int
	Key        rules.Key
	Open       *rules.OpenPorts
	Handshakes *flow.Handshakes // of flows that the table evicts
	Clock      func() int64     // nanoseconds, monotonic

	// Run carries in userspace what a device gives as having come in at an iface, until the
	// device is closed. The programs leave to userspace what they cannot handle.
	Run func(in *iface.Iface, from iface.Device) error
	// Refusals is how many packets the programs leave to userspace between two ticks if
	// userspace can only refuse them. The programs drop what is beyond.
	Refusals int32

	Log *slog.Logger
}
