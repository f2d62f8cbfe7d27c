package vnicbridge

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

// ringOptions say what a packetRing or a programRing is of.
type ringOptions struct {
	sourceOptions
	ns       *namespace
	ifindex  int
	reversed bool // what goes out by the device is inbound
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

func openPacketRing(o ringOptions) (*packetRing, error) {
	conn, err := socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, "packet", &socket.Config{NetNS: o.ns.fd()})
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket: %w", err)
	}
	slot := (ringHeader + o.snaplen + 15) &^ 15
	r := &packetRing{conn: conn, slot: slot, block: ringBlock, perBlock: ringBlock / slot, reversed: o.reversed}
	if err := r.open(o); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// open binds the socket when all is in place: no stray frame gets in.
func (r *packetRing) open(o ringOptions) error {
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"setting PACKET_VERSION", func() error { return r.conn.SetsockoptInt(unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2) }},
		{"attaching the filter", func() error { return classicFilter(o.filter).attach(r.conn) }},
		{"making the ring", func() error { return r.share(max(o.memory/ringBlock, 1)) }},
		{"binding the packet socket", func() error {
			return r.conn.Bind(&unix.SockaddrLinklayer{Protocol: be16(unix.ETH_P_ALL), Ifindex: o.ifindex})
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

// take gives the frames that wait, in order.
func (r *packetRing) take(visit func(*capturedFrame) bool) {
	for range r.slots {
		at := r.memory[r.next/r.perBlock*r.block+r.next%r.perBlock*r.slot:][:r.slot]
		header := (*unix.Tpacket2Hdr)(unsafe.Pointer(&at[0]))
		if atomic.LoadUint32(&header.Status)&unix.TP_STATUS_USER == 0 {
			return
		}
		link := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&at[unix.SizeofTpacket2Hdr]))
		f := capturedFrame{
			time:    int64(header.Sec)*1e9 + int64(header.Nsec),
			inbound: (link.Pkttype == unix.PACKET_OUTGOING) == r.reversed,
			tagged:  header.Status&unix.TP_STATUS_VLAN_VALID != 0,
			length:  int(header.Len),
			data:    at[header.Mac:][:header.Snaplen],
		}
		if !visit(&f) {
			return
		}
		atomic.StoreUint32(&header.Status, unix.TP_STATUS_KERNEL)
		r.next = (r.next + 1) % r.slots
	}
}

// grant has nothing to do: the kernel drops what there is no room for.
func (r *packetRing) grant(int) {}

// drops returns how many frames found no room since its last call.
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

func (r *packetRing) close() error {
	var err error
	if r.memory != nil {
		err = unix.Munmap(r.memory)
	}
	return errors.Join(err, r.conn.Close())
}
