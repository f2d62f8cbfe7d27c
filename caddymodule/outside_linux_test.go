package caddymodule

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/process"
)

// serveOnB runs a server on segment b that is not Caddy, until the test ends.
func (g *groups) serveOnB(t *testing.T, handler http.HandlerFunc) {
	t.Helper()
	var listener net.Listener
	if err := process.Plane.In("b", func() (err error) {
		listener, err = net.Listen("tcp", "192.168.60.1:8080")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
}

// echo answers with the request. After an upgrade it echoes what comes.
func echo(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Header.Write(w)
		w.Write(append([]byte("\r\n"), body...))
		return
	}
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", r.Header.Get("Upgrade"))
	w.WriteHeader(http.StatusSwitchingProtocols)
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	io.Copy(conn, buffered)
}

// makeOutside makes the network beyond the NIC, with a client.
func makeOutside(t *testing.T) (outside netns.NsHandle) {
	t.Helper()
	in(t, netns.None(), func() (err error) {
		outside, err = netns.New()
		return err
	})
	t.Cleanup(func() { outside.Close() })
	peer, err := netlink.LinkByName("peer0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetNsFd(peer, int(outside)); err != nil {
		t.Fatal(err)
	}
	in(t, outside, func() error {
		for _, address := range []string{"192.168.1.1/24", clientAddr + "/24"} {
			addr, err := netlink.ParseAddr(address)
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(peer, addr); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(peer)
	})
	return outside
}

// in runs a function in a namespace, on a thread that ends with the function.
func in(t *testing.T, ns netns.NsHandle, f func() error) {
	t.Helper()
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		if ns.IsOpen() {
			if err := netns.Set(ns); err != nil {
				result <- err
				return
			}
		}
		result <- f()
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// dial connects from the client.
func (g *groups) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = netns.Set(g.outside); err != nil {
			return
		}
		from := netip.AddrPortFrom(netip.MustParseAddr(clientAddr), 0)
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from), Timeout: 5 * time.Second}
		conn, err = d.DialContext(ctx, network, address)
	}()
	<-done
	return conn, err
}

// client returns an HTTP client whose connections go to the pseudo address, whatever the host
// name.
func (g *groups) client() (client *http.Client, dialed *atomic.Int32) {
	dialed = new(atomic.Int32)
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Timeout: 10 * time.Second, CheckRedirect: stay, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			dialed.Add(1)
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return g.dial(ctx, network, net.JoinHostPort(pseudo, port))
		},
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // each run makes a new CA
		ForceAttemptHTTP2: true,
	}}, dialed
}

// http3Client returns a client that speaks HTTP/3 with the pseudo address.
func (g *groups) http3Client(t *testing.T) *http.Client {
	t.Helper()
	var socket net.PacketConn
	in(t, g.outside, func() (err error) {
		socket, err = net.ListenPacket("udp", clientAddr+":0")
		return err
	})
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(pseudo), 443))
	transport := &http3.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		Dial: func(ctx context.Context, _ string, tlsConfig *tls.Config, config *quic.Config) (*quic.Conn, error) {
			return quic.DialEarly(ctx, socket, to, tlsConfig, config)
		},
	}
	t.Cleanup(func() {
		transport.Close()
		socket.Close()
	})
	return &http.Client{Timeout: 5 * time.Second, Transport: transport}
}

func (g *groups) get(t *testing.T, path string, header http.Header) (int, string) {
	t.Helper()
	req := request(t, http.MethodGet, "http://"+pseudo+path, nil)
	req.Header, req.Close = header, true
	client, _ := g.client()
	return ask(t, client, req)
}

func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func ask(t *testing.T, client *http.Client, req *http.Request) (int, string) {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func eventually(holds func() bool) bool {
	for range 50 {
		if holds() {
			return true
		}
		time.Sleep(100 * time.Millisecond)
	}
	return false
}

func deadline(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
}

func try(address string) error {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err == nil {
		conn.Close()
	}
	return err
}
