package sites_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/sites"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// oneClient stands for a *vnicbridge.Plane that carries the flows of one client,
// 203.0.113.7, which the segment sees as 127.0.0.2.
type oneClient struct{}

var theClient, itsAlias = netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("127.0.0.2")

func (oneClient) OpenPort(segment string, port config.PortRange) (release func()) {
	fmt.Println("open:", segment, port)
	return func() { fmt.Println("closed:", segment, port) }
}

func (oneClient) Ends(_ string, _ config.Protocol, local, remote netip.AddrPort) (vnicbridge.Ends, bool) {
	ends := vnicbridge.Ends{Client: netip.AddrPortFrom(theClient, remote.Port()), Dialed: local}
	return ends, remote.Addr() == itsAlias
}

func (oneClient) Alias(_ string, _ config.Protocol, _ netip.AddrPort, ends vnicbridge.Ends) (netip.AddrPort, bool) {
	return netip.AddrPortFrom(itsAlias, ends.Client.Port()), ends.Client.Addr() == theClient
}

func (oneClient) In(_ string, f func() error) error { return f() }

// ExampleSockets_Listen shows that a server on a segment sees the real client, and that clients
// can reach its port while its listener is open.
func ExampleSockets_Listen() {
	sockets := sites.NewSockets(oneClient{})
	at := sites.Address{Segment: "a", Addrs: []netip.Addr{netip.MustParseAddr("127.80.80.1")}, Port: 8080}
	listener, err := sockets.Listen(context.Background(), at, net.ListenConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		io.WriteString(w, "hello, "+host)
	})}
	go server.Serve(listener)
	defer server.Close()

	fromAlias := &net.Dialer{LocalAddr: &net.TCPAddr{IP: itsAlias.AsSlice()}}
	client := &http.Client{Transport: &http.Transport{DialContext: fromAlias.DialContext, DisableKeepAlives: true}}
	response, err := client.Get("http://127.80.80.1:8080")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	fmt.Println(string(body))
	// Output:
	// open: a tcp/8080
	// hello, 203.0.113.7
	// closed: a tcp/8080
}
