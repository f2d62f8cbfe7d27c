package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/gauge"
	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Ports of the server.
const (
	httpPort    = 80
	httpsPort   = 443
	iperfPort   = 5201
	echoPort    = 7 // TCP and UDP
	discardPort = 9
)

const clientDevice = "eth0"

// site is a running variant: a client, a server, and what is between them.
type site struct {
	variant
	addresses
	bench          *bench
	suite, label   string // the names of the suite, and of the site in it
	dir            string // for configurations and logs
	client, server *netlab.Host
	inside         *netlab.Host // where the servers run; another than server if the segment has its own namespace
	listensOn      netip.Addr   // of the server
	asksFor        string       // the host in the client's URLs: the public address, or a name

	pid    int                         // of the data plane's process; 0: it has none
	reload func(context.Context) error // gives the data plane another configuration; nil: it has none
	caddy  *netlab.Caddy               // of ours and of stock Caddy

	held []io.Closer // must stay open while the site runs

	sink        *sink        // the server's discard service
	clients     []netip.Addr // the client's additional addresses
	sources     int          // how many addresses and ports of the client have opened flows
	emptyMemory gauge.Memory // of the data plane's process, with an empty flow table
}

// newSite builds a client and a server, and starts the variant and the servers behind it.
func (b *bench) newSite(ctx context.Context, network *netlab.Network, of suite, v variant) (*site, error) {
	s := &site{
		variant: v, addresses: of.on, bench: b, suite: of.name, label: v.Name,
		listensOn: of.on.inner.Addr(), asksFor: netlab.URLHost(of.on.public.Addr()),
	}
	if v.level > 0 {
		s.label += fmt.Sprintf("-%d", v.level)
	}
	s.dir = filepath.Join(b.dir, of.name, s.label)
	progress("%s: starting %s", of.name, s.label)
	if err := s.build(network); err != nil {
		return nil, fmt.Errorf("%s: %w", s.label, err)
	}
	if err := v.start(ctx, s); err != nil {
		return nil, fmt.Errorf("%s: %w", s.label, err)
	}
	if err := of.serve(ctx, s); err != nil {
		return nil, s.failed("start", err)
	}
	return s, nil
}

// release closes what was held open for the site.
func (s *site) release() {
	for _, c := range s.held {
		_ = c.Close()
	}
}

