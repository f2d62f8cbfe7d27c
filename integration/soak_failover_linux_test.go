//go:build soak

package integration_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
)

// soakFailover moves the address of two machines under load, as keepalived elects. The flows to a server
// behind VXLAN go on.
func soakFailover(t *testing.T, datapath string) (figures []figure) {
	for _, policy := range []string{"flow_hash", "ip_hash"} {
		t.Run(policy, func(t *testing.T) { figures = append(figures, soakSurvivors(t, datapath, policy)...) })
	}
	t.Run("translate", func(t *testing.T) { figures = append(figures, soakTranslated(t, datapath)...) })
	return figures
}

// failovers are the ways in which the address moves.
var failovers = []struct {
	what      string
	end, mend func(*survivors, *twin)
}{
	{"drain",
		func(s *survivors, m *twin) { m.vnic(examples.Beginning(s.t, twoServers, "caddy vnic drain")) },
		func(s *survivors, m *twin) { m.vnic(examples.Beginning(s.t, twoServers, "caddy vnic activate")) }},
	{"kill -9 of Caddy", func(_ *survivors, m *twin) { killCaddyAsSystemd(m) }, (*survivors).start},
	{"kill -9 of keepalived", func(_ *survivors, m *twin) { m.killElector() }, func(_ *survivors, m *twin) { m.elect() }},
}

// settle is how long machines run between two moves: a kernel ignores an announcement within a second of
// the one before (its locktime).
const settle = 2 * time.Second

func soakSurvivors(t *testing.T, datapath, policy string) (figures []figure) {
	s := newSurvivors(t, datapath, policy, "preserve")
	streams := s.openStreams(max(soaked(1000), 20), uploads, downloads)
	var datagrams []*datagramEchoes
	for i := range 10 { // a thousand a second each
		datagrams = append(datagrams, s.numberDatagrams([]string{"192.168.1.2:5000", pseudo6 + ":5000"}[i%2]))
	}
	for _, move := range failovers {
		time.Sleep(settle)
		for _, d := range datagrams {
			d.gap.Store(0)
		}
		s.move(func(m *twin) { move.end(s, m) }, func(m *twin) { move.mend(s, m) })
		lost, gap := streams.lost(move.what), time.Duration(0)
		for _, d := range datagrams {
			d.goesOn(move.what)
			gap = max(gap, time.Duration(d.gap.Load()))
		}
		if 1000*len(lost) > len(streams.all) {
			t.Errorf("%s: of %d connections %d are lost: %.300q", move.what, len(streams.all), len(lost), lost)
		}
		figures = append(figures,
			figure{policy + ", " + move.what + ": connections lost", fmt.Sprintf("%d of %d", len(lost), len(streams.all))},
			figure{policy + ", " + move.what + ": the longest time without an answer to datagrams", rounded(gap).String()})
	}
	return figures
}

// soakTranslated counts what survives where the server sees clients under aliases.
func soakTranslated(t *testing.T, datapath string) (figures []figure) {
	s := newSurvivors(t, datapath, "flow_hash", "translate")
	for _, kind := range []struct {
		what     string
		up, down []string
	}{{"uploads", uploads, nil}, {"downloads", nil, downloads}} {
		what, streams := kind.what, s.openStreams(max(soaked(1000), 20), kind.up, kind.down)
		time.Sleep(settle)
		s.move(killCaddyAsSystemd, s.start)
		lost := streams.lost(what)
		if what == "uploads" && 1000*len(lost) > len(streams.all) {
			t.Errorf("of %d uploads %d are lost: %.300q", len(streams.all), len(lost), lost)
		}
		figures = append(figures, figure{"`translate`, kill -9 of Caddy: " + what + " lost", fmt.Sprintf("%d of %d", len(lost), len(streams.all))})
	}
	return figures
}
