package integration_test

import (
	"fmt"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// wantBackAfterACrash checks that systemd starts Caddy again each time that it is
// killed. The container's limit of starts is so strict that the unit must have none.
func (u *unit) wantBackAfterACrash() {
	s := u.s
	s.t.Helper()
	for crash := range 2 {
		killed := u.property("caddy", "MainPID")
		u.run("kill", "-KILL", killed)
		s.waitFor(fmt.Sprintf("crash %d has been followed by a start", crash+1), func() bool {
			pid := u.property("caddy", "MainPID")
			return pid != killed && pid != "0"
		})
	}
	s.waitFor("Caddy runs again", func() bool { return configInForce(s) })
	s.wantService()
}

// wantStartTriedAgain checks that a start which fails is tried again until what was
// missing, or in the way, has changed.
func (u *unit) wantStartTriedAgain() {
	s := u.s
	nic, rival := paper.NICDevice, s.Neighbours[0]
	u.wantTriedAgain("the NIC is absent", func() {
		s.ip(s.Server, "link set "+nic+" down name late")
	}, func() {
		s.ip(s.Server, "link set late name "+nic+" up")
	})
	u.wantTriedAgain("another host has the pseudo address", func() {
		s.ip(rival, "address add 192.168.1.2/24 dev eth0")
	}, func() {
		s.ip(rival, "address delete 192.168.1.2/24 dev eth0")
	})
	u.wantTriedAgain("the Caddyfile has a mistake", func() {
		s.write("Caddyfile", caddyfile{policy: "lb_policy fist a"}.String())
	}, func() {
		s.write("Caddyfile", caddyfile{}.String())
	})
}

func (u *unit) wantTriedAgain(hindrance string, begin, end func()) {
	s := u.s
	s.t.Helper()
	begin()
	u.run("systemctl", "start", "--no-block", "caddy")
	s.waitFor(hindrance+": Caddy is started again", func() bool { return u.property("caddy", "NRestarts") != "0" })
	end()
	s.waitFor(hindrance+" no longer: Caddy runs", func() bool { return configInForce(s) })
	s.wantService()
	u.run("systemctl", "stop", "caddy")
}
