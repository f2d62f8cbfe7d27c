package names_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/names"
)

// hello returns what crypto/tls sends first as a client: one record.
func hello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	config.InsecureSkipVerify = true
	go func() {
		_ = tls.Client(client, config).Handshake()
		client.Close()
	}()
	first := make([]byte, 1<<16)
	n, err := server.Read(first)
	if err != nil {
		t.Fatal(err)
	}
	return first[:n]
}

const recordHeaderLen = 5

// split puts the message of one record into records of at most size bytes.
func split(record []byte, size int) (records []byte) {
	for fragment := range slices.Chunk(record[recordHeaderLen:], size) {
		records = append(records, record[:3]...)
		records = binary.BigEndian.AppendUint16(records, uint16(len(fragment)))
		records = append(records, fragment...)
	}
	return records
}

// request returns what a client of HTTP/2 sends first. The header block is split into frames of
// at most size bytes.
func request(t testing.TB, size int, fields ...string) []byte {
	t.Helper()
	var block, out bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for pair := range slices.Chunk(fields, 2) {
		must(t, encoder.WriteField(hpack.HeaderField{Name: pair[0], Value: pair[1]}))
	}
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, nil)
	must(t, framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}))
	must(t, framer.WriteWindowUpdate(0, 1<<20))
	fragment := block.Next(size)
	must(t, framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fragment, EndStream: true, EndHeaders: block.Len() == 0}))
	for block.Len() > 0 {
		fragment = block.Next(size)
		must(t, framer.WriteContinuation(1, block.Len() == 0, fragment))
	}
	return out.Bytes()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func protocols(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("protocol-%04d", i))
	}
	return all
}

// A name is found as soon as its bytes have come, however they are split.
func TestOfStream(t *testing.T) {
	postQuantum := hello(t, &tls.Config{ServerName: "WWW.example.com"})
	if len(postQuantum) < 1400 {
		t.Fatalf("a hello with a post-quantum key share has only %d bytes", len(postQuantum))
	}
	tls10 := hello(t, &tls.Config{ServerName: "a.example.com", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10})
	tls12 := hello(t, &tls.Config{ServerName: "a.example.com", MaxVersion: tls.VersionTLS12})
	tls13 := hello(t, &tls.Config{ServerName: "a.example.com", MinVersion: tls.VersionTLS13})
	get := []string{":method", "GET", ":scheme", "http", ":path", "/"}
	h2 := append([]string{":authority", "A.example.com:8080"}, get...)
	for _, c := range []struct {
		name, want string
		bytes      []byte
	}{
		{"TLS", "www.example.com", postQuantum},
		{"TLS in records of 100 bytes", "www.example.com", split(postQuantum, 100)},
		{"TLS in records of 1 byte", "a.example.com", split(tls12, 1)},
		{"TLS 1.0", "a.example.com", tls10},
		{"TLS 1.2", "a.example.com", tls12},
		{"TLS 1.3", "a.example.com", tls13},
		{"TLS with a long hello", "a.example.com", hello(t, &tls.Config{ServerName: "a.example.com", NextProtos: protocols(400)})},
		{"TLS with an encrypted hello", "a", helloWith([]byte("\x00\x00\x00\x06\x00\x04\x00\x00\x01a" + // server_name
			"\xfe\x0d\x00\x0a\x00\x00\x01\x00\x01\x07\x00\x00\x00\x00"))}, // encrypted_client_hello
		{"HTTP/1", "a.example.com", []byte("GET / HTTP/1.1\r\nUser-Agent: x\r\nhost:A.example.com.:8080\r\n")},
		{"HTTP/1 without carriage returns", "a.example.com", []byte("GET / HTTP/1.0\nHost: a.example.com\n")},
		{"HTTP/1 with an absolute target", "b.example.com", []byte("GET http://me@B.example.com:80/x HTTP/1.1\r\n")},
		{"HTTP/1 with an authority", "a.example.com", []byte("CONNECT a.example.com:443 HTTP/1.1\r\nHost: a.example.com:443\r\n")},
		{"HTTP/1 to an IPv4 address", "192.0.2.1", []byte("OPTIONS * HTTP/1.1\r\nHost: 192.0.2.1\r\n")},
		{"HTTP/1 to an IPv6 address", "2001:db8::1", []byte("M-SEARCH / HTTP/1.1\r\nHost: [2001:DB8::1]:80\r\n")},
		{"HTTP/2", "a.example.com", request(t, 1<<14, h2...)},
		{"HTTP/2 in frames of 1 byte", "a.example.com", request(t, 1, h2...)},
		{"HTTP/2 with many fields", "a.example.com", request(t, 1000, append(h2, "cookie", strings.Repeat("x", 8000))...)},
		{"HTTP/2 with a host field", "c.example.com", request(t, 1<<14, append(get, "host", "c.example.com")...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n := range c.bytes {
				if name, reading := names.OfStream(c.bytes[:n]); reading != names.More {
					t.Fatalf("after %d of %d bytes: %q, %d", n, len(c.bytes), name, reading)
				}
			}
			for _, following := range []string{"", "\r\n", "Host: other.example.com\r\n\r\n", "\x16\x03\x01"} {
				if name, reading := names.OfStream(append(c.bytes, following...)); name != c.want || reading != names.Found {
					t.Errorf("followed by %q: %q, %d, want %q", following, name, reading, c.want)
				}
			}
		})
	}
}

