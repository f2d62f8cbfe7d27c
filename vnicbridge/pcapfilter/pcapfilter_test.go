package pcapfilter

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"golang.org/x/net/bpf"
)

var expressions = []string{
	"ip", "ip6", "arp", "tcp", "udp", "icmp", "not tcp", "! udp", "not (arp or icmp)",
	"host 192.168.1.1", "src host 192.168.1.1", "dst 192.168.1.1", "src 10.0.0.9", "arp host 192.168.1.1", "ip host 10.0.0.9", "ip src 10.0.0.9",
	"src or dst host 10.0.0.9", "src and dst host 192.168.1.1", "host 192.168.1.1 or 10.0.0.9", "host 192.168.1.1 and not 10.0.0.9",
	"net 192.168.0.0/16", "src net 10.0.0.0/8", "dst net 0.0.0.0/0", "net 192.168.1.2/32",
	"port 80", "tcp port 80", "udp port 53", "src port 80", "tcp dst port 443", "port 80 or 443", "not port 80", "ip and port 53", "src and dst port 80",
	"portrange 50-90", "tcp portrange 400-500", "src portrange 0-65535",
	"ether host 02:00:00:00:00:01", "ether src 02:00:00:00:00:01", "ether dst 02:00:00:00:00:01", "ether proto 0x806", `ether proto \ip`, "ether proto 35020",
	"ip proto 6", `ip proto \udp`, `ip proto \icmp`, `proto \tcp`, `proto \icmp`,
	"less 60", "greater 61", "len > 100", "len <= 54", "len & 1 == 1",
	"tcp[13] == 2", "tcp[tcpflags] & tcp-syn != 0", "tcp[tcpflags] & (tcp-syn|tcp-ack) = 2", "tcp[0:2] = 80", "tcp[4:4] > 0x100", "tcp[13]&0x10!=0",
	"udp[4:2] + 1 > 20", "icmp[icmptype] == icmp-echo", "icmp[0] != 8", "ip[8] < 64", "ip[0] & 0xf > 5", "ip[2:2] << 1 >= 100", "ip[2:2] >> 4 | 1 != 3", "ether[0] & 1 = 0", "arp[6:2] = 1",
	"tcp && port 80 || udp && port 53", "tcp or udp and port 53", "(tcp and port 80) or (udp and port 53)",
	"(arp or host 192.168.1.2) and (tcp port 80)", "(arp or host 192.168.1.2) and (not port 22)", "not not arp",

	"icmp6", "not icmp6", "icmp or icmp6", "ip6 and tcp", "ip6 and not udp", "ip6 and port 53", "ip6 and udp src port 80", "ip6 and portrange 50-90",
	"host 2001:db8::1", "ip6 host 2001:db8::1", "src host fd00:50::1", "ip6 src fd00:50::1", "dst 2001:db8::2", "ip6 dst host fd00:50::1",
	"src or dst host fd00:50::1", "src and dst host 2001:db8::1", "host 192.168.1.1 or 2001:db8::1", "host 2001:db8::1 and not fd00:50::1",
	"net 2001:db8::/32", "src net fd00:50::/64", "dst net ::/0", "net 2001:db8::1/128", "ip6 net fd00::/8", "net 2001:db8::/127", "net 2001:db8::2/127",
	"ip6 proto 58", "ip6 proto 44", "ip6 proto 0", `ip6 proto \tcp`, `ip6 proto \udp`, "ip proto 58", `ip proto \tcp`, "proto 17", "proto 58",
	"ip6[6] = 44", "ip6[7] > 62", "ip6[8:4] = 0x20010db8", "ip6[4:2] > 20", "icmp6[0] = 128", "icmp6[icmp6type] == icmp6-echo",
	"icmp6[icmp6type] >= icmp6-routersolicit", "icmp6[icmp6code] != 0", "icmp6[8:4] = 0xfd000050",
	"host 192.168.1.2 or (ip6 host 2001:db8::2 or (icmp6[0] = 135 and ip6[48:4] = 0xfd000050 and ip6[60:4] = 1))",
}

// The same frames match as with libpcap's own compiler.
func TestLikeTcpdump(t *testing.T) {
	frames := testFrames(t)
	file := savePcap(t, frames)
	for _, expression := range expressions {
		theirs := tcpdump(t, file, expression)
		var ours []int
		program := mustCompile(t, expression)
		for i, f := range frames {
			if n, err := program.Run(f); err != nil {
				t.Errorf("%s: %v", expression, err)
			} else if n > 0 {
				ours = append(ours, i)
			}
		}
		if !slices.Equal(ours, theirs) {
			t.Errorf("%s matches %v, with libpcap %v", expression, ours, theirs)
		}
	}
}

