package kernel

import (
	"errors"

	"github.com/cilium/ebpf"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// SetNeighbour tells the programs the MAC of a host on an iface's link. A zero MAC means that it
// is no longer known.
func (k *Path) SetNeighbour(nic *iface.Iface, host packet.Addr, mac config.MAC) {
	var err error
	if host.IsIPv6() {
		err = setNeighbour(k.Maps[bpf.BridgeMapNeighbours6], bpf.NeighbourKey6{Address: packet.Halves(host), Iface: nic.Index}, mac)
	} else {
		err = setNeighbour(k.Maps[bpf.BridgeMapNeighbours], bpf.NeighbourKey{Address: packet.BE32(host), Iface: nic.Index}, mac)
	}
	if err != nil {
		k.Log.Error("telling the BPF programs of a neighbour", "address", host.Netip(), "error", err)
	}
	if gateway, _ := nic.Link().Router(); host != gateway {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refreshAll()
}

func setNeighbour(m *ebpf.Map, key any, mac config.MAC) error {
	if !mac.IsZero() {
		return m.Put(key, bpf.Neighbour{Mac: mac})
	}
	if err := m.Delete(key); !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}

// neighbourBatch is how many neighbours are read with one system call.
const neighbourBatch = 4096

// EachSentTo visits the hosts on a NIC's link to which the programs have sent packets, with
// the time of the last packet by the plane's clock.
func (k *Path) EachSentTo(nic *iface.Iface, visit func(host packet.Addr, at int64)) {
	now, clock := k.Clock(), k.Plane.Clock.Load()
	k.eachNeighbour(nic, func(host packet.Addr, n bpf.Neighbour) {
		if n.Used != 0 {
			visit(host, now-int64(clock-n.Used)<<flow.ClockShift)
		}
	})
}

// eachNeighbour visits the hosts on a NIC's link whose MACs the programs know.
func (k *Path) eachNeighbour(nic *iface.Iface, visit func(packet.Addr, bpf.Neighbour)) {
	if nic.Family == config.IPv6 {
		eachEntry(k.Maps[bpf.BridgeMapNeighbours6], func(key bpf.NeighbourKey6, n bpf.Neighbour) {
			if key.Iface == nic.Index {
				visit(packet.AddrFromHalves(key.Address), n)
			}
		})
		return
	}
	eachEntry(k.Maps[bpf.BridgeMapNeighbours], func(key bpf.NeighbourKey, n bpf.Neighbour) {
		if key.Iface == nic.Index {
			visit(packet.AddrFromBE32(key.Address), n)
		}
	})
}

// eachEntry visits the entries of a map.
func eachEntry[K, V any](m *ebpf.Map, visit func(K, V)) {
	keys, values := make([]K, neighbourBatch), make([]V, neighbourBatch)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		for i, v := range values[:n] {
			visit(keys[i], v)
		}
		if err != nil { // ErrKeyNotExist: those were the last
			return
		}
	}
}
