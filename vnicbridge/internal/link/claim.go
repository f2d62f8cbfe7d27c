package link

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Timing of RFC 5227 §1.1. The probes are five times as fast as the RFC's (PROBE_MIN is
// 1 s), because a restart waits for them. The RFC's times are for hosts that pick an address
// at random on a link of unknown speed; the pseudo address is configured. NetworkManager
// also probes for 200 ms by default.
const (
	probeCount       = 3                      // PROBE_NUM
	probeInterval    = 200 * time.Millisecond // instead of PROBE_MIN
	AnnounceCount    = 2                      // ANNOUNCE_NUM
	TakeOverCount    = 3                      // announcements after another machine had the address (H3)
	announceInterval = 2 * time.Second        // ANNOUNCE_INTERVAL
	DefendInterval   = 10 * time.Second       // DEFEND_INTERVAL
)

// addressClaim claims a pseudo address on a link (A1, A2; RFC 5227). It probes for another
// owner, then announces the address, answers for it and defends it.
type addressClaim struct {
	address packet.Addr
	mac     func() config.MAC     // the NIC's current MAC
	ours    func(config.MAC) bool // whether a MAC is one of our NICs', which may share the link
	send    func([]packet.Frame)  // sends on the NIC
	log     *slog.Logger
	rival   func(address netip.Addr, mac config.MAC) // is told of another host with the address
	fails   func() bool                              // see Options.FailsOver

	mu        lockorder.Mutex[lockorder.Claim]
	claimed   bool            // before that, no request is answered
	standby   bool            // another machine has the address, and is no rival
	conflicts chan config.MAC // during probing: who else has the address
	announces int             // announcements still to send
	announced int64           // when the last announcement was sent, in ns; 0: never
	defended  int64           // when the last defence was sent
}

func newAddressClaim(address packet.Addr, mac func() config.MAC, send func([]packet.Frame), o Options) *addressClaim {
	return &addressClaim{
		address: address, mac: mac, ours: o.Ours, send: send, log: o.Log, rival: o.Rival, fails: o.FailsOver, defended: -int64(DefendInterval),
	}
}

// Acquire claims the address. If probing is set, it first sends probes and waits for
// objections, 600 ms in all. The error tells which host has the address.
func (c *addressClaim) Acquire(probing bool) error {
	c.mu.Lock()
	c.standby, c.conflicts = false, make(chan config.MAC, 1)
	conflicts := c.conflicts
	c.mu.Unlock()
	probes := probeCount
	if !probing {
		probes = 0
	}
	for range probes {
		c.send([]packet.Frame{c.request(packet.NoAddr, c.address, config.BroadcastMAC)})
		select {
		case mac := <-conflicts:
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

// StandBy implements [Link].
func (c *addressClaim) StandBy() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claimed, c.standby, c.announces = false, true, 0
}

// TakeOver implements [Link].
func (c *addressClaim) TakeOver(now int64) {
	c.mu.Lock()
	c.claimed, c.standby = true, false
	c.announces, c.announced = TakeOverCount, 0
	c.mu.Unlock()
	c.tick(now)
}

// Announce makes the next ticks announce the address again. The plane calls it when the NIC
// comes back up, and when the NIC's MAC changes.
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

// request returns a frame with an ARP request. If sender is NoAddr, it is a probe.
func (c *addressClaim) request(sender, target packet.Addr, to config.MAC) packet.Frame {
	return ARPMessage{Request: true, SenderMAC: c.mac(), Sender: sender, Target: target}.Frame(to)
}

// handle answers an ARP message about the address, and notices conflicts. f is the frame of
// the message. asked tells that a host asked for the address; the table of neighbours may
// then remember the host.
func (c *addressClaim) handle(m ARPMessage, f *packet.Frame, now int64) (asked bool) {
	if m.SenderMAC == c.mac() || c.ours(m.SenderMAC) {
		return false // our own frame, back through a loop or from another of our NICs
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.standby {
		return false
	}
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

// isRivals tells whether a probe for the address comes from a host that wants the address
// itself. Such a host broadcasts the probe from its own MAC (RFC 5227 §2.1.1). Two others
// must not count: a switch that tracks devices sends probes to single hosts, and a wireless
// repeater forwards probes with its own MAC.
func isRivals(m ARPMessage, f *packet.Frame) bool {
	return f.DstMAC() == config.BroadcastMAC && f.SrcMAC() == m.SenderMAC
}

// IsProbeFor tells whether the message is a probe for an address (RFC 5227 §1.1).
func (m ARPMessage) IsProbeFor(a packet.Addr) bool {
	return m.Request && m.Sender == packet.NoAddr && m.Target == a
}

// conflict handles another host's use of the address. Before the address is claimed, it
// ends the probing. Afterwards it defends the address, at most once in DefendInterval
// (RFC 5227 §2.4 b). The caller holds the lock.
func (c *addressClaim) conflict(other config.MAC, now int64) {
	if !c.claimed {
		select {
		case c.conflicts <- other:
		default: // one is enough
		}
		return
	}
	c.log.Warn("another host uses the pseudo address; defending it", "address", c.address.Netip(), "mac", other)
	if now-c.defended < int64(DefendInterval) {
		return
	}
	c.rival(c.address.Netip(), other)
	c.defended = now
	if c.fails() {
		c.announces, c.announced = max(c.announces, 1), 0
		return
	}
	c.send([]packet.Frame{c.announcement()})
}
