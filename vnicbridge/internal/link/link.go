package link

import (
	"log/slog"
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// Link is the link of a NIC, for one family of addresses.
type Link interface {
	iface.Link
	// Acquire claims the bridge's addresses. If probing is set, it first asks the link for
	// other owners. The error tells which host has the pseudo address.
	Acquire(probing bool) error
	// Save returns what the link knows, for a successor, and SaveOwn the same without the hosts.
	// Inherit takes over what a predecessor's link knew: the addresses are claimed without probes
	// and announcements.
	Save() Saved
	SaveOwn() Saved
	Inherit(from Saved) error
	// StandBy makes the link silent about the bridge's addresses, because another machine has
	// them: it answers and announces nothing, and asks for next hops without naming the
	// pseudo address. TakeOver claims the addresses, without probes, and begins to announce
	// them at once. Acquire ends StandBy as well.
	StandBy()
	TakeOver(now int64)
	// Announce makes the next ticks announce the addresses again. The plane calls it when
	// the NIC comes back up, when the NIC's MAC changes, and when the NIC was opened again.
	// It does not run at the same time as Acquire.
	Announce()
	// SetGateway sets the gateway of the link. An invalid address means that there is none.
	SetGateway(gateway netip.Addr)
	// AwaitGateway asks for the gateway and waits for the answer, at most a second. It
	// returns false if the gateway does not answer in time.
	AwaitGateway(now func() int64) bool
	// Lookup returns a host's MAC. ok is false if the host is not resolved.
	Lookup(host netip.Addr) (mac config.MAC, ok bool)
	// Table returns the next hops, whose functions the caller sets before use.
	Table() *Neighbours
}

// Options are what a link needs besides its NIC.
type Options struct {
	// Bridge is the name of the bridge. The link-local address is derived from it.
	Bridge string
	// MAC is the permanent MAC of the NIC, which the link-local address is derived from. If it
	// is zero, the MAC is that of the iface.
	MAC config.MAC
	// Key is the secret that the link-local address is derived with.
	Key [2]uint64
	// LinkLocal is the bridge's link-local address. If it is invalid, one is derived.
	LinkLocal netip.Addr
	// Ours tells whether a MAC is that of one of our NICs, which may share the link.
	Ours func(config.MAC) bool
	Log  *slog.Logger
	// Rival is told, with a lock held, of another host that uses an address of the bridge: at
	// most once in DefendInterval for each address. Nil: nobody is told.
	Rival func(address netip.Addr, mac config.MAC)
	// FailsOver tells whether the bridge fails over. While its elector gives the address to
	// another machine, that announces it a moment before the bridge hears of it. So such a bridge
	// defends its address with the next tick, if it still has it then. Nil: it does not fail over.
	FailsOver func() bool
}

// New returns the link of a NIC for the family of the iface, which must have an address and
// a MAC. The caller sets Learned, Publish and SentByKernel of the table before use.
func New(nic *iface.Iface, o Options) Link {
	if o.Rival == nil {
		o.Rival = func(netip.Addr, config.MAC) {}
	}
	if o.FailsOver == nil {
		o.FailsOver = func() bool { return false }
	}
	if nic.Family == config.IPv6 {
		return newIPv6(nic, o)
	}
	return newEthernet(nic, o)
}
