package host

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// letIn is the filter of a NIC's packet socket: it lets in the frames that the
// forwarder carries or answers. If eBPF is available, it is bpf/letin.c, which also
// rate-limits packets that only userspace can handle and ARP, as the NIC's program of
// the kernel data path does: a flood of them costs the kernel their drop, and the
// forwarder nothing. Else it is a classic filter, which has no such bound.
type letIn struct {
	classic ClassicFilter
	Program *ebpf.Program
	State   *ebpf.Map // one bpf.LetInState
	hosts   *ebpf.Map // what hosts on the link are: ARPNeighbour or ARPGateway, by their addresses

	// mu is needed because the plane asks while another goroutine closes a NIC that is gone.
	mu lockorder.Mutex[lockorder.NICFilter]

	told bpf.LetInState // when it was last asked
}

func NewLetIn(pseudo netip.Addr) *letIn {
	l := &letIn{classic: PseudoAddressFilter(pseudo)}
	if l.Load(pseudo) != nil {
		_ = l.Close()
		l.Program, l.State, l.hosts = nil, nil, nil
	}
	return l
}

func (l *letIn) Load(pseudo netip.Addr) error {
	spec, err := bpf.LoadLetIn()
	if err != nil {
		return fmt.Errorf("reading the BPF objects: %w", err)
	}
	spec.Maps[bpf.LetInMapHosts].MaxEntries = uint32(link.NeighbourBounds[link.PartUsed]) + 1 // and the gateway
	if err := spec.Variables[bpf.LetInVarPseudo].Set(packet.BE32(packet.AddrOf(pseudo))); err != nil {
		return err
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

func (l *letIn) Attach(conn *socket.Conn) error {
	if l.Program != nil {
		return conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_ATTACH_BPF, l.Program.FD())
	}
	return l.classic.Attach(conn)
}

// LeftOut is what the filter left out since the last call. ARP between other hosts counts
// like the ARP that the forwarder drops.
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
		packet.DropARP:      {Packets: now.OthersArp.Packets - before.OthersArp.Packets, Bytes: now.OthersArp.Bytes - before.OthersArp.Bytes},
	}
}

// Know tells the program what a host on the link is. If there is no room for a host, the
// host loses only its own share of ARP.
func (l *letIn) Know(host packet.Addr, kind link.ARPKind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := packet.BE32(host)
	switch {
	case l.hosts == nil:
	case kind == link.ARPAnybody:
		_ = l.hosts.Delete(key)
	default:
		_ = l.hosts.Put(key, kind)
	}
}

func (l *letIn) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.Program.Close(), l.State.Close(), l.hosts.Close()) // also what was not made
}
