//go:build soak

package integration_test

import (
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// soakNames attacks a port whose segments host names choose: with half hellos that never end, and
// with a flood of SYNs from forged addresses, beyond which SYN cookies answer. Beside each, clients
// open connections and name a site. None may fail, and their p99 may be at most twice the usual one, or
// what it is beside the same without a bridge (N8). In the end Firefox opens the sites of names.
func soakNames(t *testing.T, datapath string) (figures []figure) {
	plain := make(map[string]*latencies)
	t.Run("without a bridge", func(t *testing.T) {
		s := newScene(t, paper.NetworkOptions{Neighbours: 8})
		s.apart()
		s.ip(s.Server, "addr add 192.168.1.2/24 dev nic0")
		s.ip(s.Server, "route add default via 192.168.1.1")
		s.startApart(verbatim("{\n\tskip_install_trust\n}\nhttp:// {\n\trespond a\n}\nhttps://b.example.com {\n\ttls internal\n\trespond b\n}\n"))
		for _, m := range s.besideGreetings() {
			plain[m.beside] = m.latencies
			figures = append(figures, figure{"without a bridge: a request, p50 / p99 / slowest, beside " + m.beside, m.String()})
		}
	})
	s := newScene(t, paper.NetworkOptions{Neighbours: 8})
	s.apart()
	s.startApart(caddyfile{
		datapath: datapath, policy: "steer a name a.example.com\nlb_policy first b", global: "skip_install_trust",
		sites: "http://a.example.com {\nbind vnic/a\nrespond \"a\"\n}\nhttps://b.example.com {\nbind vnic/b\ntls internal\nrespond \"b\"\n}\n",
	})
	measured := s.besideGreetings()
	for _, m := range measured {
		figures = append(figures, figure{"a request by name, p50 / p99 / slowest, beside " + m.beside, m.String()})
		s.wantWithin("request by name", m.beside, m.latencies, max(2*measured[0].percentile(99), plain[m.beside].percentile(99)))
	}
	return append(figures, soakFirefox(t, datapath)...)
}

// measurement is how long a client's requests took beside something.
type measurement struct {
	beside string
	*latencies
}

// besideGreetings measures requests by name beside nothing, and beside two kinds of attacks by clients
// that begin connections.
func (s *scene) besideGreetings() (all []measurement) {
	s.t.Helper()
	const usualTime = 20 * time.Second
	for _, attack := range []struct {
		name string
		do   func()
	}{
		{"nothing else", func() { time.Sleep(usualTime) }},
		{"SYNs at named ports", func() {
			o := s.orderFor(s.Neighbours[0])
			o.Count, o.Rate, o.Frames = soaked(400_000), floodRate, spoofed(o.MAC, synTo(80))
			s.blast(s.Neighbours[0], o)
		}},
		{"half hellos", func() { s.halfHellosFor(soaked(10_000), usualTime) }},
	} {
		all = append(all, measurement{attack.name, s.measureApart(asking{"a.example.com", "http://192.168.1.2/"}, attack.do)})
	}
	return all
}
