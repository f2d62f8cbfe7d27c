package names_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/names"
)

// The name is found in the sample packets of RFC 9001 §A.2 and RFC 9369 §A.2.
func TestSampleInitials(t *testing.T) {
	for _, file := range []string{"testdata/rfc9001-a2.hex", "testdata/rfc9369-a2.hex"} {
		text, err := os.ReadFile(file)
		must(t, err)
		datagram, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
		must(t, err)
		wantName(t, "example.com", datagram)
	}
}

// wantName checks that a name is found when all datagrams have come, and not earlier.
func wantName(t *testing.T, want string, datagrams ...[]byte) {
	t.Helper()
	for n := range datagrams {
		if name, reading := names.OfDatagrams(datagrams[:n]); name != "" || reading != names.More {
			t.Fatalf("after %d of %d datagrams: %q, %d", n, len(datagrams), name, reading)
		}
	}
	if name, reading := names.OfDatagrams(datagrams); name != want || reading != names.Found {
		t.Fatalf("%q, %d, want %q", name, reading, want)
	}
}

// flight returns the datagrams that a client of quic-go sends until they contain a name.
func flight(t testing.TB, version quic.Version, config *tls.Config) (datagrams [][]byte) {
	t.Helper()
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(t, err)
	defer server.Close()
	must(t, server.SetReadDeadline(time.Now().Add(10*time.Second)))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	defer func() { cancel(); <-ended }()
	go func() {
		defer close(ended)
		config.InsecureSkipVerify = true
		_, _ = quic.DialAddr(ctx, server.LocalAddr().String(), config, &quic.Config{Versions: []quic.Version{version}})
	}()
	for {
		datagram := make([]byte, 1<<16)
		n, _, err := server.ReadFrom(datagram)
		must(t, err)
		datagrams = append(datagrams, datagram[:n])
		if _, reading := names.OfDatagrams(datagrams); reading != names.More {
			return datagrams
		}
	}
}

// orders returns all permutations.
func orders(of [][]byte) (all [][][]byte) {
	if len(of) == 0 {
		return [][][]byte{nil}
	}
	for i, first := range of {
		for _, rest := range orders(slices.Delete(slices.Clone(of), i, i+1)) {
			all = append(all, append([][]byte{first}, rest...))
		}
	}
	return all
}

// The name that quic-go asks for is found in its datagrams in any order, also if some come again or
// are damaged, and as soon as none is missing.
func TestQUICClients(t *testing.T) {
	for _, c := range []struct {
		name      string
		version   quic.Version
		config    *tls.Config
		datagrams int
	}{
		{"v1", quic.Version1, &tls.Config{NextProtos: []string{"h3"}}, 2},
		{"v2", quic.Version2, &tls.Config{NextProtos: []string{"h3"}}, 2},
		{"v1 with a classical key share", quic.Version1, &tls.Config{NextProtos: []string{"h3"}, CurvePreferences: []tls.CurveID{tls.X25519}}, 1},
		{"v1 with a long hello", quic.Version1, &tls.Config{NextProtos: protocols(120)}, 3},
		{"v2 with a long hello", quic.Version2, &tls.Config{NextProtos: protocols(120)}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.config.ServerName = "Q.example.com"
			sent := flight(t, c.version, c.config)
			if len(sent) < c.datagrams {
				t.Fatalf("%d datagrams, want %d", len(sent), c.datagrams)
			}
			for _, order := range orders(sent) {
				first, rest := order[:1], order[1:]
				damaged := slices.Clone(first[0])
				damaged[len(damaged)-1] ^= 1
				wantName(t, "q.example.com", order...)
				wantName(t, "q.example.com", slices.Concat(rest, rest, first)...)
				wantName(t, "q.example.com", slices.Concat([][]byte{damaged}, rest, first)...)
			}
		})
	}
}

const (
	v1, v2 = uint32(quic.Version1), uint32(quic.Version2)
	id     = "12345678"
)