// tcpdump lists the frames that it takes from a file, by their numbers, which
// stand in their timestamps.
func tcpdump(t *testing.T, file, expression string) (matched []int) {
	t.Helper()
	output, err := exec.Command("tcpdump", "-r", file, "-w", "-", expression).Output()
	if err != nil {
		t.Fatalf("tcpdump %s: %v", expression, err)
	}
	r, err := pcapgo.NewReader(bytes.NewReader(output))
	if err != nil {
		t.Fatal(err)
	}
	for {
		_, info, err := r.ReadPacketData()
		if err != nil {
			return matched
		}
		matched = append(matched, int(info.Timestamp.Unix()))
	}
}

func savePcap(t *testing.T, frames [][]byte) string {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for i, f := range frames {
		info := gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 0), CaptureLength: len(f), Length: len(f)}
		if err := w.WritePacket(info, f); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "frames.pcap")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustCompile(t *testing.T, expression string) *bpf.VM {
	t.Helper()
	program, err := Compile(expression, 100)
	if err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return vm
}

// testFrames are frames of every kind, in all combinations of addresses and ports.
func testFrames(t *testing.T) (frames [][]byte) {
	addresses := []string{"192.168.1.1", "192.168.1.2", "10.0.0.9"}
	ports := []uint16{80, 443, 53, 50000}
	for _, src := range addresses {
		for _, dst := range addresses {
			for _, l4 := range []gopacket.SerializableLayer{
				&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)},
				&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4)},
			} {
				frames = append(frames, ipFrame(t, src, dst, layers.IPProtocolICMPv4, l4, 0, 0))
			}
			for _, from := range ports {
				for i, to := range ports {
					tcp := &layers.TCP{SrcPort: layers.TCPPort(from), DstPort: layers.TCPPort(to), SYN: i%2 == 0, ACK: i > 1, Seq: uint32(i) << 8}
					udp := &layers.UDP{SrcPort: layers.UDPPort(from), DstPort: layers.UDPPort(to)}
					frames = append(frames,
						ipFrame(t, src, dst, layers.IPProtocolTCP, tcp, i%3, 0),
						ipFrame(t, src, dst, layers.IPProtocolUDP, udp, i%2, 0),
						ipFrame(t, src, dst, layers.IPProtocolUDP, udp, 0, 100))
				}
			}
			frames = append(frames, arpFrame(t, src, dst))
		}
	}
	frames = append(frames, ipv6Frames(t, ports)...)
	lldp := slices.Concat([]byte{1, 0x80, 0xc2, 0, 0, 0x0e}, make([]byte, 6), []byte{0x88, 0xcc}, make([]byte, 46))
	return append(frames, lldp)
}

func ipFrame(t *testing.T, src, dst string, proto layers.IPProtocol, l4 gopacket.SerializableLayer, options int, fragment uint16) []byte {
	ip := &layers.IPv4{Version: 4, TTL: uint8(60 + options*4), Protocol: proto, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst), FragOffset: fragment}
	for range options * 4 {
		ip.Options = append(ip.Options, layers.IPv4Option{OptionType: 1})
	}
	if l, ok := l4.(interface {
		SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
	}); ok {
		if err := l.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
	}
	return serialize(t, layers.EthernetTypeIPv4, ip, l4, gopacket.Payload(strings.Repeat("x", 5+options*20)))
}

// ipv6Frames are packets of IPv6, some with extension headers.
func ipv6Frames(t *testing.T, ports []uint16) (frames [][]byte) {
	addresses := []string{"2001:db8::1", "2001:db8::2", "fd00:50::1"}
	options := []byte{0, 0, 1, 4, 0, 0, 0, 0} // of 8 bytes: the next header's number comes first
	for _, src := range addresses {
		for _, dst := range addresses {
			add := func(kind uint8, content []byte) {
				frames = append(frames, ipv6Frame(t, src, dst, kind, content))
				frames = append(frames, ipv6Frame(t, src, dst, 0, append(slices.Concat([]byte{kind}, options[1:]), content...)))
				frames = append(frames, ipv6Frame(t, src, dst, 60, append(slices.Concat([]byte{kind}, options[1:]), content...)))
				for _, offset := range []byte{0, 8} { // a first fragment, and a later one
					header := []byte{kind, 0, 0, offset | 1, 0, 0, 0, 7}
					frames = append(frames, ipv6Frame(t, src, dst, protoFragment, append(header, content...)))
				}
			}
			for _, from := range ports {
				for _, to := range ports {
					add(protoTCP, []byte{byte(from >> 8), byte(from), byte(to >> 8), byte(to), 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 1, 0, 0, 0, 0})
					add(protoUDP, []byte{byte(from >> 8), byte(from), byte(to >> 8), byte(to), 0, 9, 0, 0, 'x'})
				}
			}
			for _, message := range [][2]byte{{1, 4}, {2, 0}, {128, 0}, {129, 0}, {134, 0}, {135, 0}} {
				add(protoICMPv6, slices.Concat(message[:], make([]byte, 6), net.ParseIP(dst)))
			}
			add(59, nil)
		}
	}
	return frames
}

