package integration_test

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

const bansPage = "docs/bans.md"

// Row S7: from the next packet on, a banned client reaches nothing, and its connection ends,
// of which the server is told. A ban holds over a reload, and ends after its time and by
// unban. Others go on.
func TestBans(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
		config := caddyfile{datapath: datapath, families: "46", a: "ports any"}
		s.start(config)
		for _, b := range []banned{
			{s, paper.PC1Addr.String(), "192.168.1.2", "192.168.50.1"},
			{s, paper.PC1Addr6.String(), pseudo6, "[fd00:50::1]"},
		} {
			b.wantReach("before the ban")
			told := b.hold()
			s.vnic("ban", b.client)
			if err := <-told; err == nil {
				t.Errorf("the server of %s's connection was not told", b.client)
			}
			before := s.status().Bridges["lan"]
			b.wantNothing("while it is banned")
			s.reload(config)
			b.wantNothing("after a reload")
			if after := s.status().Bridges["lan"]; after.NewFlows > before.NewFlows || after.Drops["denied"] < before.Drops["denied"]+4 {
				t.Errorf("while %s is banned %d flows begin, and %d packets are denied", b.client, after.NewFlows-before.NewFlows, after.Drops["denied"]-before.Drops["denied"])
			}
			if listed := s.vnic("bans"); !strings.Contains(listed, b.client+" ") {
				t.Errorf("the list of bans lacks %s:\n%s", b.client, listed)
			}
			s.getFrom(s.Neighbours[0], "http://"+b.public+"/")
			s.vnic("unban", b.client)
			b.wantReach("after unban")
			s.vnic("ban", b.client, "--for", "2s")
			b.wantNothing("for two seconds")
			s.waitFor("the end of the ban's time", func() bool { return b.get() == nil })
		}
		s.wantBansRefused()
	})
}

// banned is PC1 as a client of one family.
type banned struct {
	s                      *scene
	client, public, server string
}

func (b banned) get() error {
	// Not Go's client, which goes on connecting after it has given up.
	_, err := b.s.PC1.Run(b.s.t.Context(), "curl", "-gsS", "--max-time", "0.5", "http://"+b.public+"/")
	return err
}

func (b banned) wantReach(when string) {
	b.s.t.Helper()
	if err := b.get(); err != nil {
		b.s.t.Errorf("%s %s gets no page: %v", when, b.client, err)
	}
}

func (b banned) wantNothing(when string) {
	b.s.t.Helper()
	if err := b.get(); err == nil || !strings.Contains(err.Error(), "exit status 28") {
		b.s.t.Errorf("%s %s is answered: %v", when, b.client, err)
	}
	if out, err := b.s.PC1.Run(b.s.t.Context(), "ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", strings.Trim(b.public, "[]")); err == nil {
		b.s.t.Errorf("%s pings of %s are answered:\n%s", when, b.client, out)
	}
}

// hold opens a connection. The channel gets what ends it at the server's side.
func (b banned) hold() <-chan error {
	b.s.t.Helper()
	told, open := make(chan error, 1), make(chan struct{})
	address := b.server + ":9000"
	b.s.listen(b.s.Server, address, func(conn net.Conn) {
		io.ReadFull(conn, make([]byte, 1))
		close(open)
		conn.SetReadDeadline(time.Now().Add(3 * time.Second))
		_, err := conn.Read(make([]byte, 1))
		if e, ok := err.(net.Error); ok && e.Timeout() {
			err = nil
		}
		told <- err
	})
	conn, err := b.s.PC1.DialContext(b.s.t.Context(), "tcp", b.public+":9000")
	if err != nil {
		b.s.t.Fatal(err)
	}
	b.s.t.Cleanup(func() { conn.Close() })
	if _, err := conn.Write([]byte("x")); err != nil {
		b.s.t.Fatal(err)
	}
	<-open
	return told
}

// wantBansRefused checks that nobody locks himself or the gateway out by accident.
func (s *scene) wantBansRefused() {
	s.t.Helper()
	for _, tt := range []struct{ words, want string }{
		{"ban 192.168.1.0/24", "192.168.1.1 is the gateway of bridge lan"},
		{"ban 192.168.1.0/24 --bridge wan", `unknown bridge "wan"`},
		{"ban nobody", `client "nobody": want an address or a network`},
		{"ban 203.0.113.5 --for soon", `--for "soon": want a duration`},
		{"unban 203.0.113.5", "203.0.113.5/32 is not banned at all bridges"},
		{"ban", "requires at least 1 arg"},
	} {
		if out, err := s.tryShell("caddy vnic " + tt.words); err == nil || !strings.Contains(out, tt.want) {
			s.t.Errorf("%s: %v, want %q:\n%s", tt.words, err, tt.want, out)
		}
	}
	own := "export SSH_CONNECTION='203.0.113.5 50000 192.168.1.3 22'; caddy vnic ban 203.0.113.0/24"
	if out, err := s.tryShell(own); err == nil || !strings.Contains(out, "203.0.113.5 is who asks for it") {
		s.t.Errorf("the admin bans himself: %v\n%s", err, out)
	}
	s.shell(own + " --force")
	s.vnic("unban", "203.0.113.0/24")
	if listed := s.vnic("bans"); listed != "nobody is banned\n" {
		s.t.Errorf("the list of bans says %q", listed)
	}
}

