package vnicbridge

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/bpf"
)

// letIn is the filter of a NIC's packet socket: it lets in the frames that the
// forwarder carries or answers. If eBPF is available, it is bpf/letin.c, which also
// rate-limits packets that only userspace can handle and ARP, as the NIC's program of
// the kernel data path does: a flood of them costs the kernel their drop, and the
// forwarder nothing. Else it is a classic filter, which has no such bound.
type letIn struct {
	classic classicFilter
	program *ebpf.Program
	state   *ebpf.Map // one bpf.LetInState
	hosts   *ebpf.Map // what hosts on the link are: arpNeighbour or arpGateway, by their addresses

	mu   sync.Mutex     // the plane asks while another goroutine closes a NIC that is gone
	told bpf.LetInState // when it was last asked
}

func newLetIn(pseudo netip.Addr) *letIn {
	l := &letIn{classic: pseudoAddressFilter(pseudo)}
	if l.load(pseudo) != nil {
		_ = l.close()
		l.program, l.state, l.hosts = nil, nil, nil
	}
	return l
}

func (l *letIn) load(pseudo netip.Addr) error {
	spec, err := bpf.LoadLetIn()
	if err != nil {
		return fmt.Errorf("reading the BPF objects: %w", err)
	}
	spec.Maps[bpf.LetInMapHosts].MaxEntries = uint32(neighbourBounds[partUsed]) + 1 // and the gateway
	if err := spec.Variables[bpf.LetInVarPseudo].Set(be32(addrOf(pseudo))); err != nil {
		return err
	}
	if err := spec.Variables[bpf.LetInVarSecret].Set(rand.Uint64()); err != nil {
		return err
	}
	collection, err := ebpf.NewCollection(spec)
	if err != nil {
		return explainBPF(err)
	}
	defer collection.Close()
	l.program = collection.DetachProgram(bpf.LetInProgLetIn)
	l.state, l.hosts = collection.DetachMap(bpf.Variables), collection.DetachMap(bpf.LetInMapHosts)
	return nil
}

func (l *letIn) attach(conn *socket.Conn) error {
	if l.program != nil {
		return conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_ATTACH_BPF, l.program.FD())
	}
	return l.classic.attach(conn)
}

// leftOut is what the filter left out since the last call. ARP between other hosts counts
// like the ARP that the forwarder drops.
func (l *letIn) leftOut() map[dropReason]tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	var now bpf.LetInState
	if l.state == nil || l.state.Lookup(uint32(0), &now) != nil {
		return nil
	}
	before := l.told
	l.told = now
	return map[dropReason]tally{
		dropOverload: {now.Overload.Packets - before.Overload.Packets, now.Overload.Bytes - before.Overload.Bytes},
		dropARP:      {now.OthersArp.Packets - before.OthersArp.Packets, now.OthersArp.Bytes - before.OthersArp.Bytes},
	}
}

// know tells the program what a host on the link is. If there is no room for a host, the
// host loses only its own share of ARP.
func (l *letIn) know(host addr, kind arpKind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := be32(host)
	switch {
	case l.hosts == nil:
	case kind == arpAnybody:
		_ = l.hosts.Delete(key)
	default:
		_ = l.hosts.Put(key, kind)
	}
}

func (l *letIn) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.program.Close(), l.state.Close(), l.hosts.Close()) // also what was not made
}
