//go:build soak

package integration_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// soakNames attacks a port whose segments host names choose: with half hellos that never end, and
// with a flood of SYNs from forged addresses, beyond which SYN cookies answer. Beside each, clients
// open connections and name a site. None may fail, and their p99 may be at most twice the usual one
// (N8). In the end Firefox opens the sites of names.
func soakNames(t *testing.T, datapath string) (figures []figure) {
	const usualTime = 20 * time.Second
	s := newScene(t, paper.NetworkOptions{Neighbours: 1})
	s.apart()
	s.startApart(caddyfile{
		datapath: datapath, policy: "steer a name a.example.com\nlb_policy first b",
		sites: "http://a.example.com {\nbind vnic/a\nrespond \"a\"\n}\nhttp:// {\nbind vnic/b\nrespond \"b\"\n}\n",
	})
	client := s.PC1.HTTPClient()
	measure := func(during func()) *latencies {
		return measureBy(func() (string, error) { return getAs(client, "a.example.com", "http://192.168.1.2/") }, during)
	}
	usual := measure(func() { time.Sleep(usualTime) })
	figures = append(figures, figure{"a request by name, p50 / p99 / slowest, without", usual.String()})
	for _, attack := range []struct {
		name string
		do   func()
	}{
		{"half hellos", func() { s.halfHellosFor(s.Neighbours[0], soaked(10_000), usualTime) }},
		{"SYNs at named ports", func() {
			o := s.orderFor(s.Neighbours[0])
			o.Count, o.Rate, o.Frames = soaked(400_000), floodRate, spoofed(o.MAC, synTo(80))
			s.blast(s.Neighbours[0], o)
		}},
	} {
		figures = append(figures, s.compareOf("request by name", attack.name, measure(attack.do), usual)...)
	}
	return append(figures, soakFirefox(t, datapath)...)
}

// halfHelloRate is how many half hellos begin in a second. A sender that is as fast as it can be keeps
// its own CPU busy, on which the clients run too: then a bridge without names, and its clients, are
// slower still.
const halfHelloRate = 2000

// halfHellosFor keeps up to n connections from a host open for a while, sends half of a hello by each,
// and closes the oldest for each new one.
func (s *scene) halfHellosFor(h *netlab.Host, n int, while time.Duration) {
	const dialers = 16
	half := halfHello(s.t)
	ctx, cancel := context.WithTimeout(s.t.Context(), while)
	defer cancel()
	var dialing sync.WaitGroup
	for range dialers {
		dialing.Go(func() {
			open := make([]net.Conn, n/dialers)
			tick := time.NewTicker(time.Second * dialers / halfHelloRate)
			defer tick.Stop()
			for i := 0; ctx.Err() == nil; i = (i + 1) % len(open) {
				<-tick.C
				if open[i] != nil {
					open[i].Close()
				}
				var err error
				if open[i], err = h.DialContext(ctx, "tcp4", "192.168.1.2:80"); err == nil {
					open[i].Write(half) // best effort: the bridge may have reset the connection
				} else {
					open[i] = nil
				}
			}
			for _, conn := range open {
				if conn != nil {
					conn.Close()
				}
			}
		})
	}
	dialing.Wait()
}
