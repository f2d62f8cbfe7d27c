package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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

// The addresses of every network. The client is the bridge's gateway, so that only the cable
// and the variant are between the client and the server.
var (
	clientAddr = paper.RouterAddr
	publicAddr = paper.PseudoAddr
	innerAddr  = netip.MustParseAddr("192.168.50.1") // of the server behind a variant
	aliasAddr  = netip.MustParseAddr("192.168.50.2") // under which it sees the client
	innerNet   = netip.MustParsePrefix("192.168.50.0/24")
	otherAddr  = netip.MustParseAddr("192.168.60.1") // of another group, which no client uses
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
	bench          *bench
	suite, label   string // the names of the suite, and of the site in it
	dir            string // for configurations and logs
	client, server *netlab.Host
	public, inner  netip.Addr // where clients reach the server, and where it listens

	pid    int                         // of the data plane's process; 0: it has none
	reload func(context.Context) error // gives the data plane another configuration; nil: it has none
	caddy  *netlab.Caddy               // of ours and of stock Caddy

	held []io.Closer // must stay open while the site runs

	sink        *sink        // the server's discard service
	sources     int          // how many addresses and ports of the client have opened flows
	emptyMemory gauge.Memory // of the data plane's process, with an empty flow table
}

// newSite builds a client and a server, and starts the variant and the servers behind it.
func (b *bench) newSite(ctx context.Context, network *netlab.Network, of suite, v variant) (*site, error) {
	s := &site{variant: v, bench: b, suite: of.name, label: v.Name, public: publicAddr, inner: innerAddr}
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
	client := netlab.End{Host: s.client, Device: clientDevice, MAC: paper.RouterMAC, Address: netip.PrefixFrom(clientAddr, 24)}
	server := netlab.End{Host: s.server, Device: paper.NICDevice, MAC: paper.NICMAC}
	if !s.bareNIC {
		server.Address = netip.PrefixFrom(publicAddr, 24)
	}
	if err := network.Link(client, server); err != nil {
		return err
	}
	if err := s.addClientAddresses(); err != nil {
		return err
	}
	for _, h := range []*netlab.Host{s.client, s.server} {
		for name, value := range hostSettings {
			if err := h.Sysctl(name, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// hostSettings has the sysctls of both hosts of every variant.
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
	address := &netlink.Addr{IPNet: &net.IPNet{IP: innerAddr.AsSlice(), Mask: net.CIDRMask(32, 32)}}
	return s.server.Netlink().AddrAdd(lo, address)
}

// serveBridge starts the same servers behind every variant: nginx with one worker for HTTP,
// iperf3, and this program's own echo and discard services.
func serveBridge(ctx context.Context, s *site) error {
	if err := s.startBackend(); err != nil {
		return err
	}
	iperf := exec.Command("iperf3", "--server", "--bind", s.inner.String(), "--port", fmt.Sprint(iperfPort))
	if _, err := s.server.Start(iperf); err != nil {
		return err
	}
	if err := serveEcho(s.server, s.inner); err != nil {
		return fmt.Errorf("echo service: %w", err)
	}
	if err := s.startSink(); err != nil {
		return err
	}
	for _, port := range []uint16{httpPort, iperfPort} {
		if err := waitTCP(ctx, s.server, netip.AddrPortFrom(s.inner, port)); err != nil {
			return fmt.Errorf("the server does not come up: %w", err)
		}
	}
	return s.check(ctx, "http")
}

func (s *site) startSink() (err error) {
	if s.sink, err = newSink(s.server, netip.AddrPortFrom(s.inner, discardPort)); err != nil {
		return fmt.Errorf("discard service: %w", err)
	}
	return nil
}

// waitTCP waits until a host can connect to a port.
func waitTCP(ctx context.Context, from *netlab.Host, to netip.AddrPort) error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := from.DialContext(ctx, "tcp4", to.String())
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
func (s *site) publicPort(port uint16) netip.AddrPort { return netip.AddrPortFrom(s.public, port) }

// url returns the URL of a file of the server at the address that clients use.
func (s *site) url(scheme, file string) string {
	return scheme + "://" + s.public.String() + groupPath + file
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

// clientAddrs is how many addresses the client has in addition to its own, as sources of
// flows. Each allows as many flows as it has ports.
const clientAddrs = 20

// moreClient returns one of the client's additional addresses.
func moreClient(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 1, byte(101 + n)}) }

func (s *site) addClientAddresses() error {
	device, err := s.client.Netlink().LinkByName(clientDevice)
	if err != nil {
		return err
	}
	var errs []error
	for n := range clientAddrs {
		address := &netlink.Addr{IPNet: &net.IPNet{IP: moreClient(n).AsSlice(), Mask: net.CIDRMask(24, 32)}}
		errs = append(errs, s.client.Netlink().AddrAdd(device, address))
	}
	return errors.Join(errs...)
}

// signalPlane makes a function that reloads a program by a signal, as nginx does.
func signalPlane(process *netlab.Process, sig unix.Signal) func(context.Context) error {
	return func(context.Context) error { return process.Signal(sig) }
}
