package integration_test

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// inContainer runs a program as process 1 of a process namespace, which ends with the
// program that has made it, as a container runtime's does.
const inContainer = "unshare --pid --fork --mount-proc --kill-child=KILL"

// Row L5: in a container Caddy is process 1 at each start. If the network namespace outlives
// the container (--network host, a pod), the next start removes what a killed Caddy left,
// segments with namespaces of their own included.
func TestContainerIsRestarted(t *testing.T) {
	onEachAttachment(t, func(t *testing.T, datapath, kernel string) {
		s := newScene(t, paper.NetworkOptions{})
		s.onKernel(kernel)
		config := caddyfile{datapath: datapath, a: "client_ip preserve\nnetns " + s.ownNamespace("a")}
		before := s.snapshot()
		for range 3 {
			s.startBy(inContainer, config)
			if got := s.get("http://192.168.1.2/"); got != "a" {
				t.Fatalf("PC1 got %q", got)
			}
			s.signalContained(s.caddy.Process(), unix.SIGKILL)
		}
		s.startBy(inContainer, config)
		s.wantService()
		s.signalContained(s.caddy.Process(), unix.SIGTERM)
		s.wantSame("after stop", before)
	})
}

// Two containers on one network namespace have a process 1 each. Neither removes what
// belongs to the other.
func TestContainersAreToldApart(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		first := caddyfile{datapath: datapath, a: "netns " + s.ownNamespace("a")}
		second := strings.Replace(secondInstance{datapath}.String(), "address 192.168.70.1/24", "address 192.168.70.1/24\nnetns "+s.ownNamespace("c"), 1)
		second = second[:strings.Index(second, "bridge other")] + "datapath " + datapath + "\n}\n}\n"

		s.startBy(inContainer, first)
		other := s.runContained(second)
		s.wantService()
		for range 2 {
			s.signalContained(other, unix.SIGKILL)
			left := s.indexOf("vnic-C")
			other = s.runContained(second)
			if s.indexOf("vnic-C") == left {
				t.Error("the second instance has the pair of the one before")
			}
			s.wantService()

			kept := s.indexOf("vnic-C")
			s.signalContained(s.caddy.Process(), unix.SIGKILL)
			s.startBy(inContainer, first)
			s.wantService()
			if s.indexOf("vnic-C") != kept {
				t.Error("the first instance has taken away what is the second's")
			}
			if tables := strings.Count(s.stdout(s.Server, "nft", "list", "tables"), "table ip caddy-vnic-"); tables != 2 {
				t.Errorf("%d guards, want one for each instance", tables)
			}
		}
		s.signalContained(other, unix.SIGTERM)
		s.signalContained(s.caddy.Process(), unix.SIGTERM)
	})
}

// runContained starts another Caddy, without an admin API, in a container, and waits for
// its segment c.
func (s *scene) runContained(config string) *netlab.Process {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	words := append(strings.Fields(inContainer), self, "run", "--adapter", "caddyfile", "--config", s.write("second", config))
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(append(os.Environ(), s.env...), "XDG_CONFIG_HOME="+s.t.TempDir(), "XDG_DATA_HOME="+s.t.TempDir())
	log, err := os.Create(s.write("second.log", ""))
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	process, err := s.Server.Start(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	s.waitFor("the second instance serves", func() bool {
		said, err := os.ReadFile(log.Name())
		if err != nil {
			s.t.Fatal(err)
		}
		select {
		case <-process.Done():
			s.t.Fatalf("the second instance has ended:\n%s", said)
		default:
		}
		return strings.Contains(string(said), "serving initial configuration")
	})
	return process
}

// signalContained sends a signal to the process 1 of a container, and waits for its end,
// and the container's.
func (s *scene) signalContained(container *netlab.Process, signal unix.Signal) {
	s.t.Helper()
	number := strconv.Itoa(container.PID())
	children, err := os.ReadFile("/proc/" + number + "/task/" + number + "/children")
	if err != nil {
		s.t.Fatal(err)
	}
	first, err := strconv.Atoi(strings.TrimSpace(string(children)))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := unix.Kill(first, signal); err != nil {
		s.t.Fatal(err)
	}
	<-container.Done()
}

func (s *scene) indexOf(device string) int {
	s.t.Helper()
	link, err := s.Server.Netlink().LinkByName(device)
	if err != nil {
		s.t.Fatal(err)
	}
	return link.Attrs().Index
}
