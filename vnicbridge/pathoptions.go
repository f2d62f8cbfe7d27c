package vnicbridge

import "log/slog"

// pathOptions are what a kernel data path needs of its surroundings.
type pathOptions struct {
	maxFlows   int
	key        hashKey
	open       *openPorts
	handshakes *handshakes  // of flows that the table evicts
	clock      func() int64 // nanoseconds, monotonic

	// run carries in userspace what a device gives as having come in at a port, until the
	// device is closed. The programs leave to userspace what they cannot handle.
	run func(in *port, from device) error
	// refusals is how many packets the programs leave to userspace between two ticks if
	// userspace can only refuse them. The programs drop what is beyond.
	refusals int32

	log *slog.Logger
}
