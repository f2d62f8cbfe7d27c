package integration_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// remoteScene is the paper's network, in which the server of segment b is on another machine,
// behind a VXLAN.
type remoteScene struct {
	*scene
	far    *netlab.Host
	config caddyfile
}

// Names and addresses of the tunnel.
const (
	tunnel   = "vx60"
	farAddr  = "192.168.60.1"
	farAddr6 = "fd00:60::1"
)

// newRemoteScene joins the server to another machine by a network, and both by a VXLAN. The network's
// MTU is 1500, so the VXLAN's is 1450.
func newRemoteScene(t *testing.T, datapath, options string) *remoteScene {
	t.Helper()
	return newRemoteSceneOf(t, paper.NetworkOptions{IPv6: true}, datapath, options)
}

// newRemoteSceneOf is newRemoteScene with other options of the network, and with other machines that
// have an end of the VXLAN.
func newRemoteSceneOf(t *testing.T, opts paper.NetworkOptions, datapath, options string, others ...func(*remoteScene) *netlab.Host) *remoteScene {
	t.Helper()
	r := &remoteScene{scene: newScene(t, opts)}
	var err error
	if r.far, err = r.NewHost("far"); err != nil {
		t.Fatal(err)
	}
	hosts := []*netlab.Host{r.far, r.Server}
	for _, other := range others {
		hosts = append(hosts, other(r))
	}
	r.join(hosts)
	for i, h := range hosts[1:] {
		r.ip(h, fmt.Sprintf("link add %s type vxlan id 60 remote %s dstport 4789 dev under", tunnel, underAddr(0)))
		r.tunnelTo(i + 1)
	}
	r.config = caddyfile{
		datapath: datapath, families: "46", deviceB: "device " + tunnel, b: "ports any\n" + options, policy: "lb_policy flow_hash b",
		sites: "http:// {\nbind vnic/a\nrespond a\n}\n",
	}
	return r
}

func underAddr(i int) string { return fmt.Sprintf("10.0.0.%d", i+1) }

// join joins hosts to a network of their own. Their neighbours are permanent, so that tests find them
// unchanged.
func (r *remoteScene) join(hosts []*netlab.Host) {
	r.t.Helper()
	fabric, err := r.NewHost("fabric")
	if err != nil {
		r.t.Fatal(err)
	}
	var ports []string
	for i, h := range hosts {
		port := "to-" + h.Name()
		err := r.Link(
			netlab.End{Host: h, Device: "under", Address: netip.PrefixFrom(netip.MustParseAddr(underAddr(i)), 24)},
			netlab.End{Host: fabric, Device: port})
		if err == nil {
			err = h.Sysctl("net/ipv6/conf/under/disable_ipv6", "1") // the kernel's own address comes late
		}
		if err != nil {
			r.t.Fatal(err)
		}
		ports = append(ports, port)
	}
	if err := fabric.Bridge("br0", ports...); err != nil {
		r.t.Fatal(err)
	}
	for _, h := range hosts {
		for i, other := range hosts {
			if other != h {
				r.ip(h, fmt.Sprintf("neighbour replace %s lladdr %s dev under nud permanent", underAddr(i), r.macOf(other, "under")))
			}
		}
	}
}

// tunnelTo makes the far end of a host's tunnel. The first makes the far machine's device, which has the
// segment's addresses, and learns behind which end a MAC is.
func (r *remoteScene) tunnelTo(number int) {
	r.t.Helper()
	if number == 1 {
		if err := r.far.EnableIPv6(); err != nil {
			r.t.Fatal(err)
		}
		r.ip(r.far, "link add "+tunnel+" type vxlan id 60 dstport 4789 dev under")
		r.ip(r.far, "link set "+tunnel+" up")
		r.ip(r.far, "address add "+farAddr+"/24 dev "+tunnel)
		r.ip(r.far, "address add "+farAddr6+"/64 dev "+tunnel+" nodad")
		r.ip(r.far, "route add default via 192.168.60.2")
		r.ip(r.far, "-6 route add default via fd00:60::2")
	}
	r.run(r.far, "bridge", "fdb", "append", "00:00:00:00:00:00", "dev", tunnel, "dst", underAddr(number))
}

// pseudoOf is the pseudo address of a family, as a URL has it.
func pseudoOf(family string) string {
	if family == "6" {
		return pseudo6
	}
	return "192.168.1.2"
}