// The reading is None as soon as it is certain that there is no name.
func TestNoName(t *testing.T) {
	for _, c := range []struct{ name, bytes string }{
		{"TLS without a name", string(hello(t, &tls.Config{}))},
		{"TLS of another version", "\x16\x04"},
		{"TLS with too long a hello", "\x16\x03\x01\x00\x04\x01\x01\x00\x01"},
		{"TLS with another message", "\x16\x03\x01\x00\x04\x02\x00\x00\x00"},
		{"TLS with an empty hello", "\x16\x03\x01\x00\x04\x01\x00\x00\x00"},
		{"TLS that is closed", "\x16\x03\x01\x00\x01\x01" + "\x15\x03\x01\x00\x02\x01\x00"},
		{"HTTP/1 without a host", "GET / HTTP/1.0\r\n\r\n"},
		{"HTTP/1 with an empty host", "GET / HTTP/1.1\r\nHost: \r\n"},
		{"HTTP/1 with the root as host", "GET / HTTP/1.1\r\nHost: .\r\n"},
		{"HTTP/1 with too long a host", "GET / HTTP/1.1\r\nHost: " + strings.Repeat("a.", 128) + "\r\n"},
		{"HTTP/1 with control characters", "GET / HTTP/1.1\r\nHost: a\x1b[2J\r\n"},
		{"HTTP/1 with other letters", "GET / HTTP/1.1\r\nHost: \u212a.example.com\r\n"}, // in lower case an ASCII k
		{"HTTP/1 with a lower-case method", "g"},
		{"HTTP/1 without a method", " "},
		{"HTTP/1 with too long a method", strings.Repeat("G", 33)},
		{"HTTP/0.9", "GET /\r\n"},
		{"HTTP/2 with too large a frame", http2.ClientPreface + "\xff\xff\xff\x04\x00\x00\x00\x00\x00"},
		{"HTTP/2 with padding but no length", http2.ClientPreface + "\x00\x00\x00\x01\x0c\x00\x00\x00\x01"},
		{"HTTP/2 without a host", string(request(t, 1<<14, ":method", "GET"))},
		{"HTTP/2 of another version", "PRI * HTTP/2.0\r\nX"},
		{"SSH", "SSH-2"},
		{"SMTP", "EHLO client.example.com\r\n"},
		{"PROXY", "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n"},
		{"a byte", "\x00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n := range c.bytes {
				if name, reading := names.OfStream([]byte(c.bytes[:n])); reading != names.More {
					t.Fatalf("after %d of %d bytes: %q, %d", n, len(c.bytes), name, reading)
				}
			}
			if name, reading := names.OfStream([]byte(c.bytes)); name != "" || reading != names.None {
				t.Errorf("%q, %d", name, reading)
			}
		})
	}
}

// helloWith returns a ClientHello whose extensions are the given bytes.
func helloWith(extensions []byte) []byte {
	body := slices.Concat([]byte{3, 3}, make([]byte, 32), []byte{0, 0, 2, 0x13, 1, 1, 0})
	body = append(binary.BigEndian.AppendUint16(body, uint16(len(extensions))), extensions...)
	message := append(binary.BigEndian.AppendUint32(nil, 1<<24|uint32(len(body))), body...)
	return append(binary.BigEndian.AppendUint16([]byte{22, 3, 1}, uint16(len(message))), message...)
}

