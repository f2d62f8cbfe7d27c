package kernel

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// Remains is the kernel path of a process that has ended. Its programs carry packets for as long as
// somebody has their links open.
type Remains struct{ path *Path }

// remainingMaps are those maps of a path that [Remains] reads. The programs keep all of them.
var remainingMaps = []string{
	bpf.Variables, bpf.BridgeMapRecords, bpf.BridgeMapAnswers, bpf.BridgeMapWide, bpf.BridgeMapShifts, bpf.BridgeMapMeters,
	bpf.BridgeMapLimits, bpf.BridgeMapCounts, bpf.BridgeMapNeighbours, bpf.BridgeMapNeighbours6,
}

// mappedRemains are those of them that are read as memory.
var mappedRemains = remainingMaps[:7]

// The names of files that are left with a service manager.
const linkPrefix = "link/"

func mapFile(name string) string    { return "map/" + name }
func linkFile(device string) string { return linkPrefix + device }

// IsLink tells whether a file keeps a program on a device.
func IsLink(name string) bool { return strings.HasPrefix(name, linkPrefix) }

// RemainingMaps returns the maps with which the programs go on when this process ends.
func (k *Path) RemainingMaps() (files succession.Files, err error) {
	files = make(succession.Files)
	for _, name := range remainingMaps {
		file, failed := succession.DuplicateDescriptor(k.Maps[name].FD(), mapFile(name))
		files[mapFile(name)] = file
		err = errors.Join(err, failed)
	}
	return files, err
}

// RemainingLink returns what keeps the program on the device of an iface when this process ends: nothing
// while the device is lost. The error says why nothing could.
func (k *Path) RemainingLink(p *iface.Iface) (succession.Files, error) {
	a := k.attached(p.Index)
	if a == nil {
		return nil, nil
	}
	fd, ok := a.LinkDescriptor()
	if !ok {
		return nil, errors.New("this kernel has no tcx (Linux 6.6), so programs end with their process")
	}
	file, err := succession.DuplicateDescriptor(fd, linkFile(p.Name))
	return succession.Files{linkFile(p.Name): file}, err
}

// Leave stops reading the slow path, so that packets wait there for the next process. The programs
// go on.
func (k *Path) Leave() {
	k.pause(true)
	k.carriers.Wait()
}

// RemainsLayout identifies the layout of the maps that [Remains] reads.
var RemainsLayout = sync.OnceValues(remainsLayout)

func remainsLayout() (string, error) {
	spec, err := bpf.LoadBridge()
	if err != nil {
		return "", err
	}
	hash, format := sha256.New(), new(btf.GoFormatter)
	for _, name := range remainingMaps {
		m := spec.Maps[name]
		key, err := declaration(format, m.Key)
		if err != nil {
			return "", fmt.Errorf("map %s: %w", name, err)
		}
		value, err := declaration(format, m.Value)
		if err != nil {
			return "", fmt.Errorf("map %s: %w", name, err)
		}
		fmt.Fprintln(hash, name, m.Type, m.KeySize, m.ValueSize, key, value)
	}
	var flags *btf.Enum
	if err := spec.Types.TypeByName("flow_flag", &flags); err != nil {
		return "", err
	}
	fmt.Fprintln(hash, flags.Values, flow.SavedFormat)
	return hex.EncodeToString(hash.Sum(nil)), nil
}

func declaration(format *btf.GoFormatter, of btf.Type) (string, error) {
	if _, void := of.(*btf.Void); void || of == nil { // the key of variables, or of a stack
		return "", nil
	}
	return format.TypeDeclaration("T", of)
}

// OpenRemains takes the maps out of the files of a path, whose layout must be [RemainsLayout].
func OpenRemains(files succession.Files) (*Remains, error) {
	k := &Path{Maps: make(map[string]*ebpf.Map), Memory: make(map[string][]byte)}
	for _, name := range remainingMaps {
		file := files.Take(mapFile(name))
		if file == nil {
			k.Free()
			return nil, fmt.Errorf("the BPF map %s is not there", name)
		}
		m, err := openMap(file)
		if err != nil {
			k.Free()
			return nil, fmt.Errorf("the BPF map %s: %w", name, err)
		}
		k.Maps[name] = m
	}
	for _, name := range mappedRemains {
		mapped, err := memory(k.Maps[name])
		if err != nil {
			k.Free()
			return nil, err
		}
		k.Memory[name] = mapped
	}
	k.Plane = &inMemory[PlaneState](k, bpf.Variables)[0]
	k.Clock = func() int64 { return ProgramClock() - k.Plane.Began.Load() }
	k.Table = flow.NewTable(flow.TableMemory{
		KeyTable: flow.KeyTable{Records: inMemory[bpf.FlowRecord](k, bpf.BridgeMapRecords), Secret: k.Plane.tableKey},
		Answers:  inMemory[flow.Traffic](k, bpf.BridgeMapAnswers),
		Wide:     inMemory[flow.WideAddresses](k, bpf.BridgeMapWide),
		Shifts:   inMemory[flow.ShiftWords](k, bpf.BridgeMapShifts),
		Meters:   inMemory[iface.Gauges](k, bpf.BridgeMapMeters),
		Limits:   inMemory[iface.Limits](k, bpf.BridgeMapLimits),
		Counts:   flow.TableCounts{Flows: &k.Plane.flows, Limit: &k.Plane.limit, Fresh: &k.Plane.fresh, Quarantine: &k.Plane.quarantine},
	}, int(k.Plane.limit.Load()), nil)
	return &Remains{k}, nil
}

// Now returns the time of the clock of the plane that has ended.
func (r *Remains) Now() int64 { return r.path.Clock() }

// Know makes an iface known, which has the number that it had in the process that has ended.
func (r *Remains) Know(p *iface.Iface) { r.path.Table.Know(p) }

// Pause makes the programs leave every packet to the slow path, where it waits, or no longer.
func (r *Remains) Pause(on bool) {
	if on {
		r.path.Drain()
	} else {
		r.path.Plane.mode.Store(bpf.Fast)
	}
}

// Flows returns the living flows between known ifaces.
func (r *Remains) Flows() (flows []flow.Saved) {
	r.path.Table.Each(func(f *flow.Flow) { flows = append(flows, f.Save()) }, func() bool { return true })
	return flows
}

// Counters returns what the programs have counted at an iface.
func (r *Remains) Counters(p *iface.Iface) iface.CounterValues { return r.path.Counters(p) }

// Turn returns which segment the next flow at a NIC gets in turn.
func (r *Remains) Turn(p *iface.Iface) uint32 { return r.path.Table.Gauges(p).Turn.Load() }

// Refused returns how many packets were beyond the limits of a segment.
func (r *Remains) Refused(vnic *iface.Iface) uint64 { return r.path.Table.Refused(vnic) }

// EachNeighbour visits the hosts on a NIC's link whose MACs the programs know.
func (r *Remains) EachNeighbour(nic *iface.Iface, visit func(packet.Addr, config.MAC)) {
	r.path.eachNeighbour(nic, func(host packet.Addr, n bpf.Neighbour) { visit(host, n.Mac) })
}

// Close closes the maps. The programs keep them.
func (r *Remains) Close() { r.path.Free() }

// openMap opens a map, and closes its file.
func openMap(file *os.File) (*ebpf.Map, error) {
	defer func() { _ = file.Close() }()
	fd, err := succession.Descriptor(file)
	if err == nil {
		fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	}
	if err != nil {
		return nil, err
	}
	return ebpf.NewMapFromFD(fd)
}
