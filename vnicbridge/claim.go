package vnicbridge

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Timing of RFC 5227. Probing takes a fifth of the RFC's least times (PROBE_MIN
// is 1 s). The RFC's times are for hosts that pick an address at random on a link of
// unknown speed. Our address is configured, and a restart waits for the probes.
// NetworkManager's default is the same 200 ms.
const (
	probeCount       = 3                      // PROBE_NUM
	probeInterval    = 200 * time.Millisecond // instead of PROBE_MIN
	announceCount    = 2                      // ANNOUNCE_NUM
	announceInterval = 2 * time.Second        // ANNOUNCE_INTERVAL
	defendInterval   = 10 * time.Second       // DEFEND_INTERVAL
)

// addressClaim holds a pseudo address on a link: it probes for another owner
// before use, announces, answers and defends (A1, A2; RFC 5227).
type addressClaim struct {
	address addr
	mac     func() MAC     // of the NIC, as it is now
	ours    func(MAC) bool // of one of our NICs: another may be on the same link
	send    func([]frame)  // on the NIC
	log     *slog.Logger

	mu        sync.Mutex
	claimed   bool     // the address is ours: before that, nothing is answered
	conflicts chan MAC // who else has it, while probing
	announces int      // still to be sent
	announced int64
	defended  int64
}

func newAddressClaim(address addr, mac func() MAC, ours func(MAC) bool, send func([]frame), log *slog.Logger) *addressClaim {
	return &addressClaim{
		address: address, mac: mac, ours: ours, send: send, log: log,
		conflicts: make(chan MAC, 1), defended: -int64(defendInterval),
	}
}

// acquire claims the address. If probing is set, it asks the link first. The error says
// who has the address.
func (c *addressClaim) acquire(probing bool) error {
	probes := probeCount
	if !probing {
		probes = 0
	}
	for range probes {
		c.send([]frame{c.request(noAddr, c.address, broadcastMAC)})
		select {
		case mac := <-c.conflicts:
			return fmt.Errorf("address %s is in use on this network by %s (it answered an ARP probe, RFC 5227): choose another pseudo address or take it away there; if that is a router that answers ARP for others (proxy ARP), set dad off", c.address.netip(), mac)
		case <-time.After(probeInterval):
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claimed = true
	c.announces = announceCount
	return nil
}

// announce makes the next ticks tell the link where the address is. It is called when
// the NIC comes back up, and when its MAC changes.
func (c *addressClaim) announce() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.announces = announceCount
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
	c.send([]frame{c.announcement()})
}

func (c *addressClaim) announcement() frame {
	return c.request(c.address, c.address, broadcastMAC)
}

// request builds an ARP request. From noAddr it is a probe.
func (c *addressClaim) request(sender, target addr, to MAC) frame {
	return arpMessage{request: true, senderMAC: c.mac(), sender: sender, target: target}.frame(to)
}

// handle answers an ARP message about the address. f is the frame that the message came
// in. asked tells that a host asked for our address, and may be remembered.
func (c *addressClaim) handle(m arpMessage, f *frame, now int64) (asked bool) {
	if m.senderMAC == c.mac() || c.ours(m.senderMAC) {
		return false // come back by a loop in the network, or from the NIC before this one
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.sender == c.address || !c.claimed && m.isProbeFor(c.address) && isRivals(m, f) {
		c.conflict(m.senderMAC, now)
		return false
	}
	if !c.claimed || !m.request || m.target != c.address {
		return false
	}
	c.send([]frame{arpMessage{
		senderMAC: c.mac(), sender: c.address, targetMAC: m.senderMAC, target: m.sender,
	}.frame(m.senderMAC)})
	return m.sender != noAddr
}

// isRivals tells whether a probe for our address comes from a host that wants the address.
// Such a host broadcasts the probe in a frame of its own (RFC 5227 §2.1.1). A switch that
// tracks devices sends its probes to single hosts, and a repeater forwards the probes of
// others.
func isRivals(m arpMessage, f *frame) bool {
	return f.dstMAC() == broadcastMAC && f.srcMAC() == m.senderMAC
}

func (m arpMessage) isProbeFor(a addr) bool {
	return m.request && m.sender == noAddr && m.target == a
}

// conflict takes in that another host uses the address. Before the address is claimed,
// this ends the probing. Afterwards we defend the address, at most once in DEFEND_INTERVAL
// (RFC 5227 §2.4 b).
func (c *addressClaim) conflict(other MAC, now int64) {
	if !c.claimed {
		select {
		case c.conflicts <- other:
		default: // one is enough
		}
		return
	}
	c.log.Warn("another host uses the pseudo address, which is defended", "address", c.address.netip(), "mac", other)
	if now-c.defended < int64(defendInterval) {
		return
	}
	c.defended = now
	c.send([]frame{c.announcement()})
}
