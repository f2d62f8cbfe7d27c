package iface

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// BatchSize is how many frames are received from a device at once, at most.
const BatchSize = 64

// Device is a NIC or a VNIC as the userspace path uses it. Tests have devices in memory.
type Device interface {
	// Receive waits for frames and fills the batch with at least one. The
	// frames' bytes are valid until the next call.
	Receive(batch []packet.Frame) (int, error)
	// Send sends frames in order and returns how many the device took. It may be
	// called by several goroutines at once.
	Send(frames []packet.Frame) int
	// Close closes the device. A Receive that is waiting returns an error.
	Close() error
}

// Poller is a device that others than its reader can read from, too.
type Poller interface {
	// Poll gives carry the frames that have come already, if the reader has carried all frames that
	// it has received. So frames stay in order. The frames' bytes are valid until carry returns.
	Poll(carry func([]packet.Frame))
}

// Pauser is a device that a successor can take over.
type Pauser interface {
	// Pause makes Receive return [os.ErrDeadlineExceeded] until it is called again with false, and Poll
	// find nothing.
	// Frames wait in the device meanwhile.
	Pause(on bool) error
}

// NICDevice is an open NIC.
type NICDevice interface {
	Device
	// Link returns the current state of the NIC's link.
	Link() (LinkState, error)
	// Index returns the interface index of the NIC (ifindex).
	Index() int
	// LeftOut returns what the socket filter and the kernel have dropped since the last
	// call, by reason.
	LeftOut() map[packet.DropReason]Tally
	// Know tells the device that frames go to a host on the link. A zero MAC means that
	// they no longer do. A flood of other ARP does not keep out the ARP of such hosts.
	Know(host packet.Addr, mac config.MAC, gateway bool)
	// Join makes the NIC take the frames to a multicast MAC, until Leave, or until the
	// device is closed. The caller does not join a group twice.
	Join(group config.MAC) error
	// Leave ends what Join began.
	Leave(group config.MAC) error
}

// Tally is a number of packets and the sum of their bytes.
type Tally struct{ Packets, Bytes uint64 }

// LinkState is the state of a NIC's link.
type LinkState struct {
	Name string // an admin can rename the NIC
	Up   bool   // the NIC is up and has a carrier

	// NotifyPeers is set if, since the last call, something happened after which the kernel
	// announces its own addresses: a bond failed over, a virtual machine migrated, or a
	// carrier came back.
	NotifyPeers bool

	MAC       config.MAC
	Permanent config.MAC // the MAC of the hardware, whatever MAC is set; zero: it has none
	MTU       int
}
