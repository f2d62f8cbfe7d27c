package vnicbridge

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
)

// Ban denies a network outside: from the next packet on, the network reaches no segment, and
// no segment reaches it (S7).
type Ban struct {
	// The network, without bits beyond its length. A single host has the length 32, or 128.
	Network netip.Prefix `json:"network"`

	// The bridge that denies it. Empty: all bridges.
	Bridge string `json:"bridge,omitempty"`

	// In place of a bridge: the segment that it does not reach, and that does not reach it.
	Segment string `json:"segment,omitempty"`

	// When it ends. Zero: it does not end by itself.
	Until time.Time `json:"until,omitzero"`

	// Whether the configuration has it. Such a ban ends by another configuration.
	Configured bool `json:"configured,omitempty"`
}

// banPlace is where a ban holds: at a bridge, at all bridges if both are empty, or for a segment.
type banPlace struct{ bridge, segment string }

// banKey identifies a ban.
type banKey struct {
	network netip.Prefix
	banPlace
}

// bans are the bans at run time and those of the configuration in force. Their lock is their
// own, so that a ban ends in time while a reload holds the plane's.
type bans struct {
	datapaths *dataPaths

	mu         lockorder.Mutex[lockorder.Bans]
	until      map[banKey]time.Time // at run time: when each ends; zero: not by itself
	changes    uint64               // of until: how many there were
	next       time.Time            // no ban ends before; zero: none ends by itself
	configured map[banKey]bool
	at         map[*iface.Iface]banPlace // the living ifaces of bridges and segments
	ofSegment  map[string]int            // how many bans at run time a segment has
	fresh      bool                      // a network was denied whose flows may live
	again      bool                      // end the flows of the denied once more, at the next tick
}

// configuredBans returns the bans of a configuration.
func configuredBans(cfg *config.Config) map[banKey]bool {
	all := make(map[banKey]bool)
	for name, b := range cfg.Bridges {
		for _, network := range b.Deny {
			all[banKey{network, banPlace{bridge: name}}] = true
		}
	}
	return all
}

// forget ends all bans.
func (b *bans) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changes++
	b.until, b.next, b.configured = make(map[banKey]time.Time), time.Time{}, nil
	b.at, b.ofSegment = make(map[*iface.Iface]banPlace), make(map[string]int)
}

// set makes a ban end at a time.
func (b *bans) set(key banKey, until time.Time) {
	if _, banned := b.until[key]; !banned && key.segment != "" {
		b.ofSegment[key.segment]++
	}
	b.until[key] = until
	b.changes++
	if !until.IsZero() && (b.next.IsZero() || until.Before(b.next)) {
		b.next = until
	}
}

// unset ends a ban at run time.
func (b *bans) unset(key banKey) {
	if _, banned := b.until[key]; banned && key.segment != "" {
		b.ofSegment[key.segment]--
	}
	delete(b.until, key)
	b.changes++
}

// over removes the bans that have ended, and returns their networks.
func (b *bans) over(now time.Time) (networks []netip.Prefix) {
	if b.next.IsZero() || now.Before(b.next) {
		return nil
	}
	b.next = time.Time{}
	for key, until := range b.until {
		switch {
		case until.IsZero():
		case !now.Before(until):
			b.unset(key)
			networks = append(networks, key.network)
		case b.next.IsZero() || until.Before(b.next):
			b.next = until
		}
	}
	return networks
}

// count returns how many bans there are.
func (b *bans) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.until) + len(b.configured)
}

// MaxBans is how many bans there can be at run time. A ban takes about 200 bytes for each
// bridge.
const MaxBans = 1 << 18

// MaxSegmentBans is how many of them can be for one segment, so that the administrators of one
// segment leave room for the others.
const MaxSegmentBans = 1 << 14

// ErrProtected says that a ban would hit who must not be banned by accident.
var ErrProtected = errors.New("to ban it all the same, use force")

