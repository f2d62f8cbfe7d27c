package vnicbridge

// device is a NIC or a VNIC as the userspace data path uses it. Injected, so that
// the path can be driven without a kernel.
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
	// leftOut is what the device left out since it was last asked, by the reason.
	leftOut() map[dropReason]tally
	// know tells the device that frames go to a host on the link, or no longer do (a
	// zero MAC), so that ARP from there finds its way in a flood of other ARP.
	know(host addr, mac MAC, gateway bool)
}

// tally is a number of packets, and of their bytes.
type tally struct{ packets, bytes uint64 }

// linkState is what matters of a NIC's state.
type linkState struct {
	name string // it can be changed
	up   bool   // up, and with a carrier

	// What the kernel announces its own addresses for has happened since the state
	// was last asked for: bond fail-over, live migration, a carrier that came back.
	notifyPeers bool

	mac MAC
	mtu int
}
