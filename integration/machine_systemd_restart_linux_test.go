package integration_test

import (
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// wantUninterrupted checks that with the drop-in of docs/upgrading.md a connection to a server that is not
// Caddy's notices nothing of a restart, a crash, or an upgrade, and that a stop leaves nothing but rules
// without effect.
func (u *unit) wantUninterrupted(before map[string]string) {
	s := u.s
	s.t.Helper()
	s.write("Caddyfile", caddyfile{a: "ports any", policy: "lb_policy first a b"}.String())
	u.shell(examples.Beginning(s.t, "docs/upgrading.md", "sudo install -m 644 packaging/systemd/caddy.service.d/vnic_restart.conf"))
	kept := func(after string) {
		s.t.Helper()
		s.waitFor("the service manager keeps the files after "+after, func() bool {
			status, err := fetch(s.Server.HTTPClient(), "http://localhost:2019/vnic/status")
			return err == nil && strings.Contains(status, `"restart":"kept"`)
		})
	}
	kept("the installation")
	s.listen(s.Server, "192.168.50.1:9000", func(conn net.Conn) { io.Copy(conn, conn) })
	session := s.openSession("192.168.1.2:9000")
	for after, do := range map[string]func(){
		"a restart": func() { u.run("systemctl", "restart", "caddy") },
		"a crash": func() {
			killed := u.property("caddy", "MainPID")
			u.run("kill", "-KILL", killed)
			session.want("the crash itself")
			s.waitFor("Caddy is started again", func() bool { pid := u.property("caddy", "MainPID"); return pid != killed && pid != "0" })
		},
		"an upgrade": func() { u.run("caddy", "vnic", "upgrade") },
	} {
		u.run("caddy", "vnic", "switch", "lan", "b")
		do()
		session.want(after)
		kept(after)
		s.wantPolicy("b")
		u.run("caddy", "vnic", "switch", "lan", "--undo")
	}
	u.run("systemctl", "stop", "caddy")
	s.wantSame("after the stop of a Caddy whose files were kept", withoutRules(before))
	s.wantRulesWithoutEffect()
	u.shell(examples.Beginning(s.t, "docs/upgrading.md", "sudo rm /etc/systemd/system/caddy.service.d/vnic_restart.conf"))
	u.run("systemctl", "stop", "caddy")
	s.wantSame("after a start and a stop without the drop-in", before)
}

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