// BanRequest says what to ban.
type BanRequest struct {
	Networks []netip.Prefix
	Bridge   string        // "": all, also those to come
	Segment  string        // not "": in place of a bridge, this segment alone
	For      time.Duration // 0: until Unban
	// Addresses that must not be in the networks, such as the admin's own. Those of the
	// gateways are always protected, unless Force is set.
	Protected []netip.Addr
	Force     bool // nothing is protected
}

// Ban denies networks, from the next packet on, and ends their flows. The segments' sides of
// their TCP connections get a RST; the networks get nothing. A ban that exists gets a new
// end. Bans survive reloads, and are forgotten when the plane is closed.
//
// On error nothing changes. The error wraps [ErrProtected] if a network has a protected
// address; otherwise it says which network is invalid, that the configuration in force does
// not have the bridge or the segment, or that there are too many bans.
func (p *Plane) Ban(r BanRequest) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkBan(r); err != nil {
		return err
	}
	if err := p.bans.add(r); err != nil {
		return err
	}
	p.acts.Info("networks were banned", append(r.place().attributes(), "networks", summary(r.Networks), "for", r.For)...)
	return nil
}

func (r *BanRequest) place() banPlace { return banPlace{r.Bridge, r.Segment} }

// attributes name a place in the log.
func (p banPlace) attributes() []any {
	if p.segment != "" {
		return []any{"segment", p.segment}
	}
	return []any{"bridge", cmp.Or(p.bridge, "all")}
}

// add adds bans, all or none, and ends the flows of the networks.
func (b *bans) add(r BanRequest) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if room := MaxBans - len(b.until); len(r.Networks) > room {
		return fmt.Errorf("there are %d bans, and at most %d: unban some, or ban networks instead of hosts", len(b.until), MaxBans)
	}
	if room := MaxSegmentBans - b.ofSegment[r.Segment]; r.Segment != "" && len(r.Networks) > room {
		return fmt.Errorf("segment %s has %d bans, and at most %d: unban some, or ban networks instead of hosts", r.Segment, b.ofSegment[r.Segment], MaxSegmentBans)
	}
	var until time.Time
	if r.For > 0 {
		until = time.Now().Add(r.For)
	}
	before := make(map[banKey]time.Time)
	for _, network := range r.Networks {
		key := banKey{network, r.place()}
		if end, banned := b.until[key]; banned {
			before[key] = end
		}
		b.set(key, until)
		if err := b.refresh(network); err != nil {
			b.takeBack(r, before)
			return err
		}
	}
	b.endFlows()
	return nil
}

// takeBack undoes bans of which one failed. before are those that there were already.
func (b *bans) takeBack(r BanRequest, before map[banKey]time.Time) {
	for _, network := range r.Networks {
		key := banKey{network, r.place()}
		if end, banned := before[key]; banned {
			b.set(key, end)
		} else {
			b.unset(key)
		}
		_ = b.refresh(network) // it only takes away
	}
}

// checkBan returns why a ban is refused.
func (p *Plane) checkBan(r BanRequest) error {
	if p.yielded.Load() {
		return ErrYielded
	}
	if r.Bridge != "" && p.bridges[r.Bridge] == nil {
		return config.UnknownBridge(r.Bridge, config.SortedKeys(p.bridges))
	}
	if r.Segment != "" && p.segments[r.Segment] == nil {
		return config.UnknownSegment(r.Segment, config.SortedKeys(p.segments))
	}
	if r.Bridge != "" && r.Segment != "" {
		return errors.New("both a bridge and a segment: want one of them")
	}
	if r.For < 0 {
		return fmt.Errorf("for %v: want a time that is to come", r.For)
	}
	if len(r.Networks) == 0 {
		return errors.New("no network to ban")
	}
	for _, network := range r.Networks {
		if err := config.ValidDenied(network); err != nil {
			return err
		}
		if err := p.protects(r, network); err != nil && !r.Force {
			return fmt.Errorf("%s: %w", network, err)
		}
	}
	return nil
}

