package integration_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// `caddy vnic capture` on each data path: one Caddy for all of it.
func TestCaptureCommand(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		config := caddyfile{datapath: datapath, a: "ports any", policy: "lb_policy first a b"}
		s.start(config)
		s.listen(s.Server, "192.168.50.1:9000", func(conn net.Conn) { io.Copy(conn, conn) })
		before := s.held()
		always := s.startCapture(filepath.Join(s.dir, "always.pcapng"), "lan", "--filter", "icmp")
		for _, part := range []struct {
			name string
			test func(*testing.T, *scene)
		}{
			{"before and after rewriting", captureBothSides},
			{"of a segment, by filter and client", captureFiltered},
			{"bounds", captureBounds},
			{"live traffic", captureLive},
			{"refused", captureRefused},
			{"a full disk", captureToFullDisk},
			{"a reader that stops", captureWithoutReader},
		} {
			t.Run(part.name, func(t *testing.T) {
				here := *s
				here.t = t
				part.test(t, &here)
			})
		}
		s.run(s.Router, "ping", "-c", "1", "-W", "5", "-s", "777", "192.168.1.2")
		s.wantFrames(always.file, []string{"nic0 819", "vnic-A 819"}, "frame.interface_name", "frame.len")
		always.finish()
		s.waitFor(fmt.Sprintf("what captures held is given back, all but %+v", before), func() bool {
			return s.capturing() == 0 && s.held().within(before)
		})
		t.Run("reloads", func(t *testing.T) { captureOverReload(t, s, config) })
	})
}

// Both sides are captured, too, if the programs are filters of clsact, and if a VNIC is in a
// namespace of its own.
func TestCaptureElsewhere(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, datapath, kernel string
		netns                  bool
	}{
		{name: "clsact", datapath: "kernel", kernel: withoutTCX},
		{name: "netns, kernel", datapath: "kernel", netns: true},
		{name: "netns, userspace", datapath: "userspace", netns: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, paper.NetworkOptions{})
			s.onKernel(tt.kernel)
			config := caddyfile{datapath: tt.datapath}
			if tt.netns {
				config.a = "netns " + s.namespaces()["a"]
			}
			s.start(config)
			captureBothSides(t, s)
		})
	}
}

// captureRun is a `caddy vnic capture` that runs.
type captureRun struct {
	*netlab.Process
	s      *scene
	file   string
	stderr bytes.Buffer
}

// startCapture runs the command on the server, and waits until it captures.
func (s *scene) startCapture(file string, args ...string) *captureRun {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	r := &captureRun{s: s, file: file}
	cmd := exec.Command(self, append([]string{"vnic", "capture", "-w", file}, args...)...)
	cmd.Env = append(os.Environ(), asCaddy, "XDG_CONFIG_HOME="+s.dir, "XDG_DATA_HOME="+s.dir)
	cmd.Stderr = &r.stderr
	if r.Process, err = s.Server.Start(cmd); err != nil {
		s.t.Fatal(err)
	}
	s.waitFor("the capture begins", func() bool {
		info, err := os.Stat(file)
		return err == nil && info.Size() > 0
	})
	return r
}

// finish ends the capture as Ctrl-C does, and returns what it said.
func (r *captureRun) finish() string {
	r.s.t.Helper()
	if err := r.Signal(unix.SIGINT); err != nil {
		r.s.t.Fatal(err)
	}
	if err := r.Wait(); err != nil {
		r.s.t.Errorf("the capture ends with %v: %s", err, &r.stderr)
	}
	return r.stderr.String()
}

// tshark shows fields of a file's frames, a line each. It fails for a file that is
// not whole.
func (s *scene) tshark(file string, fields ...string) (lines []string) {
	s.t.Helper()
	args := []string{"-r", file, "-T", "fields", "-E", "separator=/s"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	output, err := exec.CommandContext(s.t.Context(), "tshark", args...).Output()
	if err != nil {
		s.t.Fatalf("tshark: %v", err)
	}
	return slices.Collect(strings.Lines(string(output)))
}

// wantFrames waits until a file has frames whose fields are these.
func (s *scene) wantFrames(file string, want []string, fields ...string) {
	s.t.Helper()
	var got []string
	for deadline := time.Now().Add(5 * time.Second); ; {
		got = s.tshark(file, fields...)
		missing := slices.DeleteFunc(slices.Clone(want), func(w string) bool { return slices.Contains(got, w+"\n") })
		if len(missing) == 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the file lacks %q; it has %q", missing, got)
		}
	}
}

