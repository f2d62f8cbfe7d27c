package integration_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/songgao/water"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

const otherServersPage = "docs/other-servers.md"

// The servers of docs/other-servers.md get the clients that the page says, and see their addresses:
// nginx, a container that podman runs in the segment's namespace, and what is behind a TAP. No virtual
// machine runs here: the test carries frames between the TAP and another host's NIC, as a VMM does
// between the TAP and its guest's.
func TestOtherServersPage(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	own := strings.NewReplacer("eth1", "nic0", "/run/netns/container", "/run/netns/"+s.name+"-container", "netns container", "netns "+s.name+"-container", "netns add container", "netns add "+s.name+"-container")
	page := func(beginning string) string { return own.Replace(examples.Beginning(t, otherServersPage, beginning)) }
	s.shell(page("sudo ip netns add"))
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "delete", s.name+"-container").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	s.shell(page("sudo ip tuntap add"))
	if err := s.tryStart(page("{\n\tvnic {")); err != nil {
		t.Fatal(err)
	}
	if health := s.status().Segments["machine"].Health; health.Healthy {
		t.Error("the segment of a machine that is off is healthy")
	}

	nginx := page("server {")
	address := strings.TrimSuffix(strings.Fields(nginx)[3], ";")
	s.startNginxThat(address, nginx[strings.Index(nginx, "location"):strings.LastIndex(nginx, "}")])
	s.runContainer(page("sudo podman run"))
	guest := s.turnOn("tap70")
	s.run(guest, "sh", "-ec", page("ip link set eth0 up"))
	s.startNginxOn(guest, "192.168.70.1:80", `location / { return 200 "machine for $remote_addr"; }`)

	client := paper.PC1Addr.String()
	for _, test := range []struct{ words, want string }{
		{"http://192.168.1.2:8081/", "program for " + client},
		{"-H Host:container.example.com http://192.168.1.2/", "container for " + client + ":"},
		{"http://192.168.1.2/", "machine for " + client},
	} {
		var got []byte
		s.waitFor(test.want, func() bool {
			got, _ = s.PC1.Run(t.Context(), "curl", append([]string{"-s", "--max-time", "2"}, strings.Fields(test.words)...)...)
			return strings.HasPrefix(string(got), test.want)
		})
	}
	if health := s.status().Segments["machine"].Health; !health.Healthy {
		t.Errorf("the segment of a machine that is on is unhealthy: %s", health.Reason)
	}
}

// runContainer runs podman's words on an image that the test makes, and which has the name of the
// page's.
func (s *scene) runContainer(words string) {
	s.t.Helper()
	image := words[strings.LastIndex(words, " ")+1:]
	build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(s.dir, "image", "webserver"), "./testdata/webserver")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	podman := "sudo() { shift; command podman --root " + s.dir + "/storage --runroot " + s.dir + "/run --tmpdir " + s.dir + "/tmp \"$@\"; }\n"
	try := func(ctx context.Context, words string) (string, error) {
		output, err := s.Server.Run(ctx, "env", "CONTAINERS_CONF="+s.write("containers.conf", podmanHere), "sh", "-euc", podman+words)
		return string(output), err
	}
	for _, words := range []string{
		"tar -C " + s.dir + "/image -c . | sudo podman import --change 'ENTRYPOINT [\"/webserver\"]' - " + strings.TrimSpace(image), words,
	} {
		if out, err := try(s.t.Context(), words); err != nil {
			s.t.Fatalf("%v: %s", err, out)
		}
	}
	s.t.Cleanup(func() {
		if out, err := try(context.Background(), "sudo podman rm --force --time 1 web"); err != nil {
			s.t.Errorf("%v: %s", err, out)
		}
	})
}

// turnOn does what a VMM does with the TAP of its guest, which it returns. The guest's NIC is eth0.
func (s *scene) turnOn(tap string) *netlab.Host {
	s.t.Helper()
	guest, err := s.NewHost("guest")
	if err != nil {
		s.t.Fatal(err)
	}
	open := func(h *netlab.Host, name string) (nic *water.Interface) {
		err := h.Do(func() (err error) {
			config := water.Config{DeviceType: water.TAP}
			config.Name = name
			nic, err = water.New(config)
			return err
		})
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { nic.Close() })
		return nic
	}
	outside, inside := open(s.Server, tap), open(guest, "eth0")
	for _, way := range [][2]*water.Interface{{outside, inside}, {inside, outside}} {
		go func() {
			frame := make([]byte, 64<<10)
			for {
				n, err := way[0].Read(frame)
				if err != nil {
					return // the machine is off
				}
				_, _ = way[1].Write(frame[:n]) // a NIC that is down takes nothing
			}
		}()
	}
	return guest
}
