package integration_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

const mib = 1 << 20

// maxFrame is the largest frame on a link with an MTU of 1500.
const maxFrame = 1514

// Rows F2, F3, F7, F8 and F9: files, datagrams and pings of all sizes cross
// unharmed, whether the kernel leaves segmentation and checksums to the devices
// or not. The server is any program that binds the segment's address.
func TestBulkTraffic(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		t.Run("offloads on", func(t *testing.T) {
			s := newBulkScene(t, datapath, false)
			server := s.capture(s.Server, "nic0", "vnic-A")
			s.transfer(mib)
			wantWholeSuperFrames(t, datapath, s.frames(server))
			server.Close()
			s.transfer(20 * mib)
			s.datagrams()
			s.bigPings()
		})
		t.Run("offloads off", func(t *testing.T) {
			s := newBulkScene(t, datapath, true)
			captures := map[string]*netlab.Capture{
				"PC1":    s.capture(s.PC1, "eth0"),
				"router": s.capture(s.Router, "lan", "wan"),
				"server": s.capture(s.Server, "nic0", "vnic-A"),
			}
			s.transfer(mib)
			s.datagrams()
			s.bigPings()
			for host, c := range captures {
				s.wantRightChecksums(host, c)
				c.Close()
			}
			s.transfer(20 * mib)
		})
	})
}

// bulkScene has a server on 192.168.50.1 that serves the files of its directory,
// answers what is posted with its hash, and echoes datagrams.
type bulkScene struct {
	*scene
	random *rand.ChaCha8
}

func newBulkScene(t *testing.T, datapath string, noOffloads bool) *bulkScene {
	// A router that does NAT reassembles fragments and cuts them anew, and writes
	// over those that a capture has yet to read: there would be wrong checksums
	// in the capture alone.
	s := newScene(t, paper.NetworkOptions{NAT: !noOffloads, NoOffloads: noOffloads})
	s.start(caddyfile{datapath: datapath, a: "ports any"})
	for _, vnic := range []string{"vnic-A", "vnic-B"} {
		if err := s.Server.SetOffloads(vnic, !noOffloads); err != nil {
			t.Fatal(err)
		}
	}
	s.serveFiles("192.168.50.1:40000")
	s.echoUDP(s.Server, "192.168.50.1:40000")
	return &bulkScene{s, rand.NewChaCha8([32]byte{1})}
}

// serveFiles serves the scene's directory, by sendfile as web servers do, and
// answers a POST with the hash of its body.
func (s *scene) serveFiles(address string) { s.serveFilesOn(s.Server, address) }

func (s *scene) serveFilesOn(h *netlab.Host, address string) {
	s.t.Helper()
	files := http.FileServer(http.Dir(s.dir))
	s.serveHTTP(h, address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			files.ServeHTTP(w, r)
			return
		}
		hash := sha256.New()
		if _, err := io.Copy(hash, r.Body); err == nil {
			fmt.Fprintf(w, "%x", hash.Sum(nil))
		}
	}))
}

// transfer downloads and uploads a random file and compares hashes.
func (s *bulkScene) transfer(size int) {
	s.t.Helper()
	data := make([]byte, size)
	s.random.Read(data)
	want := fmt.Sprintf("%x", sha256.Sum256(data))
	s.write("file", string(data))
	if got := fmt.Sprintf("%x", sha256.Sum256([]byte(s.get("http://192.168.1.2:40000/file")))); got != want {
		s.t.Errorf("%d bytes down have the hash %s, want %s", size, got, want)
	}
	resp, err := s.PC1.HTTPClient().Post("http://192.168.1.2:40000/", "application/octet-stream", bytes.NewReader(data))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != want {
		s.t.Errorf("%d bytes up have the hash %s, want %s (%v)", size, got, want, err)
	}
}