// captureBothSides: a ping of the paper is on the NIC and on the VNIC, there and
// back, with the addresses that it has there.
func captureBothSides(t *testing.T, s *scene) {
	r := s.startCapture(filepath.Join(s.dir, "lan.pcapng"), "lan", "--filter", "icmp")
	s.run(s.Router, "ping", "-c", "1", "-W", "5", "192.168.1.2")
	s.wantFrames(r.file, []string{
		"nic0 0x00000001 192.168.1.1 192.168.1.2 8",
		"vnic-A 0x00000001 192.168.50.2 192.168.50.1 8",
		"vnic-A 0x00000002 192.168.50.1 192.168.50.2 0",
		"nic0 0x00000002 192.168.1.2 192.168.1.1 0",
	}, "frame.interface_name", "frame.packet_flags", "ip.src", "ip.dst", "icmp.type")
	if said := r.finish(); !strings.Contains(said, "4 frames, 0 dropped") {
		t.Errorf("it says %q, want 4 frames", said)
	}
	frames := s.tshark(r.file, "frame.time_epoch")
	if len(frames) != 4 || !slices.IsSorted(frames) {
		t.Errorf("the frames are of %q, want four in order", frames)
	}
}

// captureFiltered: on the NIC only the segment's flows are seen, and a client's on
// both sides, under its alias too.
func captureFiltered(t *testing.T, s *scene) {
	s.vnic("switch", "lan", "b")
	s.get("http://192.168.1.2/") // goes to b
	s.vnic("switch", "lan", "--undo")
	r := s.startCapture(filepath.Join(s.dir, "a.pcapng"), "a", "--client", paper.PC1Addr.String(), "--filter", "tcp port 80")
	s.vnic("switch", "lan", "b")
	s.get("http://192.168.1.2/")
	s.vnic("switch", "lan", "--undo")
	s.getFrom(s.Router, "http://192.168.1.2/") // another client
	s.get("http://192.168.1.2/")
	s.wantFrames(r.file, []string{"nic0 0x0012", "vnic-A 0x0012"}, "frame.interface_name", "tcp.flags")
	r.finish()
	conversations := map[string]bool{}
	for _, line := range s.tshark(r.file, "frame.interface_name", "ip.addr", "tcp.port") {
		fields := strings.Fields(line)
		conversations[fields[0]] = true
		if fields[0] != "nic0" && fields[0] != "vnic-A" || fields[0] == "nic0" && !strings.Contains(fields[1], paper.PC1Addr.String()) {
			t.Errorf("the capture has a frame of %s", line)
		}
	}
	if len(conversations) != 2 {
		t.Errorf("the frames are of %v, want both sides", conversations)
	}
	flags := slices.DeleteFunc(s.tshark(r.file, "tcp.flags"), func(f string) bool { return f != "0x0002\n" })
	if len(flags) != 2 { // of one connection, on both sides
		t.Errorf("there are %d SYNs, want 2", len(flags))
	}
}

// captureBounds: a capture ends by itself, and keeps as much of a frame as it is told.
func captureBounds(t *testing.T, s *scene) {
	file := filepath.Join(s.dir, "bounds.pcapng")
	r := s.startCapture(file, "lan", "--count", "3", "--snaplen", "130")
	s.run(s.Router, "ping", "-c", "1", "-s", "1000", "192.168.1.2")
	if err := r.Wait(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.stderr.String(), "3 frames, 0 dropped") || !strings.Contains(r.stderr.String(), "all frames that were asked for") {
		t.Errorf("it says %q", &r.stderr)
	}
	for _, line := range s.tshark(file, "frame.cap_len", "frame.len") {
		if line != "130 1042\n" && line != "42 42\n" { // the latter is ARP
			t.Errorf("a frame has %s", line)
		}
	}
	r = s.startCapture(file, "segment/a", "--duration", "100ms")
	if err := r.Wait(); err != nil || !strings.Contains(r.stderr.String(), "ended: the time is over") {
		t.Errorf("%v: %s", err, &r.stderr)
	}
	comment := s.run(s.Server, "capinfos", file)
	if !strings.Contains(comment, "caddy vnic capture segment/a") {
		t.Errorf("the file says\n%s", comment)
	}
}

