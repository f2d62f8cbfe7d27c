package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Host is a machine of a [Network]: a network namespace of its own.
type Host struct {
	name      string
	namespace string
	ns        netns.NsHandle
	netlink   *netlink.Handle

	mu        sync.Mutex
	processes []*Process
}

// Name is the host's name in its network.
func (h *Host) Name() string { return h.name }

// Namespace is the name by which `ip netns exec` enters the host.
func (h *Host) Namespace() string { return h.namespace }

// Netlink configures the host's devices, addresses, routes and neighbours.
func (h *Host) Netlink() *netlink.Handle { return h.netlink }

// Do runs fn on the host: the sockets that fn opens, the processes that it starts and
// the files that it reads under /proc/sys/net and /proc/thread-self/net are the
// host's. Goroutines that fn starts are not on the host.
func (h *Host) Do(fn func() error) error {
	return keepNamespace(func() error {
		if err := netns.Set(h.ns); err != nil {
			return fmt.Errorf("enter the network namespace %s: %w", h.namespace, err)
		}
		return fn()
	})
}

// Sysctl sets a kernel parameter of the host, as in "net/ipv4/ip_forward".
func (h *Host) Sysctl(name, value string) error {
	return h.Do(func() error {
		return os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o644)
	})
}

// Routes returns the host's main routing table, as `route -n` lists it.
func (h *Host) Routes() (routes []Route, err error) {
	err = h.Do(func() error {
		table, err := os.Open("/proc/thread-self/net/route")
		if err != nil {
			return err
		}
		defer table.Close()
		routes, err = ParseRoutes(table)
		return err
	})
	return routes, err
}

// RoutesIPv6 returns the host's main routing table of IPv6, as `ip -6 route` lists it.
func (h *Host) RoutesIPv6() (routes []Route, err error) {
	list, err := h.netlink.RouteList(nil, netlink.FAMILY_V6)
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		link, err := h.netlink.LinkByIndex(r.LinkIndex)
		if err != nil {
			return nil, err
		}
		route := Route{Gateway: netip.IPv6Unspecified(), Flags: "U", Metric: r.Priority, Device: link.Attrs().Name}
		destination, _ := netip.AddrFromSlice(r.Dst.IP)
		bits, _ := r.Dst.Mask.Size()
		route.Destination = netip.PrefixFrom(destination, bits)
		if gateway, ok := netip.AddrFromSlice(r.Gw); ok {
			route.Gateway, route.Flags = gateway, "UG"
		}
		if bits == destination.BitLen() {
			route.Flags += "H"
		}
		routes = append(routes, route)
	}
	return routes, nil
}

// Neighbours returns the IPv4 neighbours that the host knows on a device, as `arp -n`
// lists them.
func (h *Host) Neighbours(device string) ([]netlink.Neigh, error) {
	link, err := h.netlink.LinkByName(device)
	if err != nil {
		return nil, fmt.Errorf("lab: device %s of %s: %w", device, h.name, err)
	}
	return h.netlink.NeighList(link.Attrs().Index, netlink.FAMILY_V4)
}

// NeighboursIPv6 returns the IPv6 neighbours that the host knows on a device.
func (h *Host) NeighboursIPv6(device string) ([]netlink.Neigh, error) {
	link, err := h.netlink.LinkByName(device)
	if err != nil {
		return nil, fmt.Errorf("lab: device %s of %s: %w", device, h.name, err)
	}
	return h.netlink.NeighList(link.Attrs().Index, netlink.FAMILY_V6)
}

// DialContext connects from the host.
func (h *Host) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = h.Do(func() error {
		dialer := net.Dialer{FallbackDelay: -1} // no second goroutine, which would be off the host
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// HTTPClient returns a client that connects from the host, opens a connection for each
// request, and waits at most 10 s for an answer.
func (h *Host) HTTPClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{DialContext: h.DialContext, DisableKeepAlives: true},
		Timeout:   10 * time.Second,
	}
}

func (h *Host) close() error {
	h.mu.Lock()
	processes := h.processes
	h.processes = nil
	h.mu.Unlock()
	var errs []error
	for _, p := range processes {
		errs = append(errs, p.Stop())
	}
	if h.netlink != nil {
		h.netlink.Close()
	}
	if h.ns.IsOpen() {
		errs = append(errs, h.ns.Close())
	}
	return errors.Join(append(errs, deleteNamespace(h.namespace))...)
}
