package host

import (
	"errors"
	"fmt"
	"math"
	"os"
	"syscall"
	"unsafe"

	"github.com/mdlayher/socket"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// usualFrameLen holds the largest usual frame of a device with segmentation offload: a 64 KiB
// IP packet, its Ethernet header, and the offload header. If an administrator allows larger
// packets (BIG TCP: gro_ipv4_max_size), buffers grow when the first one does not fit, up to
// largestFrameLen, which holds the kernel's limit (GSO_MAX_SIZE, 8 times 64 KiB).
const (
	usualFrameLen   = 68 << 10
	largestFrameLen = usualFrameLen << 3
)

// wholeFrame is what a filter returns to let a frame in, however long the frame is.
const wholeFrame = math.MaxInt32

// socketBuffer is the size of the buffer for each direction, in bytes. A burst of 64 KiB
// frames overflows the kernel's default. More than this would not make the bridge faster, and
// everybody waits behind a flood for as long as a full buffer takes: on a busy machine 16 MiB
// of small frames took 3 seconds, in which a server forgets a handshake.
const socketBuffer = 4 << 20

// PacketSocket reads and writes frames of a device by two raw AF_PACKET sockets (packet(7)).
// One receives the frames that its filter lets in. The other one sends and receives nothing,
// so that it works while the first one does not listen.
type PacketSocket struct {
	in, out *rawSocket
	ns      *Namespace
	name    string // of the device when it was opened
	Ifindex int
	input   *messages
	later   socketFilter // of an inherited socket, until Start
}

type rawSocket struct {
	*socket.Conn
	raw syscall.RawConn
}

// socketFilter says which frames a packet socket sees.
type socketFilter interface {
	Attach(conn *socket.Conn) error
}

// ClassicFilter is a filter of classic BPF.
type ClassicFilter []bpf.Instruction

// Attach puts the filter on a socket.
func (f ClassicFilter) Attach(conn *socket.Conn) error {
	raw, err := bpf.Assemble(f)
	if err != nil {
		return err
	}
	return conn.SetBPF(raw)
}

// openPacketSocket opens the sockets. If a predecessor's is given, the first one is that, which
// receives as before until Start.
func openPacketSocket(ns *Namespace, device string, filter socketFilter, inherited *os.File) (*PacketSocket, error) {
	link, err := ns.Netlink.LinkByName(device)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", device, err)
	}
	s := &PacketSocket{ns: ns, name: device, Ifindex: link.Attrs().Index, input: newMessages()}
	if inherited != nil {
		err = s.inherit(inherited, filter)
	} else {
		err = s.open(filter)
	}
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", device, err)
	}
	return s, nil
}

// open makes the sockets with protocol 0, which receives nothing. It binds the first socket
// when the filter is in place, so that no stray frame gets in.
func (s *PacketSocket) open(filter socketFilter) (err error) {
	if s.in, err = s.openRaw(); err != nil {
		return err
	}
	if err = s.openOut(); err == nil {
		err = filter.Attach(s.in.Conn)
	}
	if err == nil {
		err = s.Listen(true)
	}
	if err != nil {
		_ = s.Close()
	}
	return err
}

// inherit takes over a predecessor's socket.
func (s *PacketSocket) inherit(file *os.File, filter socketFilter) error {
	conn, err := socket.FileConn(file, "packet")
	_ = file.Close() // conn has a descriptor of its own
	if err != nil {
		return fmt.Errorf("taking over a packet socket: %w", err)
	}
	s.in, s.later = &rawSocket{Conn: conn}, filter
	if s.in.raw, err = conn.SyscallConn(); err == nil {
		err = s.openOut()
	}
	if err != nil {
		_ = s.Close()
	}
	return err
}

// openOut opens the socket that sends.
func (s *PacketSocket) openOut() (err error) {
	if s.out, err = s.openRaw(); err == nil {
		err = s.bind(s.out, 0)
	}
	return err
}

// Start makes an inherited socket this process's: from now on, it lets in what its filter says.
func (s *PacketSocket) Start() error {
	filter := s.later
	if s.later = nil; filter == nil {
		return nil
	}
	return filter.Attach(s.in.Conn)
}

// packetFile is the name by which a successor knows the socket of a device.
func packetFile(device string) string { return "packet/" + device }

// Files returns the open file of the receiving socket for a successor.
func (s *PacketSocket) Files() (succession.Files, error) {
	name := packetFile(s.name)
	file, err := succession.Duplicate(s.in.Conn, name)
	return succession.Files{name: file}, err
}

