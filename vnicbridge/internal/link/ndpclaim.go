package link

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Constants of RFC 4861 §10, which RFC 4862 §5.1 refers to.
const (
	dadTime           = time.Second // RETRANS_TIMER: how long other hosts have to object to an address
	AdvertiseCount    = 3           // MAX_NEIGHBOR_ADVERTISEMENT
	advertiseInterval = time.Second // RETRANS_TIMER
)

// ndpClaim is an address that the bridge claims on a link of IPv6 (A1, A2). The lock of the
// link guards it.
type ndpClaim struct {
	address  packet.Addr
	valid    bool       // before that, no solicitation is answered
	nonce    string     // of the solicitation that asks for another owner; empty: none was sent
	rival    config.MAC // a host that has the address, found before the claim was valid; zero: none
	defended int64      // when the last defence was sent, in ns
}

func newNDPClaim(address packet.Addr) ndpClaim {
	return ndpClaim{address: address, defended: -int64(DefendInterval)}
}

// claimTo returns the claim to an address, or nil, as while another machine has the addresses. The
// caller holds the lock.
func (l *IPv6) claimTo(address packet.Addr) *ndpClaim {
	switch {
	case l.standby:
		return nil
	case address == l.pseudo.address:
		return &l.pseudo
	case address == l.linkLocal.address:
		return &l.linkLocal
	}
	return nil
}

// Acquire claims the pseudo address and the link-local address. If probing is set, it first
// asks the link for other owners (Duplicate Address Detection, RFC 4862 §5.4), which takes a
// second. If another host has the link-local address, it tries another one, unless the
// address is configured.
func (l *IPv6) Acquire(probing bool) error {
	l.mu.Lock()
	l.standby = false
	l.mu.Unlock()
	if err := l.listen(); err != nil {
		return err
	}
	if probing {
		if err := l.probe(); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pseudo.valid, l.linkLocal.valid = true, true
	l.announceSoon()
	return nil
}

// StandBy implements [Link]. Switches are not told that the NIC leaves the groups, because the
// address must not be named.
func (l *IPv6) StandBy() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.standby, l.announces = true, 0
	l.pseudo, l.linkLocal = newNDPClaim(l.pseudo.address), newNDPClaim(l.linkLocal.address)
}

// TakeOver implements [Link].
func (l *IPv6) TakeOver(now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.standby = false
	l.pseudo.valid, l.linkLocal.valid = true, true
	l.announceSoon()
	l.announceDue(now)
	l.reportDue(now)
}

// probe asks for other owners of both addresses, which are not valid yet.
func (l *IPv6) probe() error {
	for conflicts := uint8(1); ; conflicts++ {
		rival, err := l.probeOnce()
		switch {
		case err != nil || rival.IsZero():
			return err
		case l.derive == nil:
			return fmt.Errorf("link-local address %s is in use on this network by %s (Duplicate Address Detection, RFC 4862): choose another link_local or take it away there; if that is a router that answers for others (NDP proxy), set dad off", l.linkLocal.address.Netip(), rival)
		case conflicts == maxLinkLocals:
			return fmt.Errorf("%d link-local addresses that are derived for the bridge are in use on this network, the last one by %s (Duplicate Address Detection, RFC 4862): if that is a router that answers for others (NDP proxy), set dad off, else choose a link_local", conflicts, rival)
		}
		l.log.Warn("another host has the bridge's link-local address; trying the next one", "address", l.linkLocal.address.Netip(), "mac", rival)
		l.mu.Lock()
		l.linkLocal = newNDPClaim(l.derive(conflicts))
		l.mu.Unlock()
		if err := l.listen(); err != nil {
			return err
		}
	}
}

// probeOnce solicits the addresses that it has not solicited before, and waits for
// objections. rival is the MAC of a host that has the link-local address. The error names a
// host that has the pseudo address.
func (l *IPv6) probeOnce() (rival config.MAC, err error) {
	l.mu.Lock()
	l.report(l.listener.joined(), l.ticked)
	l.solicitOwner(&l.pseudo)
	l.solicitOwner(&l.linkLocal)
	l.mu.Unlock()
	half := time.After(dadTime / 2)
	for end := time.After(dadTime); ; {
		select {
		case <-half: // a switch may have lost the first report
			l.mu.Lock()
			l.report(l.listener.joined(), l.ticked)
			l.mu.Unlock()
		case <-l.rivals:
		case <-end:
			return l.rivalOf(&l.linkLocal), nil
		}
		if mac := l.rivalOf(&l.pseudo); !mac.IsZero() {
			return rival, fmt.Errorf("address %s is in use on this network by %s (Duplicate Address Detection, RFC 4862): choose another pseudo address or take it away there; if that is a router that answers for others (NDP proxy), set dad off", l.pseudo.address.Netip(), mac)
		}
	}
}

