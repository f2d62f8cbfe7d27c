package vnicbridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/kernel"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// Leavings are the open files with which the kernel goes on carrying packets when the process ends,
// if somebody else keeps them open. With a note of [Plane.Note] they are what [OpenRemains] opens.
type Leavings struct {
	Files     succession.Files
	inventory Inventory
}

// Note is what the next process must know beside the files.
type Note struct {
	Text, Bans []byte

	version  uint64    // of the bans
	nextBans time.Time // when the bans may be written again: many take long
}

// SameBans tells whether the bans have not been written since an earlier note.
func (n Note) SameBans(before Note) bool { return n.version == before.version }

// note is what the text of a [Note] says.
type note struct {
	Layout    string    `json:"layout"` // of the maps
	Place     string    `json:"place"`  // of the process
	Inventory Inventory `json:"inventory"`
	State     State     `json:"state"` // without flows, bans, and what the maps have
}

// Leavings returns the open files, which belong to the caller. The error says why nothing could go
// on: packets are carried in userspace, or the kernel cannot do it.
func (p *Plane) Leavings() (l Leavings, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.inventory, err = p.inventory(p.remains); err != nil {
		return l, err
	}
	l.Files, l.inventory.Files = l.inventory.Files, nil
	l.inventory.Ended = true
	if err = p.addRemaining(&l); err != nil {
		return l, errors.Join(err, l.Files.Close())
	}
	for name := range l.Files {
		if host.IsOwnership(name) { // it would be in the way when the device is opened again
			_ = l.Files.Take(name).Close()
		}
	}
	return l, nil
}

// addRemaining adds the files that an upgrade does not need.
func (p *Plane) addRemaining(l *Leavings) (err error) {
	k := p.datapaths.kernelPath()
	if k == nil {
		return errors.New("packets are carried in userspace")
	}
	add := func(more succession.Files, failed error) {
		maps.Copy(l.Files, more)
		err = errors.Join(err, failed)
	}
	add(k.RemainingMaps())
	add(p.session.machine.RemainingFiles())
	for key, ifc := range p.devices.each() {
		device, ok := l.inventory.Devices[key]
		if !ok {
			continue
		}
		link, failed := k.RemainingLink(ifc)
		add(link, failed)
		device.Files = slices.DeleteFunc(append(device.Files, slices.Collect(maps.Keys(link))...), host.IsOwnership)
		if l.inventory.Devices[key] = device; len(link) == 0 { // it is made again
			delete(l.inventory.Devices, key)
		}
	}
	return err
}

// remains tells whether a segment's device stays when the process ends. A pair of devices would
// stay too, but its dead end would not let packets pass.
func (p *Plane) remains(segment string) bool { return p.segments[segment].spec.Netns == "" }

// Note returns what the next process must know beside the files. before is the last one: the bans,
// which may be many, stay the same slice if they have not changed.
func (p *Plane) Note(l Leavings, before Note) (n Note, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cfg == nil {
		return n, errors.New("no configuration of vnic is in force")
	}
	if n, err = p.bansNote(before); err != nil {
		return n, err
	}
	is := note{Inventory: l.inventory, State: p.lasting()}
	is.Inventory.Ports = make(map[string][]config.PortRange)
	for name := range p.segments {
		is.Inventory.Ports[name] = p.open.List(name)
	}
	for key, device := range p.devices.each() {
		for _, own := range device.Each() {
			is.State.Ifaces[familyKey(key, own.Family)] = ifaceState{Number: own.Index, Counters: own.Counters.Values(iface.CounterValues{})}
		}
	}
	for name, b := range p.bridges {
		for f, l := range b.eachLink() {
			is.State.Links[familyKey(bridgeKey(name), f)] = l.SaveOwn()
		}
	}
	for name, segment := range p.segments {
		for f, server := range segment.servers() {
			is.State.Links[familyKey(segmentKey(name), f)] = server.Save()
		}
	}
	if is.Layout, err = kernel.RemainsLayout(); err != nil {
		return n, err
	}
	if is.Place, err = host.Place(); err != nil {
		return n, err
	}
	n.Text, err = json.Marshal(is)
	return n, err
}

// bansNote returns the bans of a note.
func (p *Plane) bansNote(before Note) (n Note, err error) {
	began, version := time.Now(), p.bans.version()
	if before.Bans != nil && (version == before.version || began.Before(before.nextBans)) {
		return before, nil
	}
	n.version = version
	n.Bans, err = json.Marshal(p.bans.list())
	const share = 20 // of the time
	n.nextBans = time.Now().Add(share * time.Since(began))
	return n, err
}

// Remains is the plane of a process that has ended. Its kernel path carries packets, because somebody
// has kept its files.
type Remains struct {
	note   note
	kernel *kernel.Remains
	files  succession.Files // of the programs, and the guard
	ifaces map[string]*iface.Iface
	remove func(names []string) error
}

