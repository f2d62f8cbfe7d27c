package iface

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// BatchSize is how many frames are taken from a device at once.
const BatchSize = 64

// Device is a NIC or a VNIC as the userspace path uses it. Tests have devices in memory.
type Device interface {
	// Receive waits for frames and fills the batch with at least one. The
	// frames' bytes are valid until the next call.
	Receive(batch []packet.Frame) (int, error)
	// Send sends frames in order and returns how many the device took. It may be
	// called by several goroutines at once.
	Send(frames []packet.Frame) int
	// Close ends the device and a receive that waits.
	Close() error
}

// NICDevice is an open NIC.
type NICDevice interface {
	Device
	// Link is the state of the NIC now.
	Link() (LinkState, error)
	Index() int
	// LeftOut returns what the device itself has dropped since the last call, by reason.
	LeftOut() map[packet.DropReason]Tally
	// Know tells the device that frames go to a host on the link, or with a zero MAC
	// that they no longer do. ARP from such a host gets through a flood of other ARP.
	Know(host packet.Addr, mac config.MAC, gateway bool)
}

// Tally is a number of packets, and of their bytes.
type Tally struct{ Packets, Bytes uint64 }

// LinkState is what matters of a NIC's state.
type LinkState struct {
	Name string // it can be changed
	Up   bool   // up, and with a carrier

	// Since the last call something has happened for which the kernel announces its own
	// addresses: a bond failed over, a machine migrated, a carrier came back.
	NotifyPeers bool

	MAC config.MAC
	MTU int
}
