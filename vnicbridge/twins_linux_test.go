package vnicbridge

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/userspace"
)

// twins are two rigs of one configuration, the first on the userspace data path
// and the second on the kernel's, which must not be told apart. Nothing of them
// runs by itself: a frame is carried, and time passes, when a test says so, and they
// begin anew at no cost.
type twins struct {
	rigs  [2]*rig
	clock int64
	seed  maphash.Seed      // of the numbers that the bridge gives to clients
	draws uint64            // of random numbers, in the frame that is carried
	last  map[string][]byte // what each device sent last
}

// newTwins makes rigs with the devices of a configuration. The other
// configurations that are used with them must have the same.
func newTwins(t testing.TB, cfg *config.Config) *twins {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("only root can load the programs of the kernel data path")
	}
	w := &twins{clock: int64(time.Hour), seed: maphash.MakeSeed()}
	var making sync.WaitGroup
	for i := range w.rigs {
		making.Go(func() {
			m := &memoryMachine{kernel: i == 1, devices: make(map[string]*memoryDevice), hints: make(chan struct{}, 1), tracked: make(map[string]bool)}
			w.rigs[i] = &rig{machine: m, plane: New(Options{machine: func() (machine, error) { return m, nil }})}
			if err := w.rigs[i].plane.Apply(cfg); err != nil {
				t.Error(err)
			}
			w.rigs[i].halt()
			w.rigs[i].plane.path.Clock = func() int64 { return w.clock }
		})
	}
	making.Wait()
	rules.RandomInt = func(n int) int { w.draws++; return rand.New(rand.NewPCG(w.draws, 0)).IntN(n) }
	t.Cleanup(func() {
		rules.RandomInt = rand.IntN
		for _, r := range w.rigs {
			_ = r.plane.Close()
		}
	})
	return w
}

// lets tells whether the filter of a NIC's packet socket lets a frame in.
func (r *rig) lets(in *iface.Iface, raw []byte) bool {
	var pseudo host.PseudoAddresses
	for f := range config.Families {
		if own := in.Of(f); own != nil {
			pseudo[f] = own.Address().Netip()
		}
	}
	return classicLets(r.t, pseudo, raw)
}

// classicLets tells whether the classic filter lets a frame in. Its first three instructions
// are left out: they look at what is beside the frame.
func classicLets(t *testing.T, pseudo host.PseudoAddresses, raw []byte) bool {
	vm, err := bpf.NewVM(host.PseudoAddressFilter(pseudo)[3:])
	if err != nil {
		t.Fatal(err)
	}
	n, err := vm.Run(raw)
	return err == nil && n > 0
}

// halt ends all that a rig's plane does by itself.
func (r *rig) halt() {
	ifaces := r.plane.devices.ifaces()
	for _, p := range ifaces {
		p.Closed.Store(true)
		_ = p.Device().Close()
	}
	_ = r.plane.session.end()
	for _, p := range ifaces {
		p.Closed.Store(false)
	}
	r.plane.session = &session{machine: r.machine, stop: make(chan struct{})}
}

// begin makes the rigs as if they had just started, with a configuration and the
// neighbours that are known from the start.
func (w *twins) begin(t *testing.T, cfg *config.Config) {
	t.Helper()
	w.last = make(map[string][]byte)
	for _, r := range w.rigs {
		r.t, r.leftToHost = t, 0
		r.plane.path.Flows.RemoveIf(func(*flow.Flow) bool { return true })
	}
	w.pass(2 * flow.TimeWait) // what was superseded, or is in quarantine
	w.pass(0)                 // a record rests until the next sweep
	w.clock = int64(time.Hour)
	for _, r := range w.rigs {
		p := r.plane
		p.path.Fragments = userspace.NewFragmentTable()
		p.path.ForgetGreetings(w.seed)
		p.path.Orphans.Known = flow.BoundedMap[flow.Key, userspace.Orphan]{}
		for _, b := range p.bridges {
			for _, l := range b.links {
				if l == nil {
					continue
				}
				n := l.Table()
				used := usedMACs(n)
				n.Table = link.NewNeighbourTable()
				n.Tell(slices.Collect(maps.Keys(used)))
				n.Hear(packet.AddrOf(n.Gateway), routerMAC, true, w.clock)
			}
		}
		for _, ifc := range p.devices.ifaces() {
			for _, own := range ifc.Each() {
				own.Gauges().Turn.Store(0)
				p.path.Answers[own.Index].Store(nil)
			}
			ifc.Device().(*memoryDevice).take()
		}
		if p.cfg != cfg {
			rules, err := p.compile(cfg, p.devices, devices{})
			if err != nil {
				t.Fatal(err)
			}
			p.cfg = cfg
			p.datapaths.setRules(rules)
		}
		if k := p.datapaths.kernelPath(); k != nil {
			k.Tick(w.clock)
			k.(memoryPath).refillSYNs()
		}
		refillARP(r)
	}
}