// hostile returns streams that cost as much waiting, memory or work as possible.
func hostile(t testing.TB) map[string][]byte {
	const most = names.MaxBytes - 100 // bytes of extensions, so that the hello is not too long
	var extensions []byte
	for kind := uint16(0x100); len(extensions) < most; kind++ { // unknown, and empty
		extensions = append(binary.BigEndian.AppendUint16(extensions, kind), 0, 0)
	}
	shares := []byte{0, 51, most >> 8, most & 0xff, (most - 2) >> 8, (most - 2) & 0xff}
	for group := uint16(0); len(shares) < most; group++ { // each of one byte
		shares = append(binary.BigEndian.AppendUint16(shares, group), 0, 1, 0)
	}
	shares = append(shares, make([]byte, most+4-len(shares))...)
	filler := strings.Repeat("x", names.MaxBytes)
	large := hello(t, &tls.Config{ServerName: "a.example.com", NextProtos: protocols(1200)})
	return map[string][]byte{
		"a record without end":    []byte("\x16\x03\x01\x40\x00\x01\x00\xff\xff" + filler),
		"a long hello":            large,
		"a hello of extensions":   helloWith(extensions),
		"a hello of key shares":   helloWith(shares),
		"records of 1 byte":       split(large, 1),
		"a target without end":    []byte("GET /" + filler),
		"a field without end":     []byte("GET / HTTP/1.1\r\nX: " + filler + "\r\nHost: a\r\n\r\n"),
		"fields without end":      []byte("GET / HTTP/1.1\r\n" + strings.Repeat(":\n", names.MaxBytes/2) + "\r\nHost: a\r\n\r\n"),
		"an HTTP/2 field":         request(t, 1<<14, ":authority", "a", "cookie", strings.Repeat("~", 1<<15)),
		"HTTP/2 frames of 1 byte": request(t, 1, ":authority", "a", "cookie", filler),
		"HTTP/2 frames":           []byte(http2.ClientPreface + strings.Repeat("\x00\x00\x00\x04\x00\x00\x00\x00\x00", names.MaxBytes/9)),
		"a reserved frame":        []byte(http2.ClientPreface + "\x00\x40\x00\xff\x00\x00\x00\x00\x00" + filler),
		// A field of 4,000 bytes, and thousands of references to its entry in HPACK's table.
		"a bomb": []byte(http2.ClientPreface + "\x00\x3f\x00\x01\x04\x00\x00\x00\x01" +
			"\x40\x01x\x7f\xa1\x1e" + strings.Repeat("x", 4000) + strings.Repeat("\xbe", 0x3f00-4006)),
	}
}

// The reading of a long stream is None, and allocates little memory. A hello of key shares takes
// the most, about 500 KiB.
func TestHostileStreams(t *testing.T) {
	const most = 1 << 20 // bytes
	goroutines := runtime.NumGoroutine()
	for name, stream := range hostile(t) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, reading := names.OfStream(stream)
		runtime.ReadMemStats(&after)
		if reading != names.None {
			t.Errorf("%s: %q, %d", name, got, reading)
		}
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > most {
			t.Errorf("%s: %d bytes are allocated, want at most %d", name, allocated, most)
		}
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, want %d", n, goroutines)
	}
}

// If the reading of a prefix is not More, then the whole has the same reading.
func FuzzOfStream(f *testing.F) {
	record := hello(f, &tls.Config{ServerName: "www.example.com"})
	for _, seed := range [][]byte{
		record, split(record, 100), hello(f, &tls.Config{MaxVersion: tls.VersionTLS12}),
		[]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), []byte("GET http://a/ HTTP/1.1\r\n"),
		request(f, 1<<14, ":authority", "a"), request(f, 1, "host", "a"),
	} {
		f.Add(seed, len(seed)-1)
	}
	f.Fuzz(func(t *testing.T, whole []byte, n int) {
		if n < 0 || n > len(whole) {
			return
		}
		before := slices.Clone(whole)
		name, reading := names.OfStream(whole)
		early, earlyReading := names.OfStream(whole[:n])
		if earlyReading != names.More && (earlyReading != reading || early != name) {
			t.Errorf("%q, %d after %d bytes, but %q, %d after %d", early, earlyReading, n, name, reading, len(whole))
		}
		if (reading == names.Found) != (name != "") || reading == names.More && len(whole) >= names.MaxBytes {
			t.Errorf("%q, %d after %d bytes", name, reading, len(whole))
		}
		if !bytes.Equal(before, whole) {
			t.Error("the bytes are changed")
		}
	})
}
