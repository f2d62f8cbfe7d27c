package host

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// letIn is the filter of a NIC's packet socket. It lets in the frames that the forwarder
// carries or answers. If eBPF is available, the filter is bpf/letin.c, which also rate-limits
// ARP, NDP and MLD, and packets that only userspace can handle (fragments, IP options), as the
// NIC's program on the kernel path does. So a flood of them costs the forwarder nothing. Without
// eBPF it is a classic filter without a rate limit.
type letIn struct {
	classic ClassicFilter
	Program *ebpf.Program
	State   *ebpf.Map // one bpf.LetInState
	hosts   *ebpf.Map // the link.MessageKind of hosts on the link, by their addresses

	// The plane may ask while another goroutine closes a NIC that is gone.
	mu lockorder.Mutex[lockorder.NICFilter]

	told bpf.LetInState // the state at the last call of LeftOut
}

// PseudoAddresses are the pseudo addresses of a bridge. One that it does not have is invalid.
type PseudoAddresses [config.Families]netip.Addr

// NewLetIn makes the filter for pseudo addresses. If the kernel refuses the program, the
// filter is the classic one.
func NewLetIn(pseudo PseudoAddresses) *letIn {
	l := &letIn{classic: PseudoAddressFilter(pseudo)}
	if l.Load(pseudo) != nil {
		_ = l.Close()
		l.Program, l.State, l.hosts = nil, nil, nil
	}
	return l
}

// Load loads the program and its maps.
func (l *letIn) Load(pseudo PseudoAddresses) error {
	spec, err := bpf.LoadLetIn()
	if err != nil {
		return fmt.Errorf("reading the BPF objects: %w", err)
	}
	spec.Maps[bpf.LetInMapHosts].MaxEntries = uint32(config.Families) * uint32(link.NeighbourBounds[link.PartUsed]+1) // and the gateway
	if err := spec.Variables[bpf.LetInVarPseudo].Set(packet.BE32(packet.AddrOf(pseudo[config.IPv4]))); err != nil {
		return err
	}
	if v6 := pseudo[config.IPv6]; v6.IsValid() {
		if err := spec.Variables[bpf.LetInVarPseudo6].Set(v6.As16()); err != nil {
			return err
		}
	}
	if err := spec.Variables[bpf.LetInVarSecret].Set(rand.Uint64()); err != nil {
		return err
	}
	collection, err := ebpf.NewCollection(spec)
	if err != nil {
		return ExplainBPF(err)
	}
	defer collection.Close()
	l.Program = collection.DetachProgram(bpf.LetInProgLetIn)
	l.State, l.hosts = collection.DetachMap(bpf.Variables), collection.DetachMap(bpf.LetInMapHosts)
	return nil
}

// Attach puts the filter on a socket.
func (l *letIn) Attach(conn *socket.Conn) error {
	if l.Program != nil {
		return conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_ATTACH_BPF, l.Program.FD())
	}
	return l.classic.Attach(conn)
}

// LeftOut returns what the filter has dropped since the last call, by reason. ARP and NDP
// between other hosts count like the ARP that the forwarder drops. Without the program it is nil,
// because the classic filter counts nothing.
func (l *letIn) LeftOut() map[packet.DropReason]iface.Tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	var now bpf.LetInState
	if l.State == nil || l.State.Lookup(uint32(0), &now) != nil {
		return nil
	}
	before := l.told
	l.told = now
	return map[packet.DropReason]iface.Tally{
		packet.DropOverload: {Packets: now.Overload.Packets - before.Overload.Packets, Bytes: now.Overload.Bytes - before.Overload.Bytes},
		packet.DropARP:      {Packets: now.Others.Packets - before.Others.Packets, Bytes: now.Others.Bytes - before.Others.Bytes},
	}
}

// Know tells the program what a host on the link is. A host that does not fit the map has no
// rate limit of its own, and shares that of all other hosts.
func (l *letIn) Know(host packet.Addr, kind link.MessageKind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.hosts == nil:
	case kind == link.MessageAnybody:
		_ = l.hosts.Delete(host)
	default:
		_ = l.hosts.Put(host, kind)
	}
}

// Close frees the program and its maps.
func (l *letIn) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.Program.Close(), l.State.Close(), l.hosts.Close()) // nil ones, which were not made, close without error
}
