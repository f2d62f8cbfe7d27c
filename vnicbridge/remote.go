package vnicbridge

import (
	"iter"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// A segment is remote if its server is behind a device of the host's, which takes the place of a
// VNIC. Such a segment has no namespace, address or listener on this machine. Its device is
// followed as a NIC is, and its server resolved as a gateway is.

// servers yields the links behind the device of a remote segment. Other segments have none.
func (s *segment) servers() iter.Seq2[config.Family, *link.Server] {
	return func(yield func(config.Family, *link.Server) bool) {
		for _, own := range s.iface.Each() {
			if server, ok := own.Link().(*link.Server); ok && !yield(own.Family, server) {
				return
			}
		}
	}
}

// attachServers gives the ifaces of a remote segment their links. The plane sets their aliases
// when it puts the configuration in force.
func (p *Plane) attachServers(segment string, device *iface.Iface) {
	log := p.log.With("segment", segment, "device", device.Name)
	for _, own := range device.Each() {
		if own.Address() == packet.NoAddr {
			continue
		}
		server := link.NewServer(own, [2]uint64{p.key.K0, p.key.K1})
		server.Learned = func(c link.MACChange) {
			if c.From.IsZero() {
				log.Debug("resolved the segment's server", "address", c.Host, "mac", c.To)
			} else {
				log.Info("the segment's server has another MAC", "address", c.Host, "from", c.From, "mac", c.To)
			}
		}
		server.Publish = func(host packet.Addr, mac config.MAC, _ bool) {
			if k := p.datapaths.kernelPath(); k != nil {
				k.SetNeighbour(own, host, mac)
			}
		}
		server.SentByKernel = func(func(packet.Addr, int64)) {} // the server is refreshed anyway
		own.VNIC.Link = server
	}
}

// setAliases tells the links of a remote segment which aliases to answer for, and from which to
// ask for the server.
func (s *segment) setAliases(cfg *config.Segment) {
	for f, server := range s.servers() {
		server.SetAliases(aliasRange(cfg, f))
	}
}

// linked is a device whose link has a state.
type linked interface {
	Link() (iface.LinkState, error)
}

// adoptDevice adopts the state that a remote segment's device has when it is opened.
func (s *segment) adoptDevice() error {
	if !s.spec.Remote {
		return nil
	}
	state, err := s.dev.(linked).Link()
	if err == nil {
		s.name, s.down = state.Name, !state.Up
		s.iface.SetMTU(state.MTU)
		s.iface.SetOwnMAC(state.MAC)
	}
	return err
}

// followDevice adopts the name, MTU and carrier that a remote segment's device has now, and whether
// its server answers. A device that is gone is left to recover.
func (p *Plane) followDevice(name string, s *segment) {
	if !s.spec.Remote {
		return
	}
	state, err := s.dev.(linked).Link()
	if err != nil {
		return
	}
	log := p.log.With("segment", name, "device", s.spec.Iface)
	if state.Name != s.name {
		log.Warn("the device was renamed: it is followed until the next reload", "to", state.Name)
		s.name = state.Name
	}
	if was := s.iface.SetMTU(state.MTU); was != state.MTU {
		log.Info("the device has another MTU", "from", was, "to", state.MTU)
	}
	s.iface.SetOwnMAC(state.MAC)
	if s.down == state.Up {
		log.Info("the device went "+upOrDown(state.Up), "up", state.Up)
	}
	if state.Up && (s.down || state.NotifyPeers) {
		s.announce()
	}
	s.down = !state.Up
	if err := p.setLost(s.iface, s.whyLost()); err != nil {
		log.Error("putting in force whether the segment's server can be reached", "error", err)
	}
}

// announce makes the network behind the device learn where the bridge is now.
func (s *segment) announce() {
	for _, server := range s.servers() {
		server.Announce()
	}
}

// whyLost says why the server of a remote segment cannot be reached, or returns "".
func (s *segment) whyLost() string {
	if s.down {
		return "device " + s.spec.Iface + " is down"
	}
	for _, server := range s.servers() {
		if !server.GatewaySilent() {
			return ""
		}
	}
	return "its server does not answer behind device " + s.spec.Iface
}

// ServerStatus describes the server of a segment that is behind a device.
type ServerStatus = GatewayStatus

func (s *segment) serverStatus() (servers []ServerStatus) {
	for _, server := range s.servers() {
		address, mac := server.Router()
		servers = append(servers, ServerStatus{address.Netip(), mac, server.GatewaySilent()})
	}
	return servers
}