func (l *IPv6) rivalOf(c *ndpClaim) config.MAC {
	l.mu.Lock()
	defer l.mu.Unlock()
	return c.rival
}

// solicitOwner asks which other host has an address, once. The caller holds the lock.
func (l *IPv6) solicitOwner(c *ndpClaim) {
	if c.nonce != "" {
		return
	}
	c.nonce = newNonce()
	m := NDPMessage{To: SolicitedNode(c.address), Target: c.address, Nonce: c.nonce}
	l.send(m.Frame(l.nic.MAC(), GroupMAC(m.To)))
}

// nonceLen is the length of a nonce in bytes: the least that an option can have
// (RFC 3971 §5.3.2).
const nonceLen = 6

// newNonce returns a nonce, by which the bridge knows its own solicitation again if a link
// returns it (RFC 7527 §4.1).
func newNonce() string {
	nonce := make([]byte, nonceLen)
	_, _ = rand.Read(nonce) // never fails
	return string(nonce)
}

// announceSoon makes the next ticks announce the addresses and report their groups. The
// caller holds the lock.
func (l *IPv6) announceSoon() {
	l.announces, l.announced = AdvertiseCount, 0
	l.listener.repeat()
}

// announceDue sends the announcements that are due. The caller holds the lock.
func (l *IPv6) announceDue(now int64) {
	if !l.pseudo.valid || l.announces == 0 || l.announced != 0 && now-l.announced < int64(advertiseInterval) {
		return
	}
	l.announces--
	l.announced = now
	l.send(l.announcement(&l.pseudo), l.announcement(&l.linkLocal))
}

// announcement returns a frame that tells all hosts which MAC an address of ours has.
func (l *IPv6) announcement(c *ndpClaim) packet.Frame {
	return l.advertisement(c, allNodes, GroupMAC(allNodes))
}

// advertisement returns a frame that tells which MAC an address of ours has. If it goes to one
// host, it is an answer.
func (l *IPv6) advertisement(c *ndpClaim, to packet.Addr, mac config.MAC) packet.Frame {
	return NDPMessage{
		Advertisement: true, From: c.address, To: to, Target: c.address, MAC: l.nic.MAC(),
		Solicited: !isMulticast(to), Override: true,
	}.Frame(l.nic.MAC(), mac)
}

// answer answers a solicitation for an address of ours, and notices conflicts. It returns
// true if it has answered.
func (l *IPv6) answer(m NDPMessage, f *packet.Frame, now int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.claimTo(m.From); c != nil {
		l.conflict(c, m.senderOf(f), now)
		return false
	}
	c := l.claimTo(m.Target)
	if c == nil || m.Nonce != "" && m.Nonce == c.nonce {
		return false // about another host, or our own, back through a loop
	}
	if !c.valid {
		if m.From == unspecified && f.DstMAC().IsGroup() {
			l.conflict(c, m.senderOf(f), now) // it wants the address, too
		}
		return false
	}
	if !isMulticast(m.To) && l.claimTo(m.To) == nil {
		return false
	}
	if m.From == unspecified {
		l.send(l.announcement(c)) // the other host then gives up the address (RFC 4862 §5.4.4)
	} else {
		l.send(l.advertisement(c, m.From, m.senderOf(f)))
	}
	return true
}

// contradicts tells whether another host advertises an address of ours.
func (l *IPv6) contradicts(m NDPMessage, f *packet.Frame, now int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.claimTo(m.Target)
	if c == nil {
		c = l.claimTo(m.From)
	}
	if c == nil {
		return false
	}
	l.conflict(c, m.senderOf(f), now)
	return true
}

// conflict handles another host's use of an address. Before the address is valid, it ends the
// probing. Afterwards it defends the address, at most once in DefendInterval. The caller holds
// the lock.
func (l *IPv6) conflict(c *ndpClaim, other config.MAC, now int64) {
	if !c.valid {
		c.rival = other
		select {
		case l.rivals <- struct{}{}:
		default: // probeOnce looks soon anyway
		}
		return
	}
	l.log.Warn("another host uses an address of the bridge; defending it", "address", c.address.Netip(), "mac", other)
	if now-c.defended < int64(DefendInterval) {
		return
	}
	l.rival(c.address.Netip(), other)
	c.defended = now
	if l.fails() {
		l.announces, l.announced = max(l.announces, 1), 0
		return
	}
	l.send(l.announcement(c))
}
