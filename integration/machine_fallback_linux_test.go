package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Where the kernel data path cannot be used, `datapath auto` serves by userspace and says
// why. `datapath kernel` does not start and says the same. `caddy vnic check` predicts both.
func TestFallback(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		wrapper []string // runs Caddy
		kernel  string   // that Caddy meets
		wants   []string // in the reason
		symptom string   // of docs/troubleshooting.md, which says the same
	}{
		{
			name:    "without CAP_BPF",
			wrapper: without("bpf"),
			wants:   []string{"CAP_BPF is missing", "setcap", "cap_bpf,cap_perfmon+ep", "AmbientCapabilities="},
			symptom: "CAP_BPF or CAP_PERFMON is missing", // given both, TestSetcap has the kernel data path
		}, {
			name:    "without CAP_PERFMON",
			wrapper: without("perfmon"),
			wants:   []string{"CAP_PERFMON is missing", "setcap"},
		}, {
			name:    "BPF forbidden",
			kernel:  "without BPF",
			wants:   []string{"operation not permitted", "something forbids bpf(2)"},
			symptom: "bpf(2) is not permitted, something forbids it",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, paper.NetworkOptions{})
			if tt.symptom != "" {
				examples.SymptomOf(t, troubleshootingPage, tt.symptom)
			}
			s.onKernel(tt.kernel)
			output, err := s.caddyCommand("run", caddyfile{datapath: "kernel"}, tt.wrapper...)
			if err == nil {
				t.Error("datapath kernel started")
			}
			wantAll(t, "the error", output, append(tt.wants, "datapath kernel: ", "datapath auto goes on without it"))
			output, err = s.check(caddyfile{datapath: "kernel"}, tt.wrapper, false)
			if err == nil {
				t.Error("the check of datapath kernel finds no error")
			}
			wantAll(t, "the check", output, append(tt.wants, "error: datapath kernel: "))
			output, err = s.check(caddyfile{}, tt.wrapper, false)
			if err != nil {
				t.Errorf("the check of datapath auto fails: %v", err)
			}
			wantAll(t, "the check", output, append(tt.wants, "warning: packets will be carried in userspace"))

			s.startAs(strings.Join(tt.wrapper, " "), caddyfile{})
			s.wantFallback(tt.wants)
		})
	}
}

// On a kernel without BPF, Caddy says which kernel it needs.
func TestFallbackOnAnOldKernel(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	s.onKernel("before BPF")
	examples.SymptomOf(t, troubleshootingPage, "it takes Linux 5.15")
	output, err := s.caddyCommand("run", caddyfile{datapath: "kernel"})
	if err == nil {
		t.Error("datapath kernel started")
	}
	wantAll(t, "the error", output, []string{"it takes Linux 5.15 or later"})
}

// A flow table that takes more than half of what the process's control group may have is
// not made in the kernel, which would kill the process; with a smaller one, the kernel data
// path is used.
func TestFallbackWithoutMemory(t *testing.T) {
	t.Parallel()
	group := controlGroup(t, 512<<20)
	s := newScene(t, paper.NetworkOptions{})
	inside := s.joining(group)
	symptom := examples.SymptomOf(t, troubleshootingPage, "the BPF maps cannot be made for so many flows")
	const larger = 4 << 20 // 680 MB
	flows := func(datapath string, n int) caddyfile {
		return caddyfile{datapath: fmt.Sprintf("%s\n%s %d", datapath, symptom.Fix[0], n)}
	}
	wants := []string{fmt.Sprintf("a table of %d flows takes ", larger), "more than half of the 512 MiB that are available: lower max_flows"}
	output, err := s.caddyCommand("run", flows("kernel", larger), inside...)
	if err == nil {
		t.Error("datapath kernel started")
	}
	wantAll(t, "the error", output, append(wants, "datapath kernel: "))
	output, err = s.check(flows("auto", larger), inside, false)
	if err != nil {
		t.Errorf("the check of datapath auto fails: %v", err)
	}
	wantAll(t, "the check", output, append(wants, "warning: packets will be carried in userspace"))

	s.startAs(strings.Join(inside, " "), flows("auto", larger))
	s.wantFallback(wants)
	s.load(flows("auto", 1<<20))
	if status := s.status(); status.Datapath != config.DatapathKernel {
		t.Errorf("with a smaller table the data path is %s: %s", status.Datapath, status.DatapathReason)
	}
}

