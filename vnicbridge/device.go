package vnicbridge

// batchSize is how many frames are taken from a device at once.
const batchSize = 64

// device is a NIC or a VNIC as the userspace path uses it. Tests have devices in memory.
type device interface {
	// receive waits for frames and fills the batch with at least one. The
	// frames' bytes are valid until the next call.
	receive(batch []frame) (int, error)
	// send sends frames in order and returns how many the device took. It may be
	// called by several goroutines at once.
	send(frames []frame) int
	// close ends the device and a receive that waits.
	close() error
}

// nicDevice is an open NIC.
type nicDevice interface {
	device
	// link is the state of the NIC now.
	link() (linkState, error)
	index() int
	// leftOut returns what the device itself has dropped since the last call, by reason.
	leftOut() map[dropReason]tally
	// know tells the device that frames go to a host on the link, or with a zero MAC
	// that they no longer do. ARP from such a host gets through a flood of other ARP.
	know(host addr, mac MAC, gateway bool)
}

// tally is a number of packets, and of their bytes.
type tally struct{ packets, bytes uint64 }

// linkState is what matters of a NIC's state.
type linkState struct {
	name string // it can be changed
	up   bool   // up, and with a carrier

	// Since the last call something has happened for which the kernel announces its own
	// addresses: a bond failed over, a machine migrated, a carrier came back.
	notifyPeers bool

	mac MAC
	mtu int
}
