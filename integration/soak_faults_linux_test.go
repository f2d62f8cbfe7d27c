//go:build soak

package integration_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

// soakFaults measures how long a client that keeps asking gets no answer when something
// breaks. TestFaults, TestVNICIsPutBack, TestKilledUnderLoad and
// TestSwitchingTheDataPathUnderLoad check everything else about each fault.
func soakFaults(t *testing.T, datapath string) (figures []figure) {
	s := newScene(t, paper.NetworkOptions{})
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
	return append(figures, s.serverCrashes(datapath), s.clockDiffers(datapath))
}

// serverCrashes measures how long it takes until clients get to the other segment.
func (s *scene) serverCrashes(datapath string) figure {
	s.t.Helper()
	s.load(caddyfile{
		datapath: datapath, policy: "lb_policy first a b",
		a:     "ports tcp/80\nhealth tcp/80 {\ninterval 1s\nfails 2\n}",
		sites: "http:// {\nbind vnic/b\nrespond b\n}\n",
	})
	nginx := s.startNginx("192.168.50.1:80", "a")
	s.waitFor("a is healthy", func() bool { return s.health("a").Healthy })
	if got := s.get("http://192.168.1.2/"); got != "a" {
		s.t.Errorf("before the crash PC1 gets %q", got)
	}
	worst := s.outage(func() {
		if err := nginx.Signal(unix.SIGKILL); err != nil {
			s.t.Fatal(err)
		}
	})
	if got := s.get("http://192.168.1.2/"); got != "b" {
		s.t.Errorf("after the crash PC1 gets %q", got)
	}
	return figure{"a segment's server is killed; it is asked every second, and has failed the second time", worst.Round(time.Millisecond).String()}
}

// clockDiffers measures how long an idle flow lives if Caddy's clock is days ahead of the
// kernel's. A ping's flow must live for 60 s, and at most an eighth longer.
func (s *scene) clockDiffers(datapath string) figure {
	s.t.Helper()
	s.stop()
	s.startDaysAhead(caddyfile{datapath: datapath})
	s.wantPing(s.PC1, paper.PseudoAddr)
	last := time.Now()
	for s.echoFlows() > 0 {
		time.Sleep(100 * time.Millisecond)
		if time.Since(last) > 2*time.Minute {
			s.t.Fatal("a ping's flow has not ended in two minutes")
		}
	}
	lived := time.Since(last)
	if lived < 59*time.Second || lived > 70*time.Second {
		s.t.Errorf("a ping's flow has lived for %v", lived)
	}
	return figure{"Caddy's clock is three days ahead of the kernel's: a ping's flow has lived for", lived.Round(time.Millisecond).String()}
}

// echoFlows returns the number of ICMP flows.
func (s *scene) echoFlows() int {
	s.t.Helper()
	var list flowlist.List
	if err := json.Unmarshal([]byte(s.fromAdmin("/vnic/flows?protocol=icmp")), &list); err != nil {
		s.t.Fatal(err)
	}
	return list.Matched
}

// outage returns the longest time for which PC1 gets no answer, from a fault until answers
// come regularly again.
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