// Frames of RFC 9000 §19.
var (
	ping    = []byte{1}
	padding = make([]byte, 100)
	ack     = []byte{2, 7, 0x40, 0xff, 1, 0, 2, 3}
	ackECN  = []byte{3, 7, 0, 0, 1, 4, 5, 6}
	closing = []byte{0x1c, 0x0a, 6, 3, 'b', 'y', 'e'}
)

// crypto returns a CRYPTO frame with message[from:to].
func crypto(message []byte, from, to int) []byte {
	frame := quicvarint.Append([]byte{6}, uint64(from))
	frame = quicvarint.Append(frame, uint64(to-from))
	return append(frame, message[from:to]...)
}

// pieces returns CRYPTO frames of at most size bytes, the last one first.
func pieces(message []byte, size int) (frames []byte) {
	for from := (len(message) - 1) / size * size; from >= 0; from -= size {
		frames = append(frames, crypto(message, from, min(from+size, len(message)))...)
	}
	return frames
}

func initial(id string, frames ...[]byte) []byte {
	return names.SealInitial(v1, id, "", slices.Concat(frames...))
}

// otherLong returns a packet with a long header, of the type in the first byte.
func otherLong(first byte, id string) []byte {
	packet := append([]byte{first, 0, 0, 0, 1, byte(len(id))}, id...)
	return append(packet, "\x00\x1ea payload that nobody can read"...)
}

const (
	zeroRTT   = 0xd0
	handshake = 0xe0
	retry     = 0xf0
)

// The name is found as soon as all datagrams have come, and other packets do not matter.
func TestOfDatagrams(t *testing.T) {
	h := hello(t, &tls.Config{ServerName: "a.example.com"})[recordHeaderLen:]
	other := hello(t, &tls.Config{ServerName: "b.example.com"})[recordHeaderLen:]
	end := len(h)
	whole := initial(id, crypto(h, 0, end))
	early := otherLong(zeroRTT, id)
	damaged := slices.Clone(whole)
	damaged[len(damaged)-1] ^= 1
	for _, c := range []struct {
		name      string
		datagrams [][]byte
	}{
		{"one frame", [][]byte{whole}},
		{"v2", [][]byte{names.SealInitial(v2, id, "", crypto(h, 0, end))}},
		{"no connection id", [][]byte{initial("", crypto(h, 0, end))}},
		{"a long connection id", [][]byte{initial("12345678901234567890", crypto(h, 0, end))}},
		{"frames of 1 byte, backwards", [][]byte{initial(id, pieces(h, 1))}},
		{"frames that overlap", [][]byte{initial(id, crypto(h, 5, 900), crypto(h, 100, 200), crypto(h, 800, end), crypto(h, 0, 6))}},
		{"other frames", [][]byte{initial(id, ping, crypto(h, 700, end), padding, ack, crypto(h, 3, 700), ackECN, closing, crypto(h, 0, 3), ping)}},
		{"three datagrams", [][]byte{initial(id, crypto(h, 900, end), crypto(h, 0, 1)), initial(id, crypto(h, 300, 900)), initial(id, padding, crypto(h, 1, 300))}},
		{"a token", [][]byte{names.SealInitial(v1, id, "a token", crypto(h, 0, end))}},
		{"a Retry", [][]byte{initial(id, crypto(h, 0, 700)), names.SealInitial(v1, "another", "a token", crypto(h, 0, 700)), names.SealInitial(v1, "another", "a token", crypto(h, 700, end))}},
		{"two connections", [][]byte{initial("other", crypto(other, 0, 700)), initial(id, crypto(h, 0, 700)), initial("other", padding), initial(id, crypto(h, 700, end))}},
		{"coalesced packets", [][]byte{slices.Concat(early, initial(id, crypto(h, 700, end)), early, initial(id, crypto(h, 0, 700)), early)}},
		{"coalesced packets of two connections", [][]byte{slices.Concat(initial(id, crypto(h, 0, 700)), initial("other", crypto(other, 0, end))), initial(id, crypto(h, 700, end))}},
		{"a damaged packet", [][]byte{damaged, whole}},
		{"a damaged packet before another", [][]byte{slices.Concat(damaged, whole)}},
		{"0-RTT first", [][]byte{early, whole}},
		{"other packets in between", [][]byte{initial(id, crypto(h, 0, 700)), {}, {0x40}, otherLong(handshake, id), initial(id, crypto(h, 700, end))}},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantName(t, "a.example.com", c.datagrams...)
			for _, following := range [][]byte{nil, {0x40}, initial("other", crypto(other, 0, end)), initial(id, []byte{0x1f})} {
				if name, reading := names.OfDatagrams(append(c.datagrams, following)); name != "a.example.com" || reading != names.Found {
					t.Errorf("followed by %x: %q, %d", following, name, reading)
				}
			}
		})
	}
}