// captureLive: of traffic that passes already, nothing is missing between the first
// frame and the last, and all devices begin together.
func captureLive(t *testing.T, s *scene) {
	pings, err := s.Router.Start(exec.Command("ping", "-q", "-i", "0.005", "192.168.1.2"))
	if err != nil {
		t.Fatal(err)
	}
	defer pings.Stop()
	s.waitFor("the pings pass", func() bool { return s.status().Segments["a"].Packets.To > 10 })
	for range 3 {
		r := s.startCapture(filepath.Join(s.dir, "live.pcapng"), "lan", "--filter", "icmp", "--count", "100")
		if err := r.Wait(); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(r.stderr.String(), "100 frames, 0 dropped") {
			t.Errorf("it says %q", &r.stderr)
		}
		first, last := map[string]int{}, map[string]int{}
		for _, line := range s.tshark(r.file, "frame.interface_name", "frame.packet_flags", "icmp.seq") {
			at, number, _ := strings.Cut(strings.TrimSpace(line), " 0x0000000")
			direction, number, _ := strings.Cut(number, " ")
			at += direction
			seq, err := strconv.Atoi(number)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if _, ok := first[at]; !ok {
				first[at], last[at] = seq, seq-1
			}
			if last[at]++; seq != last[at] {
				t.Fatalf("at %s ping %d comes where %d is due", at, seq, last[at])
			}
		}
		if seqs := slices.Collect(maps.Values(first)); len(seqs) != 4 || slices.Max(seqs)-slices.Min(seqs) > 1 {
			t.Errorf("the devices begin with the pings %v, want the same one at both devices and in both directions", first)
		}
	}
}

func captureRefused(t *testing.T, s *scene) {
	for query, want := range map[string]string{
		"of=z": `there is no segment or bridge \"z\": the configuration has the segments a, b and the bridges lan`,
		"of=a&filter=" + url.QueryEscape("tcp port 80) or (udp"): `\")\" is too much`,
		"of=a&snaplen=10":      "want 128 to",
		"of=a&count=0":         "want a positive number",
		"of=a&duration=1":      "want a time",
		"of=a&client=somebody": "want an address",
		"of=a&interface=eth0":  "unknown parameter",
		"of=bridge/a":          "there is no segment or bridge",
	} {
		s.wantNoCapture(query, http.StatusBadRequest, want)
	}
	var running []*captureRun
	for i := range 3 { // and one that always runs
		running = append(running, s.startCapture(filepath.Join(s.dir, fmt.Sprint(i)), "a"))
	}
	s.wantNoCapture("of=a", http.StatusTooManyRequests, "end one first")
	for _, r := range running {
		r.finish()
	}
}

func (s *scene) wantNoCapture(query string, status int, want string) {
	s.t.Helper()
	resp, err := s.adminClient().Get("http://localhost:2019/vnic/capture?" + query)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status || !strings.Contains(string(body), want) {
		s.t.Errorf("%s is answered by %d %s (%v), want %d %s", query, resp.StatusCode, body, err, status, want)
	}
}