// protects returns why a network must not be banned by accident.
func (p *Plane) protects(r BanRequest, network netip.Prefix) error {
	for name := range p.bridges {
		if r.Bridge != "" && r.Bridge != name || r.Segment != "" && !slices.Contains(p.cfg.BridgesOf(r.Segment), name) {
			continue
		}
		for _, gateway := range p.cfg.Bridges[name].Gateways {
			if network.Contains(gateway) {
				return fmt.Errorf("%s is the gateway of bridge %s: %w", gateway, name, ErrProtected)
			}
		}
	}
	if i := slices.IndexFunc(r.Protected, network.Contains); i >= 0 {
		return fmt.Errorf("%s is who asks for it: %w", r.Protected[i], ErrProtected)
	}
	return nil
}

// Unban ends bans, from the next packet on. Those of one bridge and those of all bridges are
// different bans. The error names a network that is not banned so; then nothing changes.
func (p *Plane) Unban(bridge string, networks ...netip.Prefix) error {
	return p.unban(banPlace{bridge: bridge}, networks)
}

// UnbanFrom ends bans of a segment, as [Plane.Unban] does.
func (p *Plane) UnbanFrom(segment string, networks ...netip.Prefix) error {
	return p.unban(banPlace{segment: segment}, networks)
}

func (p *Plane) unban(at banPlace, networks []netip.Prefix) error {
	if err := p.bans.remove(at, networks); err != nil {
		return err
	}
	p.acts.Info("bans were lifted", append(at.attributes(), "networks", summary(networks))...)
	return nil
}

func (b *bans) remove(at banPlace, networks []netip.Prefix) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, network := range networks {
		if _, ok := b.until[banKey{network, at}]; !ok {
			return fmt.Errorf("%s is not banned %s: see the bans for the networks, and where they are banned", network, at)
		}
	}
	for _, network := range networks {
		b.unset(banKey{network, at})
		if err := b.refresh(network); err != nil {
			return err
		}
	}
	return nil
}

// Bans returns all bans, those of the configuration in force too, ordered by network.
func (p *Plane) Bans() []Ban {
	all := p.bans.list()
	slices.SortFunc(all, func(a, b Ban) int {
		return cmp.Or(a.Network.Compare(b.Network), cmp.Compare(a.Bridge, b.Bridge), cmp.Compare(a.Segment, b.Segment))
	})
	return all
}

// list returns all bans in any order. The caller sorts them, without the lock: a tick waits for
// that.
func (b *bans) list() []Ban {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]Ban, 0, len(b.until)+len(b.configured))
	for key, until := range b.until {
		all = append(all, Ban{Network: key.network, Bridge: key.bridge, Segment: key.segment, Until: until})
	}
	for key := range b.configured {
		all = append(all, Ban{Network: key.network, Bridge: key.bridge, Configured: true})
	}
	return all
}

// version returns a number that changes when a ban at run time does.
func (b *bans) version() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changes
}

// restore adds the bans at run time of a predecessor.
func (b *bans) restore(all []Ban) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ban := range all {
		if ban.Configured {
			continue
		}
		b.set(banKey{ban.Network, banPlace{ban.Bridge, ban.Segment}}, ban.Until)
		if err := b.refresh(ban.Network); err != nil {
			return err
		}
	}
	return nil
}

// follow makes the NICs of some bridges, and some segments, deny what the bans of a configuration and
// those at run time say, and nothing else.
func (b *bans) follow(configured map[banKey]bool, some devices) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, bridge := range some.bridges {
		if err := b.followEach(bridge.iface, banPlace{bridge: name}, configured); err != nil {
			return err
		}
	}
	for name, segment := range some.segments {
		if err := b.followEach(segment.iface, banPlace{segment: name}, configured); err != nil {
			return err
		}
	}
	return nil
}

