package capture

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// RingOptions say what a packetRing or a programRing captures.
type RingOptions struct {
	SourceOptions
	NS       *host.Namespace
	Ifindex  int
	reversed bool // a frame that leaves by the device is inbound
}

// packetRing is a packet socket that shares memory with the kernel (PACKET_RX_RING,
// packet(7)). The kernel copies frames there, and wakes nobody. If there is no room, the
// kernel drops the copy.
type packetRing struct {
	conn     *socket.Conn
	memory   []byte
	slot     int // bytes of one
	perBlock int
	block    int
	slots    int
	next     int
	reversed bool
}

// ringHeader is how many bytes a slot has before a frame: struct tpacket2_hdr and
// sockaddr_ll, and room for a link header (tpacket_rcv in net/packet/af_packet.c).
const ringHeader = 96

// ringBlock is the unit in which the kernel allocates the ring. It holds the largest slot.
const ringBlock = 128 << 10

// OpenPacketRing opens a packet socket with a ring in the options' namespace.
func OpenPacketRing(o RingOptions) (*packetRing, error) {
	conn, err := socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, "packet", &socket.Config{NetNS: o.NS.FD()})
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket: %w", err)
	}
	slot := (ringHeader + o.Snaplen + 15) &^ 15
	r := &packetRing{conn: conn, slot: slot, block: ringBlock, perBlock: ringBlock / slot, reversed: o.reversed}
	if err := r.open(o); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// open binds the socket when all is in place: no stray frame gets in.
func (r *packetRing) open(o RingOptions) error {
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"setting PACKET_VERSION", func() error { return r.conn.SetsockoptInt(unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2) }},
		{"attaching the filter", func() error { return host.ClassicFilter(o.Filter).Attach(r.conn) }},
		{"making the ring", func() error { return r.share(max(o.Memory/ringBlock, 1)) }},
		{"binding the packet socket", func() error {
			return r.conn.Bind(&unix.SockaddrLinklayer{Protocol: packet.BE16(unix.ETH_P_ALL), Ifindex: o.Ifindex})
		}},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// share makes the ring and maps it.
func (r *packetRing) share(blocks int) error {
	r.slots = blocks * r.perBlock
	request := unix.TpacketReq{
		Block_size: ringBlock, Block_nr: uint32(blocks), Frame_size: uint32(r.slot), Frame_nr: uint32(r.slots),
	}
	return r.control(func(fd int) (err error) {
		if err = unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &request); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
		r.memory, err = unix.Mmap(fd, 0, blocks*ringBlock, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		return os.NewSyscallError("mmap", err)
	})
}

func (r *packetRing) control(do func(fd int) error) (err error) {
	raw, err := r.conn.SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) { err = do(int(fd)) }); e != nil {
		return e
	}
	return err
}

// Take gives the frames that wait, in order.
func (r *packetRing) Take(visit func(*CapturedFrame) bool) {
	for range r.slots {
		at := r.memory[r.next/r.perBlock*r.block+r.next%r.perBlock*r.slot:][:r.slot]
		header := (*unix.Tpacket2Hdr)(unsafe.Pointer(&at[0]))
		if atomic.LoadUint32(&header.Status)&unix.TP_STATUS_USER == 0 {
			return
		}
		link := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&at[unix.SizeofTpacket2Hdr]))
		f := CapturedFrame{
			time:    int64(header.Sec)*1e9 + int64(header.Nsec),
			Inbound: (link.Pkttype == unix.PACKET_OUTGOING) == r.reversed,
			tagged:  header.Status&unix.TP_STATUS_VLAN_VALID != 0,
			Length:  int(header.Len),
			Data:    at[header.Mac:][:header.Snaplen],
		}
		if !visit(&f) {
			return
		}
		atomic.StoreUint32(&header.Status, unix.TP_STATUS_KERNEL)
		r.next = (r.next + 1) % r.slots
	}
}

// Grant does nothing, because the kernel drops frames that do not fit the ring.
func (r *packetRing) Grant(int) {}

// drops returns how many frames did not fit the ring since the last call.
func (r *packetRing) drops() (n uint64) {
	_ = r.control(func(fd int) error {
		stats, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err == nil {
			n = uint64(stats.Drops)
		}
		return err
	})
	return n
}

// Close unmaps the ring and closes the socket.
func (r *packetRing) Close() error {
	var err error
	if r.memory != nil {
		err = unix.Munmap(r.memory)
	}
	return errors.Join(err, r.conn.Close())
}