// controlGroup makes one whose processes have so much memory, the kernel's for them
// counted.
func controlGroup(t *testing.T, bytes int64) string {
	t.Helper()
	root, limit := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	if _, err := os.Stat(root); err != nil {
		root, limit = "/sys/fs/cgroup", "memory.max" // the second version
	}
	group, err := os.MkdirTemp(root, "caddy-vnic-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Rmdir(group); err != nil { // its files cannot be removed
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(group, limit), strconv.AppendInt(nil, bytes, 10), 0); err != nil {
		t.Fatal(err)
	}
	return group
}

// joining is a command that runs another in a control group, which is seen only outside of
// the server's namespace.
func (s *scene) joining(group string) []string {
	const join = `echo $$ | nsenter --mount=/proc/%d/ns/mnt tee %s/cgroup.procs >/dev/null
exec "$@"
`
	return []string{"sh", s.write("join", fmt.Sprintf(join, os.Getpid(), group))}
}

// A NIC that takes no more programs refuses Caddy's when Caddy attaches it, at the start and
// at a reload that asks for the kernel data path.
func TestFallbackWhenAttaching(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	const most = 63 // of tcx on one side of a device (include/linux/bpf_mprog.h)
	for range most {
		s.witness().attach(link.Tail())
	}
	before := s.snapshot()
	output, err := s.caddyCommand("run", caddyfile{datapath: "kernel"})
	if err == nil {
		t.Error("datapath kernel started")
	}
	wants := []string{"device nic0: attaching the BPF program"}
	wantAll(t, "the error", output, append(wants, "datapath kernel: "))
	symptom := examples.SymptomOf(t, troubleshootingPage, "attaching the program to a device fails")
	s.shell(strings.Replace(symptom.Fix[1], "eth1", paper.NICDevice, 1)) // the other needs a bpftool newer than Debian's
	s.wantSame("after the start has failed", before)
	s.start(caddyfile{})
	s.wantFallback(wants)
	s.load(caddyfile{datapath: "userspace"})
	if status := s.status(); status.DatapathReason != "" {
		t.Errorf("userspace is asked for, and the reason is %q", status.DatapathReason)
	}
	s.load(caddyfile{})
	s.wantFallback(wants)
}

// In a user namespace the kernel takes no BPF programs, whatever the capabilities.
func TestFallbackInUserNamespace(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	examples.SymptomOf(t, troubleshootingPage, "in a user namespace") // outside, the other tests are
	inside := []string{"unshare", "--user", "--map-root-user", "--net", "sh", "-c",
		`ip link add nic0 type veth peer name peer0 && ip link set nic0 up && ip link set peer0 up && exec "$@"`, "sh"}
	output, err := s.check(caddyfile{}, inside, false)
	if err != nil {
		t.Error(err)
	}
	wantAll(t, "the check", output, []string{"warning: packets will be carried in userspace", "operation not permitted", "in a user namespace"})
}

// without is a command that runs another without a capability.
func without(capability string) []string {
	return []string{"setpriv", "--bounding-set=-" + capability, "--inh-caps=-" + capability}
}

// wantFallback checks that packets are carried in userspace, and that log and
// status say why.
func (s *scene) wantFallback(reasons []string) {
	s.t.Helper()
	status := s.status()
	if status.Datapath != config.DatapathUserspace {
		s.t.Errorf("the data path is %s", status.Datapath)
	}
	wantAll(s.t, "the reason", status.DatapathReason, reasons)
	log, err := os.ReadFile(s.log(s.starts))
	if err != nil {
		s.t.Fatal(err)
	}
	wantAll(s.t, "the log", string(log), append(reasons, "packets are carried in userspace: the kernel data path cannot be used"))
	if got := s.get("http://192.168.1.2/"); got != "a" {
		s.t.Errorf("PC1 got %q", got)
	}
}

// wantAll checks that a text has all of some others in it.
func wantAll(t *testing.T, what, text string, wants []string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%s lacks %q:\n%s", what, want, text)
		}
	}
}