// pass lets time pass, after which every flow has been looked at, and every known
// neighbour has been heard of.
func (w *twins) pass(d time.Duration) {
	w.clock += int64(d)
	const long = 24 * time.Hour
	for _, r := range w.rigs {
		if k := r.plane.datapaths.kernelPath(); k != nil {
			k.Tick(w.clock)
		}
		r.plane.path.Tick(w.clock, long)
		for _, b := range r.plane.bridges {
			for _, l := range b.links {
				if l == nil {
					continue
				}
				for host, e := range maps.Clone(l.Table().Table.Entries) {
					l.Table().Hear(host, e.MAC, true, w.clock)
				}
			}
		}
	}
}

// usedMACs are the MACs of the hosts that frames go to.
func usedMACs(n *link.Neighbours) map[packet.Addr]config.MAC {
	used := make(map[packet.Addr]config.MAC)
	for host, e := range n.Table.Entries {
		if e.Part() == link.PartUsed {
			used[host] = e.MAC
		}
	}
	return used
}

// put lets a frame arrive at a device of both, and compares what comes of it.
func (w *twins) put(device string, raw []byte) {
	w.rigs[0].t.Helper()
	if !runnable(raw) {
		return
	}
	var before, after [2]footprint
	draws := w.draws
	for i, r := range w.rigs {
		before[i] = r.footprint()
		w.draws = draws
		r.carry(device, raw)
		after[i] = r.footprint()
	}
	var did [2]string
	for i := range did {
		did[i] = after[i].since(before[i])
		if f := asFrame(raw); f.IsNeighbourDiscovery() {
			// Userspace sees first that a message is malformed, a program that it is for others.
			did[i] = strings.ReplaceAll(did[i], "malformed", "arp")
		}
	}
	if did[0] != did[1] {
		w.rigs[0].t.Fatalf("%x at %s: userspace:\n%s\nkernel:\n%s", raw, device, did[0], did[1])
	}
	if flows := w.rigs[0].flows(); !maps.Equal(flows, w.rigs[1].flows()) {
		w.rigs[0].t.Fatalf("%x at %s: the flows in userspace:\n%s\nin the kernel:\n%s", raw, device, w.rigs[0].flowList(), w.rigs[1].flowList())
	}
	for name, d := range w.rigs[0].machine.devices {
		d.mu.Lock()
		if n := len(d.out); n > 0 {
			w.last[name] = d.out[n-1]
		}
		d.mu.Unlock()
	}
	for _, r := range w.rigs {
		for _, d := range r.machine.devices {
			d.take()
		}
	}
}

// runnable tells whether BPF_PROG_TEST_RUN takes a frame: it refuses those that are
// shorter than their headers, and more than a page (net/bpf/test_run.c).
func runnable(raw []byte) bool {
	if len(raw) < packet.EthHeaderLen || len(raw) > 3200 {
		return false
	}
	shortest := map[uint16]int{packet.EtherIPv4: packet.IPv4MinLen, packet.EtherIPv6: 40}
	return len(raw) >= packet.EthHeaderLen+shortest[binary.BigEndian.Uint16(raw[12:])]
}

// carry takes a frame through a rig, in the way of its data path.
func (r *rig) carry(device string, raw []byte) {
	r.t.Helper()
	d := r.machine.devices[device]
	in := r.portOf(d)
	if inKernel(r, d, asFrame(raw)) {
		return
	}
	// What the program leaves to the host, the filter of a packet socket leaves out.
	if in.NIC != nil && !r.machine.kernel && !r.lets(in, raw) {
		r.leftToHost++
		return
	}
	r.plane.path.ReceiveBatch(&userspace.Arrival{In: in, Out: new(iface.Outbox)}, []packet.Frame{asFrame(raw)})
}

