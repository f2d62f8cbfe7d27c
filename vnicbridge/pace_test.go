package vnicbridge

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// pacedRate lets a byte go each microsecond, and pacedBurst are the bytes of 10 ms.
const (
	pacedRate  = 8_000_000
	pacedBurst = 10_000
)

// numbered makes n packets of 1,000 bytes, each with its number.
func numbered(e ends, n int) (frames [][]byte) {
	headers := len(e.tcp("A", "")) - packet.EthHeaderLen
	for i := range n {
		frames = append(frames, e.tcp("A", fmt.Sprintf("%-*d", 1000-headers, i)))
	}
	return frames
}

// paced takes numbered packets that a device has sent. They must come in order, and next is the
// number of the first one.
func (r *rig) paced(device string, next *int) (n int) {
	r.t.Helper()
	for _, frame := range r.got(device) {
		text := strings.TrimSpace(decode(frame).payload)
		if i, err := strconv.Atoi(text); err != nil || i < *next {
			r.t.Errorf("packet %q comes, and %d was to be next", text, *next)
		} else {
			*next = i + 1
		}
		n++
	}
	return n
}

func (r *rig) wantPaced(device, when string, next *int, want int) {
	r.t.Helper()
	if n := r.paced(device, next); n < want-2 || n > want+2 { // the programs' clock goes on meanwhile
		r.t.Errorf("%s %s sends %d packets, want %d", when, device, n, want)
	}
}

// putAtOnce puts packets at a device without a pause between two of them, as soon as the machine
// lets it. Before, it takes what the other device has sent, and returns what has been refused and
// dropped. next is the number of the first packet.
func (r *rig) putAtOnce(from, to string, packets [][]byte) (next int, refused, dropped uint64) {
	r.t.Helper()
	for range 100 {
		time.Sleep(time.Second)
		r.got(to)
		refused, dropped = r.refused("a"), r.drops(from, "limit")
		r.longestRun = 0
		r.put(from, packets...)
		if r.longestRun < time.Millisecond {
			return 0, refused, dropped
		}
	}
	r.t.Fatal("the machine pauses under a program, however often packets come")
	return 0, 0, 0
}

// A burst of packets goes at once, others wait until the rate allows them, and what would wait
// for longer than 100 ms is dropped. Each way has the whole rate, and packets stay in order.
func TestLimitOfRate(t *testing.T) {
	for _, o := range outsiders {
		t.Run(o.name, func(t *testing.T) {
			inIPv6(t, limited(config.Limits{Rate: pacedRate, Burst: pacedBurst}), func(t *testing.T, r *rig) {
				alias := o.open(r, o.host, 4000)
				for _, way := range []struct {
					from, to string
					ends     ends
				}{
					{"nic0", "vnic-A", o.from(o.host, 4000, 80)},
					{"vnic-A", "nic0", o.toClient(alias, 80, 4000)},
				} {
					next, refused, dropped := r.putAtOnce(way.from, way.to, numbered(way.ends, 200))
					r.wantPaced(way.to, "at once", &next, 11)
					time.Sleep(50 * time.Millisecond)
					r.wantPaced(way.to, "in 50 ms", &next, 50)
					time.Sleep(200 * time.Millisecond)
					r.wantPaced(way.to, "in the end", &next, 50)
					dropped = r.drops(way.from, "limit") - dropped
					if dropped < 85 || dropped > 93 || r.refused("a")-refused != dropped {
						t.Errorf("at %s %d packets are counted as beyond a limit, and %d at segment a, want 89", way.from, dropped, r.refused("a")-refused)
					}
				}

				time.Sleep(time.Second)
				r.put("nic0", numbered(o.from(o.host, 4000, 80), 200)...)
				r.got("vnic-A")
				time.Sleep(time.Millisecond)
				refused := r.refused("a")
				r.put("nic0", o.from(o.host, 4000, 80).tcp("A", strings.Repeat("x", 3400)))
				if r.refused("a") != refused+1 {
					t.Error("a large packet finds room where there is little")
				}
				r.put("nic0", o.from(o.host, 4000, 80).tcp("A", "small"))
				if r.refused("a") != refused+1 {
					t.Error("a small packet finds no room where there is little")
				}
				r.got("nic0")
				r.put("vnic-A", o.toClient(alias, 80, 4000).tcp("A", "the other way"))
				if d := decode(r.one("nic0")); d.payload != "the other way" {
					t.Errorf("beside a flood into the segment %+v comes out of it", d)
				}
				if err := r.plane.Switch("lan", "b"); err != nil {
					t.Fatal(err)
				}
				r.put("nic0", o.from(o.host, 9000, 80).tcp("S", ""))
				r.one("vnic-B")

				time.Sleep(time.Second)
				r.got("vnic-A")
				if err := r.plane.Apply(limited(config.Limits{})); err != nil {
					t.Fatal(err)
				}
				r.put("nic0", numbered(o.from(o.host, 4000, 80), 200)...)
				if n := len(r.got("vnic-A")); n != 200 {
					t.Errorf("after a reload without the limit %d of 200 packets go at once", n)
				}
			})
		})
	}
}

// A super-packet takes as much of the rate as the packets into which it will be cut, with their
// headers.
func TestRateOfSuperPackets(t *testing.T) {
	const burst = 1000
	for i, o := range outsiders {
		t.Run(o.name, func(t *testing.T) {
			inIPv6(t, limited(config.Limits{Rate: pacedRate, Burst: burst}), func(t *testing.T, r *rig) {
				alias := o.open(r, o.host, 4000)
				time.Sleep(time.Second)
				r.got("nic0")
				const cut, payload = 30, 100
				ends := o.toClient(alias, 80, 4000)
				headers := len(ends.tcp("A", "")) - packet.EthHeaderLen
				r.putSuper("vnic-A", ends.tcp("A", strings.Repeat("x", cut*payload)), []byte{1, 4}[i], payload)
				r.one("nic0")
				r.put("vnic-A", ends.tcp("A", "next"))
				after := time.Duration(cut*(headers+payload)-burst) * time.Microsecond
				time.Sleep(after - time.Millisecond/2)
				r.silent("nic0")
				time.Sleep(5 * time.Millisecond)
				r.one("nic0")
			})
		})
	}
}

// Packets that wait depart although the data path changes, which does not give the segment a
// burst anew.
func TestRateMoves(t *testing.T) {
	onEachDataPath(t, limited(config.Limits{Rate: pacedRate, Burst: pacedBurst}), func(t *testing.T, r *rig) {
		o := outsiders[0]
		o.open(r, o.host, 4000)
		time.Sleep(time.Second)
		for _, datapath := range []config.Datapath{config.DatapathUserspace, config.DatapathAuto} {
			next := 0
			r.put("nic0", numbered(o.from(o.host, 4000, 80), 50)...)
			r.wantPaced("vnic-A", "at once", &next, 11)
			cfg := limited(config.Limits{Rate: pacedRate, Burst: pacedBurst})
			cfg.Datapath, cfg.MaxFlows = datapath, 5000
			if err := r.plane.Apply(cfg); err != nil {
				t.Fatal(err)
			}
			r.put("nic0", o.from(o.host, 4000, 80).tcp("A", "50"))
			r.wantPaced("vnic-A", "after the change", &next, 0)
			time.Sleep(60 * time.Millisecond)
			r.wantPaced("vnic-A", "in the end", &next, 40)
			time.Sleep(time.Second)
		}
	})
}
