package netlab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// WebOptions say how [Host.WebClient] reads the web.
type WebOptions struct {
	Protocol string         // HTTP1, HTTP2 or HTTP3, and no other
	Address  netip.Addr     // of every name
	Roots    *x509.CertPool // whose certificates are believed
}

// WebClient is an HTTP client that keeps its connections, and does not follow
// redirects. It waits at most 10 s for an answer.
type WebClient struct {
	http.Client
	connections atomic.Int32
	close       func() error
}

// WebClient returns a client that connects from the host. The caller closes it.
func (h *Host) WebClient(opts WebOptions) (*WebClient, error) {
	c := &WebClient{Client: http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       10 * time.Second,
	}}
	if opts.Protocol != HTTP3 {
		c.overTCP(h, opts)
		return c, nil
	}
	if err := c.overQUIC(h, opts); err != nil {
		return nil, fmt.Errorf("lab: HTTP/3 client on %s: %w", h.name, err)
	}
	return c, nil
}

// Connections counts the connections that were opened so far.
func (c *WebClient) Connections() int { return int(c.connections.Load()) }

// Close closes the connections.
func (c *WebClient) Close() error { return c.close() }

func (c *WebClient) overTCP(h *Host, opts WebOptions) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(opts.Protocol == HTTP1)
	protocols.SetHTTP2(opts.Protocol == HTTP2)
	transport := &http.Transport{
		Protocols:       protocols,
		TLSClientConfig: &tls.Config{RootCAs: opts.Roots},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			to, err := portAt(opts.Address, address)
			if err != nil {
				return nil, err
			}
			c.connections.Add(1)
			return h.DialContext(ctx, network, to.String())
		},
	}
	c.Transport = transport
	c.close = func() error {
		transport.CloseIdleConnections()
		return nil
	}
}

func (c *WebClient) overQUIC(h *Host, opts WebOptions) error {
	network := "udp4"
	if opts.Address.Is6() {
		network = "udp6"
	}
	var socket net.PacketConn
	err := h.Do(func() (err error) {
		socket, err = net.ListenPacket(network, ":0")
		return err
	})
	if err != nil {
		return err
	}
	connections := &quic.Transport{Conn: ownBuffers{socket}}
	requests := &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: opts.Roots},
		Dial: func(ctx context.Context, address string, tls *tls.Config, cfg *quic.Config) (*quic.Conn, error) {
			to, err := portAt(opts.Address, address)
			if err != nil {
				return nil, err
			}
			c.connections.Add(1)
			return connections.DialEarly(ctx, net.UDPAddrFromAddrPort(to), tls, cfg)
		},
	}
	c.Transport = requests
	c.close = func() error { return errors.Join(requests.Close(), connections.Close(), socket.Close()) }
	return nil
}

// ownBuffers is a socket with the system's buffers: quic-go would ask for larger
// ones, and complain on the terminal where a user namespace does not get them.
type ownBuffers struct{ net.PacketConn }

func (ownBuffers) SetReadBuffer(int) error  { return nil }
func (ownBuffers) SetWriteBuffer(int) error { return nil }

// portAt is the port of <host>:<port> at an address.
func portAt(address netip.Addr, hostPort string) (netip.AddrPort, error) {
	_, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.ParseAddrPort(net.JoinHostPort(address.String(), port))
}