// Pause is [TAPQueue.Pause].
func (s *PacketSocket) Pause(on bool) error { return s.in.SetReadDeadline(pauseUntil(on)) }

func (s *PacketSocket) openRaw() (*rawSocket, error) {
	conn, err := socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, "packet", &socket.Config{NetNS: s.ns.FD()})
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket: %w", err)
	}
	r := &rawSocket{Conn: conn}
	if r.raw, err = conn.SyscallConn(); err == nil {
		err = r.configure()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return r, nil
}

func (r *rawSocket) configure() error {
	for _, option := range []struct {
		name          string
		number, value int
	}{
		{"PACKET_VNET_HDR", unix.PACKET_VNET_HDR, 1},
		{"PACKET_AUXDATA", unix.PACKET_AUXDATA, 1},
		{"PACKET_IGNORE_OUTGOING", unix.PACKET_IGNORE_OUTGOING, 1},
	} {
		if err := r.SetsockoptInt(unix.SOL_PACKET, option.number, option.value); err != nil {
			return fmt.Errorf("setting %s: %w", option.name, err)
		}
	}
	// Best effort: without CAP_NET_ADMIN in the first user namespace, the system's limit
	// (net.core.rmem_max) applies.
	_ = r.SetReadBuffer(socketBuffer)
	_ = r.SetWriteBuffer(socketBuffer)
	return nil
}

func (s *PacketSocket) bind(r *rawSocket, protocol uint16) error {
	err := r.Bind(&unix.SockaddrLinklayer{Protocol: packet.BE16(protocol), Ifindex: s.Ifindex})
	if err != nil {
		return fmt.Errorf("device %s: binding a packet socket: %w", s.name, err)
	}
	return nil
}

// noProtocol is a reserved Ethernet type, which no frame has. A socket that was bound to a
// protocol cannot be bound to none again.
const noProtocol = 0xffff

// Listen starts or stops receiving the device's frames.
func (s *PacketSocket) Listen(on bool) error {
	if on {
		return s.bind(s.in, unix.ETH_P_ALL)
	}
	return s.bind(s.in, noProtocol)
}

// membership makes the device receive the frames to a MAC, or to all groups, or no longer
// (packet(7)). Listen changes no membership.
func (s *PacketSocket) membership(option int, kind uint16, mac config.MAC) error {
	request := unix.PacketMreq{Ifindex: int32(s.Ifindex), Type: kind, Alen: uint16(len(mac))}
	copy(request.Address[:], mac[:])
	var err error
	failed := s.in.raw.Control(func(fd uintptr) {
		err = unix.SetsockoptPacketMreq(int(fd), unix.SOL_PACKET, option, &request)
	})
	if err = errors.Join(failed, err); err != nil {
		return fmt.Errorf("device %s: receiving what goes to %s: %w", s.name, mac, err)
	}
	return nil
}

func (s *PacketSocket) link() (iface.LinkState, error) {
	link, err := s.ns.Netlink.LinkByIndex(s.Ifindex)
	if err != nil {
		return iface.LinkState{}, fmt.Errorf("device %s: %w", s.name, err)
	}
	return stateOf(link), nil
}

// Close closes both sockets and ends a Receive that waits.
func (s *PacketSocket) Close() error {
	err := s.in.Close()
	if s.out != nil {
		err = errors.Join(err, s.out.Close())
	}
	return err
}

// Receive waits for frames and fills the batch with those that wait, by one system call. The
// frames' bytes are valid until the next call.
func (s *PacketSocket) Receive(batch []packet.Frame) (int, error) {
	for {
		var n int
		var errno syscall.Errno
		err := s.in.raw.Read(func(fd uintptr) bool {
			n, errno = s.input.recvmmsg(fd, len(batch))
			return errno != unix.EAGAIN
		})
		switch {
		case err != nil:
			return 0, err
		case errno == unix.EINTR, errno == unix.EINVAL:
			// EINVAL is about one frame, whose segmentation the offload header cannot
			// express. Only that frame is lost.
		case errno == unix.ENETDOWN:
			// A NIC that goes down gives this error once, and frames again when it is up. A
			// NIC that goes away gives the same error.
			if _, err := s.ns.Netlink.LinkByIndex(s.Ifindex); err != nil {
				return 0, fmt.Errorf("device %s: %w", s.name, err)
			}
		case errno != 0:
			return 0, fmt.Errorf("device %s: recvmmsg: %w", s.name, errno)
		default:
			return s.input.frames(batch[:n]), nil
		}
	}
}

