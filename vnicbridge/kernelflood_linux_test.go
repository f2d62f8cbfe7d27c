package vnicbridge

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"testing/quick"
	"testing/synctest"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// inPrograms runs a test on the kernel data path alone.
func inPrograms(t *testing.T, cfg *config.Config, test func(t *testing.T, r *rig)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("only root can load the programs of the kernel data path")
	}
	t.Run("kernel", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, newRig(t, cfg)) })
	})
}

// openedByPrograms is how many flows from the NIC the programs have opened.
func (r *rig) openedByPrograms() uint64 {
	if k := r.plane.datapaths.kernelPath(); k != nil {
		return k.Counters(r.plane.bridges["lan"].iface).NewFlows
	}
	return 0
}

// openedByGo is how many flows from the NIC userspace has opened.
func (r *rig) openedByGo() uint64 { return r.plane.bridges["lan"].iface.NewFlows.Load() }

// When the table is full, the flow that has to ask for room makes some for those that
// follow it, which then need not ask.
func TestRoomForPrograms(t *testing.T) {
	cfg := paperConfig()
	cfg.MaxFlows = 64 * flow.Room
	inPrograms(t, cfg, func(t *testing.T, r *rig) {
		for i := range cfg.MaxFlows {
			r.put("nic0", fromRouter(farHost, uint16(1024+i), 53).udp("x"))
		}
		if n := r.openedByPrograms(); n != uint64(cfg.MaxFlows) {
			t.Fatalf("the programs have opened %d flows of %d", n, cfg.MaxFlows)
		}
		time.Sleep(time.Second)
		for i := range 10 * flow.Room {
			r.put("nic0", fromRouter(otherHost, uint16(1024+i), 53).udp("x"))
		}
		if asked := r.openedByGo(); asked == 0 || asked > 20 {
			t.Errorf("%d of %d new flows had to ask for room", asked, 10*flow.Room)
		}
		if s := r.plane.Status(); s.Flows > cfg.MaxFlows || s.Flows < cfg.MaxFlows-flow.Room {
			t.Errorf("%d flows in a table for %d", s.Flows, cfg.MaxFlows)
		}
	})
}

// Row A5: in a flood that wants one port, for which there are no more aliases, the
// programs change ports as userspace does, and no tuple is given twice.
func TestSaturatedPort(t *testing.T) {
	cfg := paperConfig()
	cfg.Segments["a"].Aliases = config.AddrRange{First: mustIP("192.168.50.2"), Last: mustIP("192.168.50.4")}
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		const flows = 1000
		tuples := make(map[string]string)
		for i := range flows {
			r.put("nic0", fromRouter(client(i), 4000, 53).udp("x"))
			d := decode(r.one("vnic-A"))
			tuple := fmt.Sprint(d.src, d.sport)
			if other := tuples[tuple]; other != "" {
				t.Fatalf("%s and %s are both %s", client(i), other, tuple)
			}
			tuples[tuple] = client(i)
		}
		if !r.machine.kernel {
			return
		}
		if n := r.openedByPrograms(); n < flows-2*flow.SaturationFlood {
			t.Errorf("of %d flows the programs have opened %d", flows, n)
		}
		time.Sleep(flow.IdleTimes[flow.ClassUDP] + time.Minute)
		r.put("nic0", fromRouter(farHost, 4000, 53).udp("x"))
		if d := decode(r.one("vnic-A")); d.sport != 4000 {
			t.Errorf("behind the flood a client's port has become %d", d.sport)
		}
	})
}

// Row A5: what a server may remember is kept from other clients when its flow had to
// make room, by the programs too, and when its record was needed for another flow.
func TestQuarantineOfEvictedFlows(t *testing.T) {
	cfg := paperConfig()
	cfg.MaxFlows = 100
	cfg.Segments["a"].Aliases = config.AddrRange{First: mustIP("192.168.50.2"), Last: mustIP("192.168.50.2")}
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		begin := func(client string, port uint16) ends {
			r.put("nic0", fromRouter(client, port, 80).tcp("S", ""))
			d := decode(r.one("vnic-A"))
			server := fromA(d.src, 80, d.sport)
			r.put("vnic-A", server.tcp("SA", ""))
			r.got("nic0")
			return server
		}
		const flows = 400 // far more than there are records
		for i := range flows {
			begin(client(i), uint16(4000+i))
			time.Sleep(20 * time.Millisecond)
		}
		programs := r.openedByPrograms()
		if k, ok := r.plane.datapaths.kernelPath().(memoryPath); ok {
			for number := range k.Table.Used() {
				k.Table.Discard(number) // nothing is in the way but the quarantine
			}
		}
		for i := range 50 {
			if server := begin(otherHost, uint16(4000+i)); server.dport == uint16(4000+i) {
				t.Fatalf("port %d, which the server may remember, has gone to another client", 4000+i)
			}
		}
		time.Sleep(flow.TimeWait)
		for i := range 50 {
			if server := begin(farHost, uint16(4000+i)); server.dport != uint16(4000+i) {
				t.Errorf("port %d is kept from all for longer than a server remembers it", 4000+i)
			}
		}
		if r.machine.kernel && r.openedByPrograms() == programs {
			t.Error("the programs have opened none of these flows")
		}
	})
}