// datagrams has UDP payloads of 1 to 60,000 bytes echoed: those that do not fit
// a frame cross in fragments, both ways.
func (s *bulkScene) datagrams() {
	s.t.Helper()
	conn, err := s.PC1.DialContext(s.t.Context(), "udp4", "192.168.1.2:40000")
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	sizes := []int{1, 2, 3, 1000, 1471, 1472, 1473, 2951, 2952, 2953, 59999, 60000}
	source := rand.New(s.random)
	for range 50 {
		sizes = append(sizes, 1+source.IntN(60000))
	}
	buffer := make([]byte, 1<<16)
	for _, size := range sizes {
		sent := make([]byte, size)
		s.random.Read(sent)
		if _, err := conn.Write(sent); err != nil {
			s.t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			s.t.Fatal(err)
		}
		if n, err := conn.Read(buffer); err != nil || !bytes.Equal(buffer[:n], sent) {
			s.t.Fatalf("a datagram of %d bytes came back as %d others (%v)", size, n, err)
		}
	}
}

func (s *bulkScene) bigPings() {
	s.t.Helper()
	ping, err := s.PC1.Ping(s.t.Context(), paper.PseudoAddr, netlab.PingOptions{Size: 5000, Count: 5, Interval: 10 * time.Millisecond})
	if err != nil || ping.Lost() > 0 || ping.Duplicates > 0 {
		s.t.Errorf("ping with 5,000 bytes: %+v (%v)", ping, err)
	}
}

// wantWholeSuperFrames checks that the segments over the size of a frame are the
// same on nic0 and vnic-A, and that there are some in both directions.
//
// On the kernel path what a segment sends leaves its VNIC before a capture there
// sees it: it is seen on the NIC, whole.
func wantWholeSuperFrames(t *testing.T, datapath string, frames []netlab.Frame) {
	t.Helper()
	var super [2][]string
	directions := map[bool]int{}
	for _, f := range frames {
		tcp, ok := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy).TransportLayer().(*layers.TCP)
		if !ok || len(f.Data) <= maxFrame {
			continue
		}
		directions[tcp.SrcPort == 40000]++
		if datapath == "kernel" && tcp.SrcPort == 40000 {
			continue
		}
		super[f.Interface] = append(super[f.Interface], fmt.Sprintf("%s→%s seq %d, %d bytes", tcp.SrcPort, tcp.DstPort, tcp.Seq, len(f.Data)))
	}
	slices.Sort(super[0])
	slices.Sort(super[1])
	if !slices.Equal(super[0], super[1]) {
		t.Errorf("frames over %d bytes on nic0 and on vnic-A differ:\n%s\n\n%s", maxFrame, strings.Join(super[0], "\n"), strings.Join(super[1], "\n"))
	}
	if directions[true] == 0 || directions[false] == 0 {
		t.Errorf("no frame is over %d bytes in both directions: %v", maxFrame, directions)
	}
}

var wrongChecksum = regexp.MustCompile(`(?i)\b(bad|wrong|incorrect)\b`)

// wantRightChecksums has tcpdump judge every frame of a capture, and checks that
// none is larger than its link.
func (s *bulkScene) wantRightChecksums(host string, c *netlab.Capture) {
	s.t.Helper()
	path := filepath.Join(s.dir, host+".pcapng")
	if err := c.Save(path); err != nil {
		s.t.Fatal(err)
	}
	verdict := s.run(s.Server, "tcpdump", "-vv", "-nn", "-r", path)
	for line := range strings.Lines(verdict) {
		if wrongChecksum.MatchString(line) {
			s.t.Fatalf("%s: %s", host, line)
		}
	}
	for _, right := range []string{"(correct)", "[udp sum ok]", "ICMP echo reply"} {
		if !strings.Contains(verdict, right) {
			s.t.Errorf("%s: tcpdump says %q of no frame", host, right)
		}
	}
	for _, f := range s.frames(c) {
		if len(f.Data) > maxFrame {
			s.t.Fatalf("%s: a frame of %d bytes, IP id %#x", host, len(f.Data), binary.BigEndian.Uint16(f.Data[18:]))
		}
	}
}
