package host

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/mdlayher/socket"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// neighbourSocket reads and sets single neighbours of a device, many with one system call. It
// never lists all neighbours, because root in the device's namespace can make that list
// arbitrarily long.
type neighbourSocket struct {
	conn    *socket.Conn
	ifindex int
}

// NewNeighbourSocket opens a netlink socket for the neighbours of a device.
func NewNeighbourSocket(ns *Namespace, ifindex int) (*neighbourSocket, error) {
	conn, err := socket.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE, "netlink", &socket.Config{NetNS: ns.FD()})
	if err != nil {
		return nil, fmt.Errorf("opening netlink: %w", err)
	}
	// The kernel answers before Sendto returns. If it has no memory for an answer,
	// Recvfrom returns ENOBUFS.
	if err := conn.Bind(&unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("opening netlink: %w", err)
	}
	return &neighbourSocket{conn, ifindex}, nil
}

// Close closes the socket.
func (s *neighbourSocket) Close() { _ = s.conn.Close() }

// batchedNeighbours is how many requests are sent with one system call. The answers to them
// fit the default buffer of a socket.
const batchedNeighbours = 64

// permanent returns the MACs of those hosts that are permanent neighbours.
func (s *neighbourSocket) permanent(hosts []netip.Addr) (map[netip.Addr]config.MAC, error) {
	has := make(map[netip.Addr]config.MAC)
	err := s.exchange(unix.RTM_GETNEIGH, 0, len(hosts), func(i int) []nl.NetlinkRequestData {
		return []nl.NetlinkRequestData{s.message(hosts[i], 0), nl.NewRtAttr(unix.NDA_DST, hosts[i].AsSlice())}
	}, func(i int, m syscall.NetlinkMessage, errno syscall.Errno) error {
		if errno != 0 {
			return ignoreMissing(errno)
		}
		n, err := netlink.NeighDeserialize(m.Data)
		if err == nil && n.State == netlink.NUD_PERMANENT && len(n.HardwareAddr) == len(config.MAC{}) {
			has[hosts[i]] = config.MAC(n.HardwareAddr)
		}
		return err
	})
	return has, err
}

// Set makes hosts permanent neighbours, each with its MAC.
func (s *neighbourSocket) Set(hosts []netip.Addr, macs map[netip.Addr]config.MAC) error {
	return s.exchange(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK, len(hosts), func(i int) []nl.NetlinkRequestData {
		mac := macs[hosts[i]]
		return []nl.NetlinkRequestData{
			s.message(hosts[i], netlink.NUD_PERMANENT), nl.NewRtAttr(unix.NDA_DST, hosts[i].AsSlice()), nl.NewRtAttr(unix.NDA_LLADDR, mac[:]),
		}
	}, func(i int, _ syscall.NetlinkMessage, errno syscall.Errno) error {
		if errno != 0 {
			return fmt.Errorf("%s: %w", hosts[i], errno)
		}
		return nil
	})
}

func (s *neighbourSocket) message(host netip.Addr, state uint16) *netlink.Ndmsg {
	return &netlink.Ndmsg{Family: uint8(netlinkFamily(config.FamilyOf(host))), Index: uint32(s.ifindex), State: state}
}

// neighbourAnswer takes the answer to request i: a message, or the number of an error.
type neighbourAnswer func(i int, m syscall.NetlinkMessage, errno syscall.Errno) error

// exchange sends n requests of one type and takes the answer to each, in batches.
func (s *neighbourSocket) exchange(kind, flags, n int, request func(i int) []nl.NetlinkRequestData, answer neighbourAnswer) error {
	for first := 0; first < n; first += batchedNeighbours {
		last := min(first+batchedNeighbours, n)
		var out []byte
		for i := first; i < last; i++ {
			req := nl.NewNetlinkRequest(kind, flags)
			req.Seq, req.Data = uint32(i), request(i)
			out = append(out, req.Serialize()...)
		}
		ctx := context.Background()
		if err := s.conn.Sendto(ctx, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		if err := s.answers(ctx, last-first, answer); err != nil {
			return err
		}
	}
	return nil
}

// answers receives n answers.
func (s *neighbourSocket) answers(ctx context.Context, n int, answer neighbourAnswer) (err error) {
	buf := make([]byte, 32<<10)
	for n > 0 {
		size, from, err := s.conn.Recvfrom(ctx, buf, 0)
		if err != nil {
			return err
		}
		if kernel, ok := from.(*unix.SockaddrNetlink); !ok || kernel.Pid != 0 {
			continue
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:size])
		if err != nil {
			return err
		}
		for _, m := range messages {
			var errno syscall.Errno
			if m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4 {
				errno = syscall.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
			}
			n--
			if err := answer(int(m.Header.Seq), m, errno); err != nil {
				return err
			}
		}
	}
	return nil
}