// followEach makes the ifaces of a device deny what the bans of its place say.
func (b *bans) followEach(device *iface.Iface, at banPlace, configured map[banKey]bool) error {
	for _, own := range device.Each() {
		b.at[own] = at
		if err := b.followAt(own, configured); err != nil {
			return err
		}
	}
	return nil
}

func (b *bans) followAt(own *iface.Iface, configured map[banKey]bool) error {
	networks, at := slices.Collect(b.datapaths.denied.At(own)), b.at[own]
	for key := range configured {
		if key.banPlace == at {
			networks = append(networks, key.network)
		}
	}
	for key := range b.until {
		if key.holdsAt(at) {
			networks = append(networks, key.network)
		}
	}
	for _, network := range networks {
		if err := b.denyIf(configured, own, network); err != nil {
			return err
		}
	}
	return nil
}

// holdsAt tells whether a ban holds at a bridge or for a segment.
func (k banKey) holdsAt(at banPlace) bool {
	return k.banPlace == at || k.banPlace == banPlace{} && at.segment == ""
}

// refresh makes the living ifaces deny a network, or no longer.
func (b *bans) refresh(network netip.Prefix) error {
	for own := range b.at {
		if err := b.denyIf(b.configured, own, network); err != nil {
			return err
		}
	}
	return nil
}

// denyIf makes an iface deny a network of its family if a ban says so.
func (b *bans) denyIf(configured map[banKey]bool, own *iface.Iface, network netip.Prefix) error {
	if config.FamilyOf(network.Addr()) != own.Family {
		return nil
	}
	at := b.at[own]
	_, denied := b.until[banKey{network, at}]
	if at.segment == "" {
		_, everywhere := b.until[banKey{network: network}]
		denied = denied || everywhere || configured[banKey{network, at}]
	}
	if b.datapaths.denied.Names(own, network) == denied {
		return nil
	}
	b.fresh = b.fresh || denied
	return b.datapaths.deny(own, network, denied)
}

// commit puts the bans of a configuration in force, which follow has prepared, and ends the
// flows of who is denied. Meanwhile a ban may have ended, and with it what follow has prepared
// for the same network. The error says what could not be denied.
func (b *bans) commit(configured map[banKey]bool) (err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.configured = configured
	for own := range b.at {
		err = errors.Join(err, b.followAt(own, configured))
	}
	b.endFlows()
	return err
}

// leave denies nobody any more at a closed iface.
func (b *bans) leave(gone *iface.Iface) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, own := range gone.Each() {
		b.datapaths.denyNobody(own)
		delete(b.at, own)
	}
}

// endFlows ends the flows of the denied, for which it looks at every flow, if there are more
// denied than before. A packet that a data path was looking at just before may still open one,
// so the next tick does it again.
func (b *bans) endFlows() {
	if !b.fresh {
		return
	}
	b.datapaths.forwarder.EndDenied()
	b.fresh, b.again = false, true
}

// tick does what is due: it ends the bans whose time is over, and returns their networks.
func (b *bans) tick(now time.Time) (over []netip.Prefix, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.again {
		b.again = false
		b.datapaths.forwarder.EndDenied()
	}
	over = b.over(now)
	for _, network := range over {
		err = errors.Join(err, b.refresh(network))
	}
	return over, err
}

// summary names a few networks, and counts the others.
func summary(networks []netip.Prefix) string {
	const most = 5
	text := fmt.Sprint(networks[:min(len(networks), most)])
	if more := len(networks) - most; more > 0 {
		text += fmt.Sprintf(" and %d others", more)
	}
	return text
}

// String says where a ban holds.
func (p banPlace) String() string {
	switch {
	case p.segment != "":
		return "from segment " + p.segment
	case p.bridge == "":
		return "at all bridges"
	}
	return "at bridge " + p.bridge
}
