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

// serverCPU returns the core that only the server uses, in parts that measure how long
// requests take during an attack. The attackers, the clients, the router and the switch use
// the cores before it, so that their work does not slow down the server. It is at most core
// 31, because the kernel takes longer masks only in pieces of 32.
func serverCPU() int { return min(runtime.NumCPU(), 32) - 1 }

// apart gives the server a core of its own. Frames for the server move to that core before the
// server sees them, as by the interrupt of a receive queue. Frames from the server move to
// the other cores.
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

// pin makes this process, and the processes that it starts, run on the given CPUs only.
func pin(t *testing.T, cpus unix.CPUSet) (before unix.CPUSet) {
	t.Helper()
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a thread that began meanwhile has the mask of the thread that began it
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

// steerReceive makes the given CPUs handle the frames that come in by a host's device (receive
// packet steering, RPS).
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
