package integration_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration"
)

// TestLab plays the paper in this process, as root.
func TestLab(t *testing.T) {
	var report bytes.Buffer
	dir := t.TempDir()
	err := integration.RunLab(t.Context(), integration.LabOptions{
		Output: &report, Pings: 3, Captures: dir, CaddyEnv: []string{asCaddy},
	})
	t.Logf("%s", report.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, figure := range []string{"Fig-4 ", "Fig-10", "Fig-11", "Fig-12", "Fig-13", "Fig-14", "Fig-15", "Fig-16", "Fig-17"} {
		if !strings.Contains(report.String(), "\n"+figure) {
			t.Errorf("the report lacks %s", figure)
		}
	}
	checkCapture(t, filepath.Join(dir, "server.pcapng"), "nic0", "vnic-A", "vnic-B")
	checkCapture(t, filepath.Join(dir, "router.pcapng"), "wan")
	if left, _ := filepath.Glob("/run/netns/vniclab-*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestLabOrdinaryUser runs the command as a user without privileges, which
// makes a user namespace for it.
func TestLabOrdinaryUser(t *testing.T) {
	dir := openToAll(t)
	binary := filepath.Join(dir, "caddy")
	copyFile(t, "/proc/self/exe", binary)
	captures := filepath.Join(dir, "captures")
	if err := os.Mkdir(captures, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(captures, 0o777); err != nil {
		t.Fatal(err)
	}

	cmd := exec.CommandContext(t.Context(), binary, "vnic", "lab", "--pings", "3", "--captures", captures)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asCaddy, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	var report []byte
	err := withOpenTUN(t, func() (err error) {
		report, err = cmd.CombinedOutput()
		return err
	})
	t.Logf("%s", report)
	if err != nil {
		t.Fatal(err)
	}
	checkCapture(t, filepath.Join(captures, "server.pcapng"), "nic0", "vnic-A", "vnic-B")
}

// openToAll is a temporary directory that every user may enter.
func openToAll(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// withOpenTUN runs fn where /dev/net/tun is open to every user, as most
// distributions have it, whatever it is on this machine. That holds for fn's
// thread, and what it starts, alone: it is in a mount namespace of its own.
func withOpenTUN(t *testing.T, fn func() error) error {
	t.Helper()
	dir := t.TempDir()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		if err := mountOpenTUN(dir); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	return <-done
}

func mountOpenTUN(dir string) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		return err
	}
	tun := filepath.Join(dir, "tun")
	if err := unix.Mknod(tun, unix.S_IFCHR, int(unix.Mkdev(10, 200))); err != nil {
		return err
	}
	if err := os.Chmod(tun, 0o666); err != nil {
		return err
	}
	return unix.Mount(tun, "/dev/net/tun", "", unix.MS_BIND, "")
}

// checkCapture reads a capture as Wireshark would: the interfaces in order, and
// at least one frame from each.
func checkCapture(t *testing.T, path string, devices ...string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	reader, err := pcapgo.NewNgReader(file, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	frames := make([]int, len(devices))
	for {
		_, info, err := reader.ReadPacketData()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		frames[info.InterfaceIndex]++
	}
	for i, device := range devices {
		ifi, err := reader.Interface(i)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if ifi.Name != device || frames[i] == 0 {
			t.Errorf("%s: interface %d is %s with %d frames, want %s with some", path, i, ifi.Name, frames[i], device)
		}
	}
}
