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

// SetNeighbour tells the programs the MAC of a host on a NIC's link. A zero MAC means that it
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
	if gateway, _ := nic.NIC.Link.Router(); host != gateway {
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
	if nic.Family == config.IPv6 {
		eachSentTo(k, bpf.BridgeMapNeighbours6, func(key bpf.NeighbourKey6, at int64) {
			if key.Iface == nic.Index {
				visit(packet.AddrFromHalves(key.Address), at)
			}
		})
		return
	}
	eachSentTo(k, bpf.BridgeMapNeighbours, func(key bpf.NeighbourKey, at int64) {
		if key.Iface == nic.Index {
			visit(packet.AddrFromBE32(key.Address), at)
		}
	})
}

// eachSentTo visits the keys of a map of neighbours to which packets were sent.
func eachSentTo[K any](k *Path, name string, visit func(key K, at int64)) {
	now, clock := k.Clock(), k.Plane.Clock.Load()
	keys, values := make([]K, neighbourBatch), make([]bpf.Neighbour, neighbourBatch)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := k.Maps[name].BatchLookup(&cursor, keys, values, nil)
		for i, v := range values[:n] {
			if v.Used != 0 {
				visit(keys[i], now-int64(clock-v.Used)<<flow.ClockShift)
			}
		}
		if err != nil { // ErrKeyNotExist: those were the last
			return
		}
	}
}