// A table may hold many more flows than its near buckets have room for. Packets never go
// by what is left of an older flow.
func TestFarFlows(t *testing.T) {
	cfg := paperConfig()
	cfg.MaxFlows = 4000
	const flows, connections = 3000, 200
	if near, _ := flow.BucketsFor(cfg.MaxFlows); near*bpf.Slots > 2*flows*2/3 {
		t.Fatalf("%d near buckets hold most of %d flows", near, flows)
	}
	inPrograms(t, cfg, func(t *testing.T, r *rig) {
		question := func(i int) ends { return fromRouter(client(i/8), uint16(4000+i), 53) }
		ask := func(want string) (seen []string) {
			t.Helper()
			for i := range flows {
				r.put("nic0", question(i).udp("x"))
				d := decode(r.one(want))
				seen = append(seen, fmt.Sprint(d.src, d.sport))
			}
			return seen
		}
		first := ask("vnic-A")
		c := &clientOf{r, 4000}
		for range connections {
			if got := c.begin(); got != "a" {
				t.Fatalf("a connection goes to %s", got)
			}
			c.again(c.port)
		}
		for range 2 {
			if again := ask("vnic-A"); !slices.Equal(again, first) {
				t.Fatal("a client is seen under another tuple than before")
			}
		}
		if err := r.plane.Switch("lan", "b"); err != nil {
			t.Fatal(err)
		}
		for port := 4001; port <= 4000+connections; port++ {
			r.put("nic0", fromRouter(router, uint16(port), 80).segment("R", 1001+uint32(len("still here")), 0, ""))
			r.got("vnic-A")
			c.port = uint16(port - 1)
			for range 3 { // the SYN, and what follows it
				if got := c.begin(); got != "b" {
					t.Fatalf("a new connection with the tuple of one that was reset goes to %s, want b", got)
				}
				c.port--
			}
		}
		time.Sleep(flow.IdleTimes[flow.ClassUDP] + 2*time.Minute)
		ask("vnic-B")
		ask("vnic-B")
	})
}

// usedUp is a time that does not come: a budget that is spent up to it has no packet left.
const usedUp = 1 << 62

// A flood of what no program can carry does not take all of userspace's time.
func TestOverload(t *testing.T) {
	inPrograms(t, paperConfig(), func(t *testing.T, r *rig) {
		frame := fromRouter(farHost, 1000, 80).udp("not known")
		frame[packet.EthHeaderLen+9] = 47 // its protocol
		looked := func() uint64 { return r.drops("nic0", "protocol") + r.drops("nic0", "malformed") }
		p := r.plane.datapaths.kernelPath().(memoryPath).Plane
		const frames = 100
		for range frames {
			p.Odd.Spent = usedUp
			r.put("nic0", frame)
		}
		if dropped := r.drops("nic0", "overload"); dropped != frames || looked() != 0 {
			t.Errorf("of %d userspace has looked at %d, the programs have dropped %d", frames, looked(), dropped)
		}
		p.Odd.Spent = 0 // it is long ago
		r.put("nic0", frame)
		if looked() != 1 {
			t.Error("after a pause userspace has not seen the first one")
		}
		r.open(farHost, 2000) // what programs carry is not kept out
	})
}

func TestAgeBuckets(t *testing.T) {
	if err := quick.Check(func(age uint32) bool {
		b := flow.AgeBucket(age)
		from := flow.Youngest(b)
		return b < flow.AgeBuckets && from <= age && age-from <= age/flow.Shares
	}, nil); err != nil {
		t.Error(err)
	}
	for b := range flow.AgeBuckets {
		if got := flow.AgeBucket(flow.Youngest(b)); got != b {
			t.Fatalf("the least age of bucket %d is in bucket %d", b, got)
		}
	}
	var a flow.Ages
	for _, age := range []int32{-1, 0, 3, 3, 700} {
		a.Add(age)
	}
	for _, tt := range []struct {
		enough int
		least  uint32
		age    uint32
		n      int
	}{{1, 0, 696, 1}, {2, 0, 3, 3}, {4, 0, 0, 5}, {9, 0, 0, 5}, {9, 1, 3, 3}, {1, 800, 0, 0}} {
		if age, n := a.Oldest(tt.enough, tt.least); age != tt.age || n != tt.n {
			t.Errorf("oldest(%d, %d) is %d, %d; want %d, %d", tt.enough, tt.least, age, n, tt.age, tt.n)
		}
	}
}
