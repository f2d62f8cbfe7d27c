package link

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Timing of RFC 5227. Probing takes a fifth of the RFC's least times (PROBE_MIN
// is 1 s). The RFC's times are for hosts that pick an address at random on a link of
// unknown speed. Our address is configured, and a restart waits for the probes.
// NetworkManager's default is the same 200 ms.
const (
	probeCount       = 3                      // PROBE_NUM
	probeInterval    = 200 * time.Millisecond // instead of PROBE_MIN
	AnnounceCount    = 2                      // ANNOUNCE_NUM
	announceInterval = 2 * time.Second        // ANNOUNCE_INTERVAL
	DefendInterval   = 10 * time.Second       // DEFEND_INTERVAL
)

// addressClaim holds a pseudo address on a link: it probes for another owner
// before use, announces, answers and defends (A1, A2; RFC 5227).
type addressClaim struct {
	address packet.Addr
	mac     func() config.MAC     // of the NIC, as it is now
	ours    func(config.MAC) bool // of one of our NICs: another may be on the same link
	send    func([]packet.Frame)  // on the NIC
	log     *slog.Logger

	mu        sync.Mutex
	claimed   bool            // the address is ours: before that, nothing is answered
	conflicts chan config.MAC // who else has it, while probing
	announces int             // still to be sent
	announced int64
	defended  int64
}

func newAddressClaim(address packet.Addr, mac func() config.MAC, ours func(config.MAC) bool, send func([]packet.Frame), log *slog.Logger) *addressClaim {
	return &addressClaim{
		address: address, mac: mac, ours: ours, send: send, log: log,
		conflicts: make(chan config.MAC, 1), defended: -int64(DefendInterval),
	}
}

// Acquire claims the address. If probing is set, it asks the link first. The error says
// who has the address.
func (c *addressClaim) Acquire(probing bool) error {
	probes := probeCount
	if !probing {
		probes = 0
	}
	for range probes {
		c.send([]packet.Frame{c.request(packet.NoAddr, c.address, config.BroadcastMAC)})
		select {
		case mac := <-c.conflicts:
			return fmt.Errorf("address %s is in use on this network by %s (it answered an ARP probe, RFC 5227): choose another pseudo address or take it away there; if that is a router that answers ARP for others (proxy ARP), set dad off", c.address.Netip(), mac)
		case <-time.After(probeInterval):
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claimed = true
	c.announces = AnnounceCount
	return nil
}

// Announce makes the next ticks tell the link where the address is. It is called when
// the NIC comes back up, and when its MAC changes.
func (c *addressClaim) Announce() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.announces = AnnounceCount
	c.announced = 0
}

// tick sends the announcements that are due.
func (c *addressClaim) tick(now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.claimed || c.announces == 0 || c.announced != 0 && now-c.announced < int64(announceInterval) {
		return
	}
	c.announces--
	c.announced = now
	c.send([]packet.Frame{c.announcement()})
}

func (c *addressClaim) announcement() packet.Frame {
	return c.request(c.address, c.address, config.BroadcastMAC)
}

// request builds an ARP request. From NoAddr it is a probe.
func (c *addressClaim) request(sender, target packet.Addr, to config.MAC) packet.Frame {
	return ARPMessage{Request: true, SenderMAC: c.mac(), Sender: sender, Target: target}.Frame(to)
}

// handle answers an ARP message about the address. f is the frame that the message came
// in. asked tells that a host asked for our address, and may be remembered.
func (c *addressClaim) handle(m ARPMessage, f *packet.Frame, now int64) (asked bool) {
	if m.SenderMAC == c.mac() || c.ours(m.SenderMAC) {
		return false // come back by a loop in the network, or from the NIC before this one
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Sender == c.address || !c.claimed && m.IsProbeFor(c.address) && isRivals(m, f) {
		c.conflict(m.SenderMAC, now)
		return false
	}
	if !c.claimed || !m.Request || m.Target != c.address {
		return false
	}
	c.send([]packet.Frame{ARPMessage{
		SenderMAC: c.mac(), Sender: c.address, TargetMAC: m.SenderMAC, Target: m.Sender,
	}.Frame(m.SenderMAC)})
	return m.Sender != packet.NoAddr
}

// isRivals tells whether a probe for our address comes from a host that wants the address.
// Such a host broadcasts the probe in a frame of its own (RFC 5227 §2.1.1). A switch that
// tracks devices sends its probes to single hosts, and a repeater forwards the probes of
// others.
func isRivals(m ARPMessage, f *packet.Frame) bool {
	return f.DstMAC() == config.BroadcastMAC && f.SrcMAC() == m.SenderMAC
}

func (m ARPMessage) IsProbeFor(a packet.Addr) bool {
	return m.Request && m.Sender == packet.NoAddr && m.Target == a
}

// conflict takes in that another host uses the address. Before the address is claimed,
// this ends the probing. Afterwards we defend the address, at most once in DEFEND_INTERVAL
// (RFC 5227 §2.4 b).
func (c *addressClaim) conflict(other config.MAC, now int64) {
	if !c.claimed {
		select {
		case c.conflicts <- other:
		default: // one is enough
		}
		return
	}
	c.log.Warn("another host uses the pseudo address, which is defended", "address", c.address.Netip(), "mac", other)
	if now-c.defended < int64(DefendInterval) {
		return
	}
	c.defended = now
	c.send([]packet.Frame{c.announcement()})
}
