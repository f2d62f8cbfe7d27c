//go:build soak

package integration_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// serverCPU is the core that is the server's machine when a part is to measure how
// long requests take beside an attack. Those before it are the attackers', the clients',
// the router's and the switch's: what these do, and what their network costs, is not
// the server's to bear. The kernel wants masks of more than 32 of them in parts.
func serverCPU() int { return min(runtime.NumCPU(), 32) - 1 }

// apart gives the server a core of its own, and the interrupts of its NIC: frames
// that come to it go over to its core before it sees them, as a receive queue's
// interrupt does, and what it sends goes over to the others' cores.
func (s *scene) apart() {
	s.t.Helper()
	if serverCPU() == 0 {
		s.t.Fatal("this takes 2 cores: one for the server and one for who attacks and asks it")
	}
	var outside unix.CPUSet
	for cpu := range serverCPU() {
		outside.Set(cpu)
	}
	before := pin(s.t, outside)
	s.t.Cleanup(func() { pin(s.t, before) })
	s.steerReceive(s.Server, paper.NICDevice, 1<<serverCPU())
	s.steerReceive(s.Switch, "to-server", 1<<serverCPU()-1)
}

// pin makes this process, and what it starts, run on some CPUs only.
func pin(t *testing.T, cpus unix.CPUSet) (before unix.CPUSet) {
	t.Helper()
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a thread that began meanwhile has what the one had that began it
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, thread := range threads {
			id, err := strconv.Atoi(thread.Name())
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.SchedSetaffinity(id, &cpus); err != nil && err != unix.ESRCH {
				t.Fatal(err)
			}
		}
	}
	return before
}

// steerReceive has frames that come in by a host's device handled on some CPUs
// (receive packet steering, RPS).
func (s *scene) steerReceive(h *netlab.Host, device string, cpus uint64) {
	s.t.Helper()
	s.run(h, "unshare", "--mount", "sh", "-c",
		fmt.Sprintf("mount -t sysfs sysfs /sys && echo %x > /sys/class/net/%s/queues/rx-0/rps_cpus", cpus, device))
}

// startApart starts Caddy on the server's core.
func (s *scene) startApart(config fmt.Stringer) {
	s.t.Helper()
	s.startBy(fmt.Sprintf("taskset --cpu-list %d", serverCPU()), config)
}
