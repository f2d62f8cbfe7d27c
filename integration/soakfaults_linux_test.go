//go:build soak

package integration_test

import (
	"context"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration"
)

// soakFaults measures how long a client that asks all the time goes without an
// answer when something breaks. What else is to hold of each fault is in TestFaults,
// TestVNICIsPutBack, TestKilledUnderLoad and TestSwitchingTheDataPathUnderLoad.
func soakFaults(t *testing.T, datapath string) (figures []figure) {
	s := newScene(t, integration.PaperOptions{})
	config := caddyfile{datapath: datapath, a: "client_ip preserve\nports any"}
	s.start(config)
	other := config
	other.datapath = map[string]string{"kernel": "userspace", "userspace": "kernel"}[datapath]
	ip := func(args string) func() { return func() { s.ip(s.Server, args) } }
	for _, fault := range []struct {
		name string
		do   func()
	}{
		{"nothing, to compare with", func() { time.Sleep(3 * time.Second) }},
		{"Caddy is killed and started again", func() { s.kill(); s.start(config) }},
		{"Caddy is stopped and started again", func() { s.stop(); s.start(config) }},
		{"the NIC goes down and up", func() { s.ip(s.Server, "link set nic0 down"); s.ip(s.Server, "link set nic0 up") }},
		{"the NIC is deleted and made again", func() { s.ip(s.Server, "link delete nic0"); s.linkAgain() }},
		{"the router has another MAC", func() { s.ip(s.Router, "link set wan address 00:24:a5:00:00:01") }},
		{"the VNIC is deleted", ip("link delete vnic-A")},
		{"the VNIC is set down", ip("link set vnic-A down")},
		{"the VNIC gets another MAC", ip("link set vnic-A address 02:00:00:00:00:01")},
		{"the VNIC loses its address", ip("address delete 192.168.50.1/24 dev vnic-A")},
		{"the VNIC loses its routes", ip("route flush dev vnic-A")},
		{"the VNIC loses its rule", ip("rule delete from 192.168.50.1")},
		{"the VNIC loses its neighbours", ip("neighbour flush dev vnic-A nud permanent")},
		{"a reload changes the data path", func() { s.load(other) }},
		{"a reload changes it back", func() { s.load(config) }},
	} {
		worst := s.outage(fault.do)
		figures = append(figures, figure{fault.name, worst.Round(time.Millisecond).String()})
	}
	return figures
}

// outage is the longest time that PC1 goes without an answer while something breaks,
// and until it is well again.
func (s *scene) outage(fault func()) (longest time.Duration) {
	s.t.Helper()
	const patience = 100 * time.Millisecond // for an answer
	asking := &clients{s: s}
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for last := time.Now(); ctx.Err() == nil; {
			once, stop := context.WithTimeout(ctx, patience)
			err := asking.ask(once, "192.168.1.2:80")
			stop()
			if err == nil {
				longest, last = max(longest, time.Since(last)), time.Now()
				asking.answers.Add(1)
			}
		}
	}()
	asking.want("before the fault")
	fault()
	asking.want("after the fault")
	cancel()
	<-done
	return longest
}
