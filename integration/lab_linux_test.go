package integration_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
)

// nobody is a user without any privileges.
var nobody = &syscall.Credential{Uid: 65534, Gid: 65534}

// TestLab runs `caddy vnic lab --keep fig18` as root and as an ordinary user, reads the
// report, follows what it says to look around, and ends the lab.
func TestLab(t *testing.T) {
	t.Parallel()
	for name, user := range map[string]*syscall.Credential{"root": nil, "ordinary user": nobody} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			captures := filepath.Join(openToAll(t), "captures")
			if err := errors.Join(os.Mkdir(captures, 0o777), os.Chmod(captures, 0o777)); err != nil {
				t.Fatal(err)
			}
			lab := labCommand(t, user, "--pings", "3", "--captures", captures, "--keep", "fig18")
			output, err := lab.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			lab.Stderr = lab.Stdout
			start := lab.Start
			if user != nil {
				start = func() error { return withTUN(t, 0o666, lab.Start) }
			}
			if err := start(); err != nil {
				t.Fatal(err)
			}
			report, curl := readUntil(t, output, " curl -k ")
			t.Log(report)
			wantReport(t, report, captures)
			look := exec.CommandContext(t.Context(), "sh", "-c", curl)
			look.Env = lab.Env
			look.SysProcAttr = &syscall.SysProcAttr{Credential: user}
			if page, err := look.CombinedOutput(); err != nil || !bytes.Contains(page, []byte("This is server-A")) {
				t.Errorf("%s: %v: %s", curl, err, page)
			}
			if err := lab.Process.Signal(unix.SIGINT); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(output)
			if err := errors.Join(err, lab.Wait()); err != nil {
				t.Errorf("%v: %s", err, rest)
			}
			for _, family := range []string{"", "-ipv6"} {
				checkCapture(t, filepath.Join(captures, "server"+family+".pcapng"), "nic0", "vnic-A", "vnic-B")
				checkCapture(t, filepath.Join(captures, "router"+family+".pcapng"), "wan")
				checkCapture(t, filepath.Join(captures, "fig19"+family+".pcapng"), "nic0", "vnic-A", "nic1", "vnic-B")
				checkCapture(t, filepath.Join(captures, "fig18"+family+".pcapng"), "nic0", "vnic-A", "vnic-B", "vnic-F")
			}
			if user != nil {
				return // an ordinary user's lab has a /run of its own
			}
			if left, _ := filepath.Glob("/run/netns/vniclab-*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// wantReport reads the lab's report: every figure is there, and as in the paper. Over IPv6 are
// those that do not show the router's translation.
func wantReport(t *testing.T, report, captures string) {
	t.Helper()
	if !strings.Contains(report, "checks agree with the paper") {
		t.Error("the lab's results differ from the paper's")
	}
	ipv4, ipv6, _ := strings.Cut(report, "\nBeyond the paper: IPv6\n")
	wantFigures(t, ipv4, "Fig-4 ", "Fig-10", "Fig-11", "Fig-12", "Fig-13", "Fig-14", "Fig-15", "Fig-16", "Fig-17", "Fig-18", "Fig-19")
	wantFigures(t, ipv6, "Fig-4 ", "Fig-10", "Fig-11", "Fig-12–15", "Fig-16", "Fig-17", "Fig-18", "Fig-19")
	for line := range strings.Lines(report) {
		if n := utf8.RuneCountInString(line) - 1; n > 80 && !strings.Contains(line, captures) {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func wantFigures(t *testing.T, report string, figures ...string) {
	t.Helper()
	for _, figure := range figures {
		if !strings.Contains(report, "\n"+figure) {
			t.Errorf("the report lacks %s in\n%s", figure, report)
		}
	}
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

// TestLabClosedTUN runs the lab where an ordinary user may not open the TUN
// device: it says so, and what the administrator can do.
func TestLabClosedTUN(t *testing.T) {
	lab := labCommand(t, nobody)
	wantRefusal(t, 0o600, lab, "as root, run `chmod 0666 /dev/net/tun`")
}

// TestLabNoUserNamespaces does the same where user namespaces are switched off.
func TestLabNoUserNamespaces(t *testing.T) {
	examples.SymptomOf(t, troubleshootingPage, "cannot make a user namespace") // as root, TestLab does
	lab := labCommand(t, nil)
	binary := lab.Path
	lab.Path = "/bin/sh"
	lab.Args = []string{"sh", "-c", `echo 0 >/proc/sys/user/max_user_namespaces &&
		exec setpriv --bounding-set -all --inh-caps -all "$0" vnic lab`, binary}
	// The limit holds for this user namespace alone.
	lab.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
	}
	wantRefusal(t, 0o666, lab, "as root, run `sysctl -w user.max_user_namespaces=15000`")
}

func wantRefusal(t *testing.T, tunMode uint32, lab *exec.Cmd, want string) {
	t.Helper()
	err := withTUN(t, tunMode, func() error {
		output, err := lab.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !bytes.Contains(output, []byte(want)) {
			t.Errorf("%v: want %q in:\n%s", err, want, output)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// labCommand is `caddy vnic lab` run by a user (nil: root), with a copy of this
// test binary as caddy in a place that every user may enter.
func labCommand(t *testing.T, user *syscall.Credential, flags ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := openToAll(t)
	binary := filepath.Join(dir, "caddy")
	copyProgram(t, self, binary)
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"vnic", "lab"}, flags...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asCaddy, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	return cmd
}

// readUntil reads lines up to the first that contains a text, and returns those
// before and that one.
func readUntil(t *testing.T, r io.Reader, text string) (before, line string) {
	t.Helper()
	var b strings.Builder
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if strings.Contains(line, text) {
			return b.String(), line
		}
		b.WriteString(line)
		if err != nil {
			t.Fatalf("no line with %q in:\n%s", text, b.String())
		}
	}
}

// openToAll is a temporary directory that every user may enter.
func openToAll(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// copyProgram copies a program that is executed afterwards. Another process writes the copy:
// if a test beside this one forked while this process had it open for writing, Linux would not
// execute it ("text file busy").
func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "install", from, to).CombinedOutput(); err != nil {
		t.Fatalf("install: %v: %s", err, out)
	}
}

// withTUN runs fn where /dev/net/tun has a mode, whatever it has on this
// machine. That holds for fn's thread, and what it starts, alone: it is in a
// mount namespace of its own.
func withTUN(t *testing.T, mode uint32, fn func() error) error {
	t.Helper()
	dir := t.TempDir()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		if err := mountTUN(dir, mode); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	return <-done
}

func mountTUN(dir string, mode uint32) error {
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
	if err := unix.Chmod(tun, mode); err != nil {
		return err
	}
	return unix.Mount(tun, "/dev/net/tun", "", unix.MS_BIND, "")
}