// The reading is None as soon as it is certain that there is no name.
func TestNoNameInDatagrams(t *testing.T) {
	h := hello(t, &tls.Config{ServerName: "a.example.com"})[recordHeaderLen:]
	nameless := hello(t, &tls.Config{})[recordHeaderLen:]
	whole := initial(id, crypto(h, 0, len(h)))
	version := func(v string) []byte { return slices.Concat(whole[:1], []byte(v), whole[5:]) }
	few, many := slices.Repeat([][]byte{initial(id, ping)}, names.MaxDatagrams), slices.Repeat([][]byte{whole}, 5)
	large := slices.Repeat([][]byte{initial(id, make([]byte, 4000))}, 5)
	for _, c := range []struct {
		name      string
		datagrams [][]byte
	}{
		{"an empty datagram", [][]byte{{}}},
		{"a byte", [][]byte{{0xc0}}},
		{"DNS", [][]byte{[]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01")}},
		{"a short header", [][]byte{append([]byte{0x40}, whole[1:]...)}},
		{"a Handshake packet", [][]byte{otherLong(handshake, id)}},
		{"a Retry packet", [][]byte{otherLong(retry, id)}},
		{"version negotiation", [][]byte{version("\x00\x00\x00\x00")}},
		{"an unknown version", [][]byte{version("\x1a\x2a\x3a\x4a")}},
		{"a draft", [][]byte{version("\xff\x00\x00\x1d")}},
		{"too long a connection id", [][]byte{initial("123456789012345678901", crypto(h, 0, len(h)))}},
		{"a packet that is cut", [][]byte{whole[:len(whole)-1]}},
		{"no name", [][]byte{initial(id, crypto(nameless, 0, 700)), initial(id, crypto(nameless, 700, len(nameless)))}},
		{"another message", [][]byte{initial(id, crypto([]byte("\x02\x00\x00\x00"), 0, 4))}},
		{"an empty hello", [][]byte{initial(id, crypto([]byte("\x01\x00\x00\x00"), 0, 4))}},
		{"too long a hello", [][]byte{initial(id, crypto([]byte("\x01\x00\x3f\xfd"), 0, 4))}},
		{"a piece beyond the longest hello", [][]byte{initial(id, quicvarint.Append([]byte{6}, names.MaxBytes), []byte{1, 0})}},
		{"a piece at the largest offset", [][]byte{initial(id, quicvarint.Append([]byte{6}, quicvarint.Max), []byte{1, 0})}},
		{"a piece that is cut", [][]byte{initial(id, padding, crypto(h, 0, 700)[:100])}},
		{"an endless ACK", [][]byte{initial(id, []byte{2, 7, 0}, quicvarint.Append(nil, quicvarint.Max), padding)}},
		{"an endless close", [][]byte{initial(id, []byte{0x1c, 0, 0}, quicvarint.Append(nil, quicvarint.Max), padding)}},
		{"a frame that is not allowed", [][]byte{initial(id, []byte{0x1f})}},
		{"too many datagrams", few},
		{"too many bytes", large},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n := range c.datagrams {
				if name, reading := names.OfDatagrams(c.datagrams[:n]); reading != names.More {
					t.Fatalf("after %d of %d datagrams: %q, %d", n, len(c.datagrams), name, reading)
				}
			}
			for _, following := range [][][]byte{nil, many} {
				if name, reading := names.OfDatagrams(append(c.datagrams, following...)); name != "" || reading != names.None {
					t.Errorf("followed by %d datagrams: %q, %d", len(following), name, reading)
				}
			}
		})
	}
}

