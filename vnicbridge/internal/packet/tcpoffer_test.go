package packet

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Options of a SYN.
var (
	mss       = []byte{tcpOptionMSS, 4, 0x05, 0xb4}
	scale7    = []byte{tcpOptionScale, 3, 7}
	permitted = []byte{tcpOptionSACKPermitted, 2}
)

// Row N5: what a SYN offers, at whatever place its options stand.
func TestOffer(t *testing.T) {
	for _, tc := range []struct {
		name    string
		options []byte
		want    Offer
	}{
		{"nothing", nil, Offer{}},
		{"the size", mss, Offer{MSS: 1460}},
		{"all, as Linux does", slices.Concat(mss, permitted, timestamps(77, 0), nops(1), scale7), Offer{1460, true, 7, true, true, 77}},
		{"all, at other places", slices.Concat(nops(1), scale7, nops(1), timestamps(77, 0), permitted, nops(3), mss, nops(1)), Offer{1460, true, 7, true, true, 77}},
		{"too large a scale", []byte{tcpOptionScale, 3, 200, 1}, Offer{Scaled: true, Scale: MaxWindowScale}},
		{"no scale", []byte{tcpOptionScale, 3, 0, 1}, Offer{Scaled: true}},
		{"what stands behind the end", slices.Concat([]byte{tcpOptionEnd}, scale7), Offer{}},
		{"what stands behind nonsense", slices.Concat([]byte{99, 1}, permitted), Offer{}},
		{"options of other lengths", []byte{tcpOptionMSS, 3, 5, tcpOptionScale, 4, 7, 0, tcpOptionSACKPermitted, 3, 0, tcpOptionTime, 6, 0, 0, 0, 1}, Offer{}},
		{"an option that is cut off", []byte{tcpOptionNop, tcpOptionNop, tcpOptionScale, 3}, Offer{}},
	} {
		frame := tcpFields{flags: TCPSYN, options: tc.options}.frame(false, false)
		p := parsed(t, &frame)
		if got := p.Offer(); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

// Row N5: a SYN-ACK has the numbers and options of the offer, echoes the client's timestamp, and
// has a right checksum.
func TestSYNACK(t *testing.T) {
	for _, offer := range []Offer{{}, {MSS: 1460}, {MSS: 1440, Scaled: true, Scale: 7, SACK: true, Timed: true, Time: 5000}, {SACK: true, Scaled: true}} {
		for _, wide := range []bool{false, true} {
			syn := tcpFields{flags: TCPSYN, seq: 1<<32 - 1, window: 64240, options: slices.Concat(mss, permitted, timestamps(77, 0), nops(2))}.frame(wide, false)
			client := parsed(t, &syn)
			answer := client.SYNACK(12345, 16384, offer)
			frame := answer.Frame(config.MAC{}, config.MAC{})
			p := parsed(t, &frame)
			if p.Tuple != client.Tuple.Reversed() || p.TCPFlags != TCPSYN|TCPACK || p.Seq() != 12345 || p.Ack() != 0 || p.Window() != 16384 {
				t.Errorf("%+v: %+v, from %d, acknowledges %d, window %d", offer, p, p.Seq(), p.Ack(), p.Window())
			}
			if got := p.Offer(); got != offer {
				t.Errorf("the offer is %+v, want %+v", got, offer)
			}
			for kind, data := range tcpOptions(p.L4[:p.tcpHeaderLen()]) {
				if kind == tcpOptionTime && binary.BigEndian.Uint32(data[4:]) != 77 {
					t.Errorf("%+v: the echo is %x, want 77", offer, data[4:])
				}
			}
			if !p.ValidTCP() {
				t.Errorf("%+v: the checksum is wrong", offer)
			}
		}
	}
}

// Row N5: ECN, Multipath TCP, Fast Open, and options that nobody knows are taken from a SYN. What
// remains stays where it is.
func TestDecline(t *testing.T) {
	from := tcpFields{flags: TCPSYN | tcpECE | tcpCWR, ae: true, seq: 1000, window: 64240}
	to := from
	to.flags, to.ae = TCPSYN, false
	multipath := []byte{30, 4, 1, 0}
	fastOpen := []byte{34, 2}
	cookie := []byte{34, 10, 1, 2, 3, 4, 5, 6, 7, 8}
	experiment := []byte{254, 4, 0xf9, 0x89}
	for name, options := range map[string][2][]byte{
		"none": {nil, nil},
		"plain ones": {
			slices.Concat(mss, permitted, timestamps(77, 0), nops(1), scale7), slices.Concat(mss, permitted, timestamps(77, 0), nops(1), scale7),
		},
		"Multipath TCP": {slices.Concat(mss, multipath), slices.Concat(mss, nops(4))},
		"Fast Open":     {slices.Concat(mss, fastOpen, nops(2)), slices.Concat(mss, nops(4))},
		"a cookie at an odd offset": {
			slices.Concat(scale7, cookie, nops(1), permitted), slices.Concat(scale7, nops(11), permitted),
		},
		"an experiment between": {slices.Concat(nops(1), experiment, scale7), slices.Concat(nops(5), scale7)},
		"several":               {slices.Concat(multipath, cookie, fastOpen, mss), slices.Concat(nops(16), mss)},
		"behind the end":        {slices.Concat([]byte{tcpOptionEnd, 1}, fastOpen), slices.Concat([]byte{tcpOptionEnd, 1}, fastOpen)},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := from, to
			from.options, to.options = options[0], options[1]
			changes(t, from, to, func(p *Packet, unfinished bool) {
				p.Decline(Offer{SACK: true, Timed: true}, unfinished)
				if p.TCPFlags != TCPSYN {
					t.Errorf("the packet has the flags %#x", p.TCPFlags)
				}
			})
		})
	}
}

