package rules

import (
	"iter"
	"net/netip"
	"sync/atomic"

	"github.com/gaissmai/bart"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Denied are the networks outside that reach nothing by a NIC, and that nothing inside reaches
// (S7), or that are kept from a segment. The zero value denies nobody. Several goroutines may read while one changes it.
type Denied struct {
	at [iface.Max]atomic.Pointer[bart.Lite] // by the index of a NIC's or a VNIC's iface; immutable
}

// Has tells whether a host is denied at a NIC.
func (d *Denied) Has(nic *iface.Iface, host packet.Addr) bool {
	networks := d.at[nic.Index].Load()
	return networks != nil && networks.Lookup(host.Netip())
}

// Names tells whether exactly this network is denied at a NIC.
func (d *Denied) Names(nic *iface.Iface, network netip.Prefix) bool {
	networks := d.at[nic.Index].Load()
	return networks != nil && networks.Get(network)
}

// At yields the networks that are denied at a NIC.
func (d *Denied) At(nic *iface.Iface) iter.Seq[netip.Prefix] {
	if networks := d.at[nic.Index].Load(); networks != nil {
		return networks.All()
	}
	return func(func(netip.Prefix) bool) {}
}

// Set denies a network at a NIC, or no longer does.
func (d *Denied) Set(nic *iface.Iface, network netip.Prefix, denied bool) {
	networks := d.at[nic.Index].Load()
	if networks == nil {
		networks = new(bart.Lite)
	}
	if denied {
		networks = networks.InsertPersist(network)
	} else {
		networks = networks.DeletePersist(network)
	}
	d.at[nic.Index].Store(networks)
}

// Clear denies nobody at a NIC.
func (d *Denied) Clear(nic *iface.Iface) { d.at[nic.Index].Store(nil) }