// The datagrams of a hostile client allocate little memory. Hellos of many connections, each with
// a piece at the end, take the most: about 600 KiB, or 1.1 MiB with the race detector.
func TestHostileDatagrams(t *testing.T) {
	const most = 2 << 20 // bytes
	message := append([]byte("\x01\x00\x3f\xfc"), make([]byte, names.MaxBytes-4)...)
	var small, ends, spread [][]byte
	for i := range names.MaxDatagrams {
		from := byte('a' + i)
		small = append(small, bytes.Repeat(initial(string(from), ping), 20))
		ends = append(ends, initial(string(from), crypto(message, names.MaxBytes-1, names.MaxBytes)))
		spread = append(spread, initial(id, pieces(message[:200], 1)))
	}
	for name, datagrams := range map[string][][]byte{
		"small packets":     small,
		"pieces at the end": ends,
		"pieces of 1 byte":  spread,
		"empty pieces":      slices.Repeat([][]byte{initial(id, bytes.Repeat([]byte{6, 0, 0}, 300))}, names.MaxDatagrams),
		"a large hello":     {initial(id, crypto(message, 0, 15<<10))},
		"a large datagram":  {make([]byte, 1<<16)},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, reading := names.OfDatagrams(datagrams)
		runtime.ReadMemStats(&after)
		if reading == names.Found {
			t.Errorf("%s: a name is found", name)
		}
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > most {
			t.Errorf("%s: %d bytes are allocated, want at most %d", name, allocated, most)
		}
	}
}

// If the reading of the first datagrams is not More, then all have the same reading.
func FuzzOfDatagrams(f *testing.F) {
	h := hello(f, &tls.Config{ServerName: "a.example.com"})[recordHeaderLen:]
	f.Add([]byte{}, crypto(h, 0, 700), crypto(h, 700, len(h)))
	f.Add(otherLong(zeroRTT, id), slices.Concat(ping, ack, ackECN, closing, pieces(h, 200)), padding)
	for _, version := range []quic.Version{quic.Version1, quic.Version2} {
		f.Add(flight(f, version, &tls.Config{ServerName: "a", NextProtos: []string{"h3"}})[0], ping, ping)
	}
	f.Fuzz(func(t *testing.T, datagram, frames, moreFrames []byte) {
		if len(frames)+len(moreFrames) > names.MaxBytes-100 {
			return
		}
		sealed, last := initial(id, frames), names.SealInitial(v2, id, "", moreFrames)
		for _, datagrams := range [][][]byte{
			{datagram, sealed, initial(id, moreFrames)}, {sealed, initial(id, moreFrames), datagram}, {slices.Concat(datagram, sealed), last},
		} {
			before := slices.Concat(datagrams...)
			name, reading := names.OfDatagrams(datagrams)
			if (reading == names.Found) != (name != "") {
				t.Errorf("%q, %d", name, reading)
			}
			for n := range datagrams {
				early, earlyReading := names.OfDatagrams(datagrams[:n])
				if earlyReading != names.More && (earlyReading != reading || early != name) {
					t.Errorf("%q, %d after %d datagrams, but %q, %d after %d", early, earlyReading, n, name, reading, len(datagrams))
				}
			}
			if !bytes.Equal(before, slices.Concat(datagrams...)) {
				t.Error("the datagrams are changed")
			}
		}
	})
}