// Row N5: what a SYN carries, as with Fast Open, is taken from it with its length.
func TestWithoutPayload(t *testing.T) {
	syn := tcpFields{flags: TCPSYN, seq: 1000, options: slices.Concat(mss, nops(4)), payload: "GET / HTTP/1.0"}
	bare := syn
	bare.payload = ""
	for _, v := range variants {
		want := bare.frame(v.wide, v.unfinished)
		for _, from := range []tcpFields{syn, bare} {
			frame := from.frame(v.wide, v.unfinished)
			frame.Data = append(frame.Data, "padding"...)
			before := slices.Clone(frame.Data)
			p := parsed(t, &frame)
			if got := p.WithoutPayload(&frame); string(got.Data) != string(want.Data) {
				t.Errorf("%s: the frame is\n%x, want\n%x", v.name, got.Data, want.Data)
			}
			if string(frame.Data) != string(before) {
				t.Errorf("%s: the frame itself is changed", v.name)
			}
		}
	}
}

// Row N3: a wrong bit anywhere in a segment, or in the addresses, is noticed.
func TestValidTCP(t *testing.T) {
	for _, payload := range []string{"", "x", "a payload of an odd length"[:25], "and one of an even length "} {
		for _, wide := range []bool{false, true} {
			frame := tcpFields{flags: TCPACK, seq: 1, ack: 2, options: slices.Concat(nops(2), timestamps(3, 4)), payload: payload}.frame(wide, false)
			frame.Data = append(frame.Data, 0xff, 0xff, 0xff)
			p := parsed(t, &frame)
			if !p.ValidTCP() {
				t.Fatalf("a right checksum is taken for a wrong one: %x", frame.Data)
			}
			covered := p.IP[12:]
			if wide {
				covered = p.IP[8:]
			}
			for i := range covered {
				for bit := range 8 {
					covered[i] ^= 1 << bit
					if p.ValidTCP() {
						t.Errorf("bit %d of byte %d is not noticed", bit, i)
					}
					covered[i] ^= 1 << bit
				}
			}
		}
	}
}