// OpenRemains opens what a process has left: its note, and its files, which it takes. remove must make
// all others who have files close them, for good. A device that somebody has removed since is left out.
// The error says why this process cannot go on with the rest; then nothing is taken.
func OpenRemains(n Note, files succession.Files, remove func(names []string) error) (*Remains, error) {
	r := &Remains{remove: remove, ifaces: make(map[string]*iface.Iface)}
	if err := errors.Join(json.Unmarshal(n.Text, &r.note), json.Unmarshal(n.Bans, &r.note.State.Bans)); err != nil {
		return nil, fmt.Errorf("reading the note: %w", err)
	}
	if layout, err := kernel.RemainsLayout(); err != nil {
		return nil, err
	} else if layout != r.note.Layout || r.note.State.Format != flow.SavedFormat {
		return nil, errors.New("another version of the program, which keeps flows in another form, has left it")
	}
	if place, err := host.Place(); err != nil {
		return nil, err
	} else if place != r.note.Place {
		return nil, errors.New("it was left in another network namespace, or before the machine was started")
	}
	for key, device := range r.note.Inventory.Devices {
		for _, name := range device.Files {
			if files[name] == nil {
				return nil, fmt.Errorf("the file %s of %s is not there", name, key)
			}
		}
	}
	var err error
	if r.kernel, err = kernel.OpenRemains(files); err != nil {
		return nil, err
	}
	for key := range r.note.Inventory.Devices {
		r.know(key)
	}
	r.files = make(succession.Files)
	for name := range files {
		if kernel.IsLink(name) || host.IsGuard(name) {
			r.files[name] = files.Take(name)
		}
	}
	r.note.Inventory.Files = files
	return r, r.releaseLost()
}

// releaseLost gives up the devices that live no longer. Without its slow path a device lives.
func (r *Remains) releaseLost() error {
	files := r.note.Inventory.Files
	for key, device := range r.note.Inventory.Devices {
		for _, name := range device.Files {
			switch {
			case files[name] == nil || host.Lives(name, files[name]): // the program's file is elsewhere
				continue
			case kernel.IsSlow(name):
				_ = files.Take(name).Close()
				if err := r.remove([]string{name}); err != nil {
					return err
				}
				continue
			}
			if err := r.Release(key); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// know makes the ifaces of a device known again, under their numbers.
func (r *Remains) know(key string) {
	numbered := func(f config.Family) *iface.Iface {
		state, ok := r.note.State.Ifaces[familyKey(key, f)]
		if !ok || state.Number >= iface.Max {
			return nil
		}
		ifc := iface.New(state.Number, key)
		ifc.Family = f
		ifc.Counters.Add(state.Counters)
		return ifc
	}
	ifc := numbered(config.IPv4)
	if ifc == nil {
		return
	}
	if ifc.V6 = numbered(config.IPv6); ifc.V6 != nil {
		ifc.V6.V4 = ifc
	}
	for _, own := range ifc.Each() {
		r.kernel.Know(own)
	}
	r.ifaces[key] = ifc
}

// Inventory implements [Predecessor].
func (r *Remains) Inventory() (Inventory, error) {
	i := r.note.Inventory
	i.Now = r.kernel.Now()
	return i, nil
}

// Yield implements [Predecessor].
func (r *Remains) Yield() (State, error) {
	r.kernel.Pause(true)
	s := r.note.State
	for key, device := range r.ifaces {
		for _, own := range device.Each() {
			name := familyKey(key, own.Family)
			s.Ifaces[name] = ifaceState{own.Index, own.Counters.Values(r.kernel.Counters(own)), r.kernel.Turn(own)}
			if saved, ok := s.Links[name]; ok && isBridgeKey(key) {
				saved.Hosts = r.hosts(own)
				s.Links[name] = saved
			}
		}
		if name, ok := strings.CutPrefix(key, segmentKey("")); ok {
			s.Refused[name] = r.kernel.Refused(device)
		}
	}
	file, err := succession.Memory(flowsFile, flow.SavedBytes(r.kernel.Flows()))
	s.Files = succession.Files{flowsFile: file}
	return s, err
}

// hosts returns the hosts on the link of a NIC.
func (r *Remains) hosts(nic *iface.Iface) (hosts []link.SavedHost) {
	now := r.kernel.Now()
	r.kernel.EachNeighbour(nic, func(address packet.Addr, mac config.MAC) {
		hosts = append(hosts, link.SavedHost{Address: address.Netip(), MAC: mac, Confirmed: now, Used: now})
	})
	return hosts
}

// Release implements [Predecessor]: the device ends, or no longer has its program.
func (r *Remains) Release(device string) error {
	names := r.note.Inventory.Devices[device].Files
	delete(r.ifaces, device)
	delete(r.note.Inventory.Devices, device)
	for _, name := range names { // each is in one of the two, or gone already
		_ = r.files.Take(name).Close()
		_ = r.note.Inventory.Files.Take(name).Close()
	}
	return r.remove(names)
}

// Resume implements [Predecessor].
func (r *Remains) Resume() { r.kernel.Pause(false) }

// Close closes the files that are left, after another plane has taken over for good.
func (r *Remains) Close() error {
	r.kernel.Close()
	return r.files.Close()
}

// leaveRemains closes what cannot remain, and lets the rest wait for the next process.
func (p *Plane) leaveRemains() error {
	for name, s := range p.segments {
		if !p.remains(name) {
			p.closeIface(s.iface)
			delete(p.segments, name)
		}
	}
	p.yielded.Store(true)
	if k := p.datapaths.kernelPath(); k != nil {
		k.Leave()
	}
	return p.pauseDevices(true)
}