func (r *rig) portOf(d *memoryDevice) *iface.Iface {
	for _, p := range r.plane.devices.ifaces() {
		if p.Device() == iface.Device(d) {
			return p
		}
	}
	r.t.Fatal("no such device")
	return nil
}

// opened is how many flows from nic0 the programs have opened by themselves.
func (w *twins) opened() uint64 { return w.rigs[1].openedByPrograms() }

// footprint is what can be seen from outside of what a rig has done.
type footprint struct {
	sent       map[string][][]byte
	ports      map[string]iface.CounterValues
	gauges     map[string][3]int64
	leftToHost uint64
	flows      int
}

func (r *rig) footprint() footprint {
	f := footprint{
		sent: make(map[string][][]byte), ports: make(map[string]iface.CounterValues), gauges: make(map[string][3]int64),
		leftToHost: r.leftToHost, flows: r.plane.path.FlowCount(),
	}
	for name, d := range r.machine.devices {
		d.mu.Lock()
		f.sent[name] = slices.Clone(d.out)
		d.mu.Unlock()
	}
	for _, device := range r.plane.devices.ifaces() {
		for _, p := range device.Each() {
			var v iface.CounterValues
			if k := r.plane.datapaths.kernelPath(); k != nil {
				v = k.Counters(p)
			}
			name := p.Name
			if p.Family == config.IPv6 {
				name += " (IPv6)"
			}
			f.ports[name] = p.Counters.Values(v)
			g := p.Gauges()
			f.gauges[name] = [3]int64{g.Flows.Load(), g.Load.Load(), int64(g.Turn.Load())}
		}
	}
	return f
}

// since tells in words what happened between two footprints.
func (f footprint) since(before footprint) string {
	var text strings.Builder
	fmt.Fprintf(&text, "left to the host: %d; %d flows\n", f.leftToHost-before.leftToHost, f.flows)
	for _, name := range slices.Sorted(maps.Keys(f.ports)) {
		now, then := f.ports[name], before.ports[name]
		fmt.Fprintf(&text, "%s: %d packets %d bytes in, %d %d out, %d new flows; flows, load and turn %v", name,
			now.PacketsIn-then.PacketsIn, now.BytesIn-then.BytesIn, now.PacketsOut-then.PacketsOut,
			now.BytesOut-then.BytesOut, now.NewFlows-then.NewFlows, f.gauges[name])
		for reason := range now.Drops {
			if n := now.Drops[reason] - then.Drops[reason]; n > 0 {
				fmt.Fprintf(&text, ", dropped %d %s", n, packet.DropReason(reason))
			}
		}
		fmt.Fprintln(&text)
		for _, frame := range f.sent[name] {
			fmt.Fprintf(&text, "  sent %x\n", frame)
		}
	}
	return text.String()
}

// flowValues are all that is known of a flow.
type flowValues struct {
	in, out         string
	orig, reply     packet.Tuple
	lastSeen, flags uint32
	acks, nexts     [2]uint32
	windows         [2]uint32
	packets, bytes  [2]uint64
}

func valuesOf(f *flow.Flow) flowValues {
	v := flowValues{in: f.In.Name, out: f.Out.Name, orig: f.Orig, reply: f.Reply, lastSeen: f.LastSeen.Load(), flags: f.Flags.Load()}
	for dir := range 2 {
		v.acks[dir], v.nexts[dir] = f.Sent[dir].Ack.Load(), f.Sent[dir].Next.Load()
		v.windows[dir] = f.Windows[dir].Load()
		v.packets[dir], v.bytes[dir] = f.Sent[dir].Total()
	}
	return v
}

// flows are the living flows, by their original keys.
func (r *rig) flows() map[flow.Key]flowValues {
	flows := make(map[flow.Key]flowValues)
	r.plane.path.EachFlow(func(f *flow.Flow) {
		orig, _ := f.Keys()
		flows[orig] = valuesOf(f)
	})
	return flows
}

// flowList are the living flows in words.
func (r *rig) flowList() string {
	var list []string
	for _, v := range r.flows() {
		list = append(list, fmt.Sprintf("%+v", v))
	}
	slices.Sort(list)
	return fmt.Sprintf("%d flows\n%s", r.plane.path.FlowCount(), strings.Join(list, "\n"))
}