func (s *site) build(network *netlab.Network) (err error) {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	if s.client, err = network.NewHost(s.label + "-client"); err != nil {
		return err
	}
	if s.server, err = network.NewHost(s.label + "-server"); err != nil {
		return err
	}
	client := s.withAddress(netlab.End{Host: s.client, Device: clientDevice, MAC: paper.RouterMAC}, s.gateway)
	if s.inside = s.server; s.netns {
		if s.inside, err = network.NewHost(s.label + "-inside"); err != nil {
			return err
		}
	}
	server := netlab.End{Host: s.server, Device: paper.NICDevice, MAC: paper.NICMAC}
	if !s.bareNIC {
		server = s.withAddress(server, s.public)
	}
	if err := network.Link(client, server); err != nil {
		return err
	}
	if err := s.addClientAddresses(); err != nil {
		return err
	}
	for _, h := range []*netlab.Host{s.client, s.server, s.inside} {
		if s.is6() { // after the cable: the bare NIC stays without IPv6
			if err := h.EnableIPv6(); err != nil {
				return err
			}
		}
		for name, value := range hostSettings {
			if err := h.Sysctl(name, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// withAddress returns an end of the cable with an address.
func (s *site) withAddress(end netlab.End, address netip.Prefix) netlab.End {
	if s.is6() {
		end.V6 = []netip.Prefix{address}
	} else {
		end.Address = address
	}
	return end
}

// hostSettings has the sysctls of all hosts of every variant.
var hostSettings = map[string]string{
	"net/ipv4/ip_local_port_range": "10000 65535",
	// Every kernel has reno, and reno does not pace. The pacing of bbr would bound all
	// variants alike, because this link has no bandwidth to find out.
	"net/ipv4/tcp_congestion_control": "reno",
}

// addInner gives the server the address behind the variant, on lo. A variant without a VNIC
// needs no device there.
func (s *site) addInner() error {
	lo, err := s.server.Netlink().LinkByName("lo")
	if err != nil {
		return err
	}
	single := netip.PrefixFrom(s.inner.Addr(), s.inner.Addr().BitLen())
	return s.server.Netlink().AddrAdd(lo, &netlink.Addr{IPNet: netlab.IPNet(single)})
}

// serveBridge starts the same servers behind every variant: nginx with one worker for HTTP,
// iperf3, and this program's own echo and discard services.
func serveBridge(ctx context.Context, s *site) error {
	if err := s.startBackend(); err != nil {
		return err
	}
	iperf := exec.Command("iperf3", "--server", "--bind", s.listensOn.String(), "--port", fmt.Sprint(iperfPort))
	if _, err := s.inside.Start(iperf); err != nil {
		return err
	}
	if err := serveEcho(s.inside, s.listensOn); err != nil {
		return fmt.Errorf("echo service: %w", err)
	}
	if err := s.startSink(); err != nil {
		return err
	}
	if err := s.waitServer(ctx, httpPort, iperfPort); err != nil {
		return err
	}
	return s.check(ctx, "http")
}

func (s *site) startSink() (err error) {
	if s.sink, err = newSink(s.inside, s.innerPort(discardPort)); err != nil {
		return fmt.Errorf("discard service: %w", err)
	}
	return nil
}

// waitServer waits until the server listens to its ports.
func (s *site) waitServer(ctx context.Context, ports ...uint16) error {
	for _, port := range ports {
		if err := waitTCP(ctx, s.inside, s.innerPort(port)); err != nil {
			return fmt.Errorf("the server does not open port %d: %w", port, err)
		}
	}
	return nil
}

// waitTCP waits until a host can connect to a port.
func waitTCP(ctx context.Context, from *netlab.Host, to netip.AddrPort) error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := from.DialContext(ctx, "tcp", to.String())
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
	}
}

// check returns an error unless the client gets the right files. It runs before anything is
// measured.
func (s *site) check(ctx context.Context, schemes ...string) error {
	if err := waitTCP(ctx, s.client, s.publicPort(httpPort)); err != nil {
		return fmt.Errorf("the client does not reach the server: %w", err)
	}
	for _, scheme := range schemes {
		for name, size := range files {
			if err := s.checkFile(ctx, s.url(scheme, name), size); err != nil {
				return fmt.Errorf("the client does not get %s: %w", s.url(scheme, name), err)
			}
		}
	}
	return nil
}

// publicPort returns a port of the server at the address that clients use.
func (s *site) publicPort(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(s.public.Addr(), port)
}

// innerPort returns a port of the server at the address on which it listens.
func (s *site) innerPort(port uint16) netip.AddrPort { return netip.AddrPortFrom(s.listensOn, port) }

// url returns the URL of a file of the server, as clients ask for it.
func (s *site) url(scheme, file string) string {
	return scheme + "://" + s.asksFor + groupPath + file
}

// startPlane starts a program as the variant's data plane.
func (s *site) startPlane(cmd *exec.Cmd) (*netlab.Process, error) {
	log, err := os.Create(s.path("plane.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the program has its own descriptor
	cmd.Stdout, cmd.Stderr = log, log
	process, err := s.server.Start(cmd)
	if err == nil {
		s.pid = cmd.Process.Pid
	}
	return process, err
}

// path returns the path of one of the site's files.
func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// write writes a file of the site.
func (s *site) write(name, content string) (string, error) {
	path := s.path(name)
	return path, os.WriteFile(path, []byte(content), 0o644)
}

func (s *site) addClientAddresses() error {
	device, err := s.client.Netlink().LinkByName(clientDevice)
	if err != nil {
		return err
	}
	var errs []error
	s.clients = s.moreClients()
	for _, a := range s.clients {
		address := &netlink.Addr{IPNet: netlab.IPNet(netip.PrefixFrom(a, s.public.Bits()))}
		if s.is6() {
			address.Flags = unix.IFA_F_NODAD
		}
		errs = append(errs, s.client.Netlink().AddrAdd(device, address))
	}
	return errors.Join(errs...)
}

// signalPlane makes a function that reloads a program by a signal, as nginx does.
func signalPlane(process *netlab.Process, sig unix.Signal) func(context.Context) error {
	return func(context.Context) error { return process.Signal(sig) }
}