// The commands and requests of docs/bans.md do what the page says.
func TestBansPage(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	s.start(caddyfile{families: "4"})
	for _, e := range examples.On(t, bansPage) {
		switch e.Section {
		case "By hand", "By program":
			s.shell(e.Runs(t))
		}
	}
	if listed := s.vnic("bans"); listed != "nobody is banned\n" {
		t.Errorf("the page's commands do not undo what they do: %s", listed)
	}
	s.loadText(strings.ReplaceAll(caddyfilesOf(t, bansPage)[0], "eth1", "nic0"))
	for _, want := range []string{"203.0.113.0/24", "198.51.100.7 "} {
		if listed := s.vnic("bans"); !strings.Contains(listed, want) {
			t.Errorf("the bans of the page's Caddyfile lack %s:\n%s", want, listed)
		}
	}
}

// Row S7: the real fail2ban reads Caddy's access log, and bans at the bridge who is refused
// too often. A client that writes a log's words into its request bans nobody else.
func TestFail2ban(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{Neighbours: 1})
		log := s.dir + "/access.log"
		s.start(caddyfile{datapath: datapath, families: "4", sites: strings.ReplaceAll(caddyfilesOf(t, bansPage)[1], "/var/log/caddy/access.log", log)})
		s.startFail2ban(log)
		forged := `/?"request":{"remote_ip":"192.168.1.11","x":"","status":403,"resp_headers":{}`
		for range 6 {
			s.requestFrom(s.PC1, "http://192.168.1.2"+forged)
		}
		if body, err := fetch(s.PC1.HTTPClient(), "http://192.168.1.2/"); err != nil || body != "hello" {
			t.Fatalf("before it is refused PC1 gets %q (%v)", body, err)
		}
		for range 6 {
			s.requestFrom(s.PC1, "http://192.168.1.2/private")
		}
		s.waitFor("fail2ban bans PC1", func() bool { return strings.Contains(s.vnic("bans"), paper.PC1Addr.String()+" ") })
		banned{s: s, client: paper.PC1Addr.String(), public: "192.168.1.2"}.wantNothing("banned by fail2ban")
		if listed := s.vnic("bans"); strings.Count(listed, "\n") != 2 {
			t.Errorf("others are banned too:\n%s", listed)
		}
		if body, err := fetch(s.Neighbours[0].HTTPClient(), "http://192.168.1.2/"); err != nil || body != "hello" {
			t.Errorf("the neighbour gets %q (%v)", body, err)
		}
		s.run(s.Server, "fail2ban-client", "-c", s.dir+"/fail2ban", "set", "caddy-vnic", "unbanip", paper.PC1Addr.String())
		banned{s: s, client: paper.PC1Addr.String(), public: "192.168.1.2"}.wantReach("unbanned by fail2ban")
	})
}

// startFail2ban starts the server's fail2ban with the files of packaging/ and the jail of
// docs/bans.md, and with nothing else of the machine's.
func (s *scene) startFail2ban(log string) {
	s.t.Helper()
	dir := s.dir + "/fail2ban"
	s.run(s.Server, "cp", "-r", "/etc/fail2ban", dir)
	s.run(s.Server, "sh", "-c", "rm -f "+dir+"/jail.d/*")
	for line := range strings.Lines(examples.Beginning(s.t, bansPage, "sudo cp packaging/fail2ban")) {
		words := strings.Fields(strings.ReplaceAll(strings.ReplaceAll(line, "/etc/fail2ban", dir), "packaging/", "../packaging/"))
		s.run(s.Server, words[1], words[2:]...)
	}
	s.write("fail2ban/jail.d/caddy-vnic.conf", strings.ReplaceAll(examples.Beginning(s.t, bansPage, "[caddy-vnic]"), "/var/log/caddy/access.log", log))
	s.write("fail2ban/fail2ban.local", "[Definition]\nlogtarget = "+dir+"/log\nsocket = "+dir+"/socket\npidfile = "+dir+"/pid\ndbfile = None\n")
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	s.run(s.Server, "mkdir", s.dir+"/bin")
	s.writeProgram("bin/caddy", "#!/bin/sh\nexec env "+asCaddy+" "+self+" \"$@\"\n")
	s.run(s.Server, "env", "PATH="+s.dir+"/bin:/usr/sbin:/usr/bin:/sbin:/bin", "fail2ban-client", "-c", dir, "start")
	s.t.Cleanup(func() {
		if out, err := s.Server.Run(context.Background(), "fail2ban-client", "-c", dir, "stop"); err != nil {
			s.t.Errorf("stopping fail2ban: %v: %s", err, out)
		}
	})
}

// requestFrom makes a request whose answer does not matter.
func (s *scene) requestFrom(h *netlab.Host, url string) {
	s.t.Helper()
	answer, err := h.HTTPClient().Get(url)
	if err != nil {
		s.t.Fatal(err)
	}
	answer.Body.Close()
}
