package integration_test

import (
	"fmt"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
)

// sshAddress is the address of the server's own, to which its SSH server listens.
const sshAddress = "192.168.1.3"

// forwardDashboard opens the dashboard on PC1 by the ssh command that docs/operating.md
// shows, and makes sure that it ends with that.
func (s *scene) forwardDashboard() {
	s.t.Helper()
	config := s.serveSSH()
	command := examples.Beginning(s.t, "docs/operating.md", "ssh -t -L")
	// There is no terminal here, which -tt does without.
	command = strings.Replace(command, "ssh -t", "exec ssh -F "+config+" -tt", 1)
	ssh, url := s.startDashboard(s.PC1, exec.Command("sh", "-c", command))
	client := s.PC1.HTTPClient()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	client.Jar = jar
	page, err := fetch(client, url)
	if err != nil || !strings.Contains(page, "<title>") {
		s.t.Errorf("the forwarded dashboard gives %q (%v)", page, err)
	}
	ssh.Stop() // its exit status is the signal's
	s.waitFor("the dashboard ends on the server", func() bool {
		_, err := hear(s.Server, "127.0.0.1:7020", time.Second)
		return err != nil && strings.Contains(err.Error(), "refused")
	})
}

// serveSSH runs an SSH server on the server, where root has a home and a caddy of the
// test's, and returns the configuration of a client that calls it "server".
func (s *scene) serveSSH() string {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	s.run(s.Server, "mkdir", filepath.Join(s.dir, "bin"))
	s.run(s.Server, "ln", "-s", self, filepath.Join(s.dir, "bin", "caddy"))
	s.run(s.Server, "dropbearkey", "-t", "ed25519", "-f", filepath.Join(s.dir, "host"))
	s.run(s.Server, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(s.dir, "key"))
	// A hangup is to end what it runs, also where these tests were started with nohup.
	cmd := exec.Command("env", "--default-signal=HUP", "unshare", "--mount", "sh", "-euc", `
cd "$1"
mount -t overlay -o lowerdir="$1/bin":/usr/bin none /usr/bin
mount -t tmpfs -o mode=700 none ~root
mkdir -m 700 ~root/.ssh
cp key.pub ~root/.ssh/authorized_keys
exec dropbear -F -e -s -r host -P pid -p "$2":22`, "sh", s.dir, sshAddress)
	cmd.Env = append(os.Environ(), asCaddy)
	if _, err := s.Server.Start(cmd); err != nil {
		s.t.Fatal(err)
	}
	s.waitFor("the SSH server", func() bool {
		conn, err := s.PC1.DialContext(s.t.Context(), "tcp4", sshAddress+":22")
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	return s.write("ssh_config", fmt.Sprintf(`Host server
	HostName %s
	User root
	IdentityFile %s/key
	LogLevel ERROR
	StrictHostKeyChecking no
	UserKnownHostsFile /dev/null
	ExitOnForwardFailure yes
`, sshAddress, s.dir))
}