// captureToFullDisk: the command says what is wrong, and what fits is a whole file.
func captureToFullDisk(t *testing.T, s *scene) {
	disk := filepath.Join(s.dir, "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", disk, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(disk, unix.MNT_DETACH)
	file := filepath.Join(disk, "lan.pcapng")
	r := s.startCapture(file, "lan")
	for full := false; !full; {
		s.run(s.Router, "ping", "-q", "-c", "20", "-i", "0.01", "-s", "1400", "192.168.1.2")
		select {
		case <-r.Done():
			full = true
		default:
		}
	}
	if r.Wait() == nil || !strings.Contains(r.stderr.String(), "no space left on device") || !strings.Contains(r.stderr.String(), "--filter") {
		t.Errorf("it says %q", &r.stderr)
	}
	s.tshark(file, "frame.number")
}

// captureWithoutReader: a capture that nobody reads slows nobody down. What was
// dropped is counted, and the file is whole.
func captureWithoutReader(t *testing.T, s *scene) {
	r := s.startCapture(filepath.Join(s.dir, "stopped.pcapng"), "lan", "--snaplen", "65536")
	if err := r.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	conn, err := s.PC1.DialContext(t.Context(), "tcp4", "192.168.1.2:9000")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const total = 64 << 20 // each way, and all is captured twice: more than sockets and rings hold
	sent := make(chan error, 1)
	go func() {
		_, err := io.CopyN(conn, neverending{}, total)
		sent <- err
	}()
	if _, err := io.CopyN(io.Discard, conn, total); err != nil {
		t.Errorf("the echo of %d bytes: %v", total, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if err := r.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.waitFor("the file says what was dropped", func() bool {
		return slices.ContainsFunc(s.dropped(r.file), func(n string) bool { return n != "0" })
	})
	if said := r.finish(); strings.Contains(said, " 0 dropped") {
		t.Errorf("it says %q", said)
	}
	s.tshark(r.file, "frame.number")
}

// neverending is zeros.
type neverending struct{}

func (neverending) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// dropped lists the counts of dropped frames in a file, as Wireshark shows them.
func (s *scene) dropped(file string) (counts []string) {
	s.t.Helper()
	output, err := exec.CommandContext(s.t.Context(), "tshark", "-r", file, "-X", "read_format:MIME Files Format", "-T", "fields", "-e", "pcapng.options.option.data.interface.dropped").Output()
	if err != nil {
		s.t.Fatalf("tshark: %v", err)
	}
	return strings.Fields(strings.ReplaceAll(string(output), ",", " "))
}

// captureOverReload: a reload that leaves devices as they are leaves captures alone,
// others end those that they concern, which say why.
func captureOverReload(t *testing.T, s *scene, config caddyfile) {
	s.t = t
	lan := s.startCapture(filepath.Join(s.dir, "reload-lan.pcapng"), "lan", "--filter", "icmp")
	a := s.startCapture(filepath.Join(s.dir, "reload-a.pcapng"), "a", "--filter", "icmp")
	config.policy = "lb_policy round_robin a b"
	s.load(config)
	s.run(s.Router, "ping", "-c", "1", "-W", "5", "192.168.1.2")
	s.wantFrames(lan.file, []string{"nic0 8"}, "frame.interface_name", "icmp.type")
	config.b = "mac 50:01:02:03:04:66"
	s.load(config)
	lan.wantEnd("VNIC of segment b is gone")
	config.datapath = map[string]string{"kernel": "userspace", "userspace": "kernel"}[config.datapath]
	s.load(config)
	a.wantEnd("the data path has changed")
}

// wantEnd waits for a capture to end by itself.
func (r *captureRun) wantEnd(why string) {
	r.s.t.Helper()
	if err := r.Wait(); err != nil || !strings.Contains(r.stderr.String(), "ended: "+why) {
		r.s.t.Errorf("the capture ends with %v: %s", err, &r.stderr)
	}
	r.s.tshark(r.file, "frame.number")
}

// capturing tells how many captures there are in Caddy: goroutines, and programs.
func (s *scene) capturing() (n int) {
	s.t.Helper()
	stacks := s.fromAdmin("/debug/pprof/goroutine?debug=2")
	return strings.Count(stacks, "vnicbridge.(*Capture).Run(")
}

// captureHoldings are what captures make beside goroutines: packet sockets on the
// server, and descriptors of BPF objects in Caddy.
type captureHoldings struct{ sockets, objects int }

// within allows for fewer than before, because a start may hold more for a moment.
func (h captureHoldings) within(before captureHoldings) bool {
	return h.sockets <= before.sockets && h.objects <= before.objects
}

func (s *scene) held() (h captureHoldings) {
	s.t.Helper()
	const count = "wc -l < /proc/net/packet; ls -l /proc/$1/fd 2>/dev/null | grep -c bpf || true" // a descriptor may be closed meanwhile
	counts := s.run(s.Server, "sh", "-c", count, "sh", fmt.Sprint(s.caddy.Process().PID()))
	if _, err := fmt.Sscan(counts, &h.sockets, &h.objects); err != nil {
		s.t.Fatalf("%q: %v", counts, err)
	}
	return h
}