// Send sends frames in order and returns how many the kernel took. If the kernel refuses one
// (too long, or the NIC is down), Send goes on with the next.
func (s *PacketSocket) Send(frames []packet.Frame) (sent int) {
	out := newVector(frames)
	for len(out) > 0 {
		var n int
		var errno syscall.Errno
		err := s.out.raw.Write(func(fd uintptr) bool {
			n, errno = sendmmsg(fd, out)
			return errno != unix.EAGAIN
		})
		switch {
		case err != nil:
			return sent
		case errno == unix.EINTR:
		case errno != 0:
			out = out[1:]
		default:
			sent += n
			out = out[n:]
		}
	}
	return sent
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	length uint32
}

// messages are the buffers of recvmmsg, for frames and for what the kernel says about each
// (struct tpacket_auxdata).
type messages struct {
	headers []mmsghdr
	vectors []unix.Iovec
	buffers [][]byte
	control [][controlLen]byte

	length    int  // of a buffer
	truncated bool // a frame did not fit, so the buffers must grow
}

// controlLen has room for one control message with tpacket_auxdata (20 bytes).
const controlLen = 64

func newMessages() *messages {
	m := &messages{
		headers: make([]mmsghdr, iface.BatchSize), vectors: make([]unix.Iovec, iface.BatchSize),
		buffers: make([][]byte, iface.BatchSize), control: make([][controlLen]byte, iface.BatchSize),
	}
	for i := range m.headers {
		h := &m.headers[i].header
		h.Iov = &m.vectors[i]
		h.SetIovlen(1)
		h.Control = &m.control[i][0]
	}
	m.allocate(usualFrameLen)
	return m
}

// allocate makes the buffers anew.
func (m *messages) allocate(length int) {
	m.length, m.truncated = length, false
	for i := range m.buffers {
		m.buffers[i] = make([]byte, length)
		m.vectors[i].Base = &m.buffers[i][0]
		m.vectors[i].SetLen(length)
	}
}

func (m *messages) recvmmsg(fd uintptr, most int) (int, syscall.Errno) {
	if m.truncated && m.length < largestFrameLen {
		m.allocate(2 * m.length)
	}
	for i := range m.headers {
		m.headers[i].header.SetControllen(controlLen)
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&m.headers[0])),
		uintptr(min(most, len(m.headers))), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// frames fills the batch with the frames received, without truncated ones.
func (m *messages) frames(batch []packet.Frame) int {
	n := 0
	for i := range batch {
		h := &m.headers[i]
		if h.header.Flags&unix.MSG_TRUNC != 0 {
			m.truncated = true
			continue
		}
		if h.length < packet.VNetHeaderLen {
			continue
		}
		batch[n] = packet.Frame{Data: m.buffers[i][:h.length]}
		if tci, ok := hiddenTag(m.control[i][:h.header.Controllen]); ok {
			// A priority tag (VLAN 0) names no VLAN, unless another tag follows it.
			batch[n].Tagged = tci&packet.VLANID != 0 || h.length >= packet.VNetHeaderLen+packet.EthHeaderLen && packet.IsVLAN(batch[n].EtherType())
		}
		n++
	}
	return n
}

// hiddenTag returns the control information of a VLAN tag that the kernel took out of a
// frame. The auxiliary data is the only control message that the socket asks for.
func hiddenTag(control []byte) (tci uint16, ok bool) {
	if len(control) < unix.CmsgLen(int(unsafe.Sizeof(unix.TpacketAuxdata{}))) {
		return 0, false
	}
	header := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	if header.Level != unix.SOL_PACKET || header.Type != unix.PACKET_AUXDATA {
		return 0, false
	}
	aux := (*unix.TpacketAuxdata)(unsafe.Pointer(&control[unix.CmsgLen(0)]))
	return aux.Vlan_tci, aux.Status&unix.TP_STATUS_VLAN_VALID != 0
}

func newVector(frames []packet.Frame) []mmsghdr {
	headers := make([]mmsghdr, len(frames))
	vectors := make([]unix.Iovec, len(frames))
	for i, f := range frames {
		vectors[i].Base = &f.Data[0]
		vectors[i].SetLen(len(f.Data))
		headers[i].header.Iov = &vectors[i]
		headers[i].header.SetIovlen(1)
	}
	return headers
}

func sendmmsg(fd uintptr, out []mmsghdr) (int, syscall.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&out[0])),
		uintptr(len(out)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}
