package host

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// RemoteDevice is an Ethernet device of the host behind which a segment's server is. It takes the
// place of a VNIC. While it is open, no other process bridges it. Nothing of it is changed, except
// that it is set up if it is down, and what ends with the socket.
type RemoteDevice struct{ ownedDevice }

// openDevice opens the device of a segment, and removes what a killed process left on it.
func (m *Machine) openDevice(spec VNICSpec) (VNIC, error) {
	inherited := m.inherited.Take(packetFile(spec.Iface))
	s, err := openPacketSocket(m.NS, spec.Iface, remoteFilter(spec), inherited)
	if err != nil {
		return nil, err
	}
	if err := m.ownNIC(s.Ifindex); err != nil {
		return nil, errors.Join(fmt.Errorf("device %s: %w", spec.Iface, err), s.Close())
	}
	d := &RemoteDevice{ownedDevice{PacketSocket: s, machine: m}}
	// The kernel decides only when a device is up whether it must be promiscuous.
	if err = d.setUp(); err == nil && inherited == nil {
		err = d.receive(spec.MAC)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// remoteFilter lets in frames to the bridge's MAC, ARP, and NDP. Answers to the bridge go to the
// device's own MAC while another machine has the aliases, and that MAC can change. It leaves out frames
// that this host sends, and those of VLANs.
func remoteFilter(spec VNICSpec) ClassicFilter {
	filter := slices.Concat(ClassicFilter{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_OUTGOING, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}, skipPriorityTag)
	mac := spec.MAC
	toUs := []condition{
		{off: 0, size: 4, value: uint32(mac[0])<<24 | uint32(mac[1])<<16 | uint32(mac[2])<<8 | uint32(mac[3]), before: true},
		{off: 4, size: 2, value: uint32(mac[4])<<8 | uint32(mac[5]), before: true},
	}
	filter = append(filter, letInIf(toUs)...)
	filter = append(filter, letInIf(etherType(packet.EtherARP))...)
	filter = append(filter, letInIf(etherType(packet.EtherIPv6), isNDP)...)
	return append(filter, bpf.RetConstant{Val: 0})
}

// unfiltered are the kinds of devices that pass frames to any MAC. Other kinds take those to the
// bridge's MAC, and to all groups, while a socket of this process asks for them.
var unfiltered = []string{"vxlan", "geneve", "veth", "tun", "tuntap", "dummy", "gretap", "ip6gretap"}

// receive makes the device take the frames to the bridge's MAC, and those to the groups by which
// the server asks for aliases. The device must not become promiscuous for it.
func (d *RemoteDevice) receive(mac config.MAC) error {
	link, err := d.kernelLink()
	if err != nil {
		return err
	}
	switch own := config.MAC(link.Attrs().HardwareAddr); {
	case slices.Contains(unfiltered, link.Type()):
		return nil
	case own == mac:
	case link.Type() == "macvlan":
		return d.ownMACError("a macvlan takes only frames to its own MAC", own)
	default:
		before := d.promiscuity(link)
		if err := d.membership(unix.PACKET_ADD_MEMBERSHIP, unix.PACKET_MR_UNICAST, mac); err != nil {
			return err
		}
		if d.promiscuity(link) > before {
			return d.ownMACError("it cannot take frames to a second MAC without becoming promiscuous", own)
		}
	}
	return d.membership(unix.PACKET_ADD_MEMBERSHIP, unix.PACKET_MR_ALLMULTI, config.MAC{})
}

func (d *RemoteDevice) ownMACError(reason string, own config.MAC) error {
	return fmt.Errorf("device %s: %s: give the segment that one (mac %s)", d.name, reason, own)
}

// promiscuity returns how often the device, and the one on which it is, were made promiscuous.
func (d *RemoteDevice) promiscuity(of netlink.Link) (times int) {
	for _, index := range []int{of.Attrs().Index, of.Attrs().ParentIndex} {
		if link, err := d.ns.Netlink.LinkByIndex(index); index != 0 && err == nil {
			times += link.Attrs().Promisc
		}
	}
	return times
}

func (d *RemoteDevice) kernelLink() (netlink.Link, error) {
	link, err := d.ns.Netlink.LinkByIndex(d.Ifindex)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", d.name, err)
	}
	return link, nil
}

func (d *RemoteDevice) setUp() error {
	link, err := d.kernelLink()
	if err != nil || link.Attrs().RawFlags&unix.IFF_UP != 0 {
		return err
	}
	if err := d.ns.Netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("device %s is down, and cannot be set up: %w", d.name, err)
	}
	return nil
}

// Configure implements [VNIC]. Addresses, routes and neighbours are the server's, elsewhere.
func (d *RemoteDevice) Configure(VNICSettings) (changed []string, err error) { return nil, nil }

// Do implements [VNIC]: it fails, because the segment has no place on this machine.
func (d *RemoteDevice) Do(func() error) error {
	return fmt.Errorf("its server is behind device %s, so nothing on this machine can be in the segment", d.name)
}

// checkDevice returns why a segment cannot have a device, or nil.
func (m *Machine) checkDevice(s *config.Segment, devices map[string]netlink.Link) error {
	if err := checkEthernet("device", s.Device, devices); err != nil {
		return err
	}
	if mtu := devices[s.Device].Attrs().MTU; s.Address(config.IPv6).IsValid() && !fitsIPv6(mtu) {
		return fmt.Errorf("device %s has an MTU of %d, and IPv6 needs %d: raise it (ip link set %s mtu %d), or take the IPv6 address away", s.Device, mtu, minMTU, s.Device, minMTU)
	}
	// The guard drops all that comes out of the device, of every protocol.
	calls := []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"}
	if bridge, call := m.filteredBridge(s.Device, devices, calls); call != "" {
		return fmt.Errorf("device %s: br_netfilter gives the packets of bridge %s to the host's packet filter, which drops what comes out of a segment before it comes to the device: switch that off (sysctl -w net.bridge.%s=0), or name another device", s.Device, bridge, call)
	}
	return nil
}