func ipv6Frame(t *testing.T, src, dst string, next uint8, content []byte) []byte {
	ip := &layers.IPv6{Version: 6, HopLimit: 62 + next%3, NextHeader: layers.IPProtocol(next), SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
	return serialize(t, layers.EthernetTypeIPv6, ip, gopacket.Payload(content))
}

func arpFrame(t *testing.T, sender, target string) []byte {
	return serialize(t, layers.EthernetTypeARP, &layers.ARP{
		AddrType: 1, Protocol: 0x0800, HwAddressSize: 6, ProtAddressSize: 4, Operation: 1,
		SourceHwAddress: make([]byte, 6), DstHwAddress: make([]byte, 6),
		SourceProtAddress: net.ParseIP(sender).To4(), DstProtAddress: net.ParseIP(target).To4(),
	})
}

func serialize(t *testing.T, kind layers.EthernetType, rest ...gopacket.SerializableLayer) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, byte(1 + len(rest)%2)}, EthernetType: kind}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, append([]gopacket.SerializableLayer{eth}, rest...)...); err != nil {
		t.Fatal(err)
	}
	return slices.Clone(b.Bytes())
}

// What is not understood is refused, and the error names it.
func TestRefused(t *testing.T) {
	for expression, want := range map[string]string{
		"garbage":                              `"garbage" is not understood`,
		"tcp port 80) or (udp":                 `")" is too much`,
		"(tcp":                                 "parenthesis is missing",
		"host":                                 `a value is missing behind "host"`,
		"host foo.example":                     "names are not resolved",
		"port http":                            "want numbers up to 65535",
		"port 80-90":                           "want port and a number, or portrange",
		"portrange 90-80":                      "want numbers up to 65535",
		"net 10.1.0.0/8":                       "want a network",
		"tcp and":                              "it ends too early",
		"not":                                  "it ends too early",
		"tcp host 10.0.0.1":                    "tcp has no addresses",
		"icmp port 80":                         "icmp has no ports",
		"ether host 1.2.3.4":                   "want a MAC",
		"ether proto lldp":                     "want a number",
		"ip proto 256":                         "want ip proto and a number",
		"tcp[13":                               "is not understood",
		"tcp[13:3] = 1":                        "size of 1, 2 or 4",
		"tcp[13]":                              "want a comparison",
		"tcp[13] & 2":                          "want a comparison",
		"ip[0] << 40 = 1":                      "bits to shift by",
		"vlan[0] = 1":                          "no header to look into",
		"tcp[13] = (tcp-syn,tcp-ack)":          "is not understood",
		"tcp[13] = (tcp-syn tcp-ack)":          "joined by |",
		"less many":                            "is no number",
		"80":                                   `"80" is not understood`,
		"tcp udp":                              "is no IP address",
		"ip6 host 10.0.0.1":                    "want an address of IPv6 behind ip6",
		"ip host ::1":                          "want an address of IPv4 behind ip",
		"arp host ::1":                         "want an address of IPv4 behind arp",
		"tcp host ::1":                         "tcp has no addresses",
		"net 2001:db8::1/64":                   "want a network",
		"net fd00::/129":                       "want a network",
		"icmp6 port 80":                        "icmp6 has no ports",
		"ip6 proto 256":                        "want ip proto and a number",
		"tcp proto 6":                          "tcp has no protocols",
		strings.Repeat("(", 100):               "too long",
		"port 1" + strings.Repeat(" or 1", 30): "too long",
	} {
		if _, err := Compile(expression, 100); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v, want %q", expression, err, want)
		}
	}
}

// Names of protocols need no backslash.
func TestWithoutEscape(t *testing.T) {
	for _, expression := range []string{"ether proto arp", "ip proto tcp", "proto udp"} {
		mustCompile(t, expression)
	}
}

func TestEmpty(t *testing.T) {
	if n, err := mustCompile(t, " ").Run(make([]byte, 14)); n != 100 || err != nil {
		t.Errorf("the empty expression returns %d, %v, want the snapshot length", n, err)
	}
}

// FuzzCompile: whatever the expression, it is refused, or makes a program that the
// kernel takes and that returns for any frame.
func FuzzCompile(f *testing.F) {
	for i, e := range expressions {
		f.Add(e, fmt.Appendf(nil, "%060d", i))
	}
	f.Fuzz(func(t *testing.T, expression string, frame []byte) {
		program, err := Compile(expression, 100)
		if err != nil {
			return
		}
		vm, err := bpf.NewVM(program)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := vm.Run(frame); err != nil || n != 0 && n != 100 {
			t.Errorf("it returns %d, %v", n, err)
		}
		if raw, err := bpf.Assemble(program); err != nil || len(raw) > 4096 { // BPF_MAXINSNS
			t.Errorf("%d instructions, %v", len(raw), err)
		}
	})
}
