package packet

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// timestamps is the option of that name.
func timestamps(value, echo uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte{tcpOptionTime, 10}, value), echo)
}

// sack is the option with the blocks of that name, which are edges in pairs.
func sack(edges ...uint32) []byte {
	option := []byte{tcpOptionSACK, byte(2 + 4*len(edges))}
	for _, edge := range edges {
		option = binary.BigEndian.AppendUint32(option, edge)
	}
	return option
}

// nops are n options that do nothing.
func nops(n int) []byte { return slices.Repeat([]byte{tcpOptionNop}, n) }

// end ends the options, with bytes behind that look like another one.
var end = []byte{tcpOptionEnd, tcpOptionTime, 10, 0, 0, 0, 1, 0, 0, 0, 2, 0}

const tcpURG = 1 << 5

var testShift = Shift{Seq: 0xfffffff0, Time: 0x80000001, ToClient: 3, ToServer: -2}

// Row N5: of a server's segment, the sequence number, the timestamp and the window change, and the
// checksum with them. All else stays: the acknowledgment, the echo, SACK blocks, the urgent
// pointer.
func TestShiftToClient(t *testing.T) {
	from := tcpFields{flags: TCPACK | tcpURG, seq: 20, ack: 1001, window: 512, urgent: 7, payload: "seven b"}
	to := from
	to.seq, to.window = 4, 4096
	for name, options := range map[string][2][]byte{
		"none":                          {nil, nil},
		"timestamps":                    {slices.Concat(nops(2), timestamps(5, 9)), slices.Concat(nops(2), timestamps(0x80000006, 9))},
		"timestamps at an odd offset":   {slices.Concat(nops(1), timestamps(5, 9), nops(1)), slices.Concat(nops(1), timestamps(0x80000006, 9), nops(1))},
		"timestamps that wrap":          {slices.Concat(timestamps(0x80000000, 9), nops(2)), slices.Concat(timestamps(1, 9), nops(2))},
		"SACK blocks":                   {slices.Concat(nops(2), sack(100, 200)), slices.Concat(nops(2), sack(100, 200))},
		"what stands behind the end":    {end, end},
		"a longer option of that kind":  {append(timestamps(5, 9), 0, 0), append(timestamps(0x80000006, 9), 0, 0)},
		"an option that is not whole":   {append(nops(2), tcpOptionTime, 10), append(nops(2), tcpOptionTime, 10)},
		"an option without length":      {append(nops(3), tcpOptionTime), append(nops(3), tcpOptionTime)},
		"an option of a shorter length": {[]byte{tcpOptionTime, 6, 0, 0, 0, 5, 1, 1}, []byte{tcpOptionTime, 6, 0, 0, 0, 5, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := from, to
			from.options, to.options = options[0], options[1]
			changes(t, from, to, func(p *Packet, unfinished bool) { p.ShiftToClient(testShift, unfinished) })
		})
	}
}

// Row N5: of a client's segment, the acknowledgment, the SACK blocks, the echo of a timestamp and
// the window change, and the checksum with them.
func TestShiftToServer(t *testing.T) {
	from := tcpFields{flags: TCPACK | tcpURG, seq: 1001, ack: 4, window: 512, urgent: 3, payload: "odd"}
	to := from
	to.ack, to.window = 20, 128
	moved := sack(24, 26, 110, 210, 0xf, 0x10)
	for name, options := range map[string][2][]byte{
		"none":                       {nil, nil},
		"timestamps":                 {slices.Concat(nops(2), timestamps(9, 5)), slices.Concat(nops(2), timestamps(9, 0x80000004))},
		"SACK blocks":                {slices.Concat(nops(2), sack(8, 10, 94, 194, 0xffffffff, 0)), slices.Concat(nops(2), moved)},
		"SACK blocks, odd":           {slices.Concat(nops(1), sack(8, 10, 94, 194, 0xffffffff, 0), nops(1)), slices.Concat(nops(1), moved, nops(1))},
		"timestamps and SACK blocks": {slices.Concat(nops(1), timestamps(9, 5), nops(1), sack(8, 10), nops(2)), slices.Concat(nops(1), timestamps(9, 0x80000004), nops(1), sack(24, 26), nops(2))},
		"what stands behind the end": {end, end},
		"half a SACK block":          {[]byte{tcpOptionSACK, 8, 0, 0, 0, 4, 0, 9}, []byte{tcpOptionSACK, 8, 0, 0, 0, 20, 0, 9}},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := from, to
			from.options, to.options = options[0], options[1]
			changes(t, from, to, func(p *Packet, unfinished bool) { p.ShiftToServer(testShift, unfinished) })
		})
	}
}

// Row N5: a segment without an acknowledgment, such as a RST, has no acknowledgment number and no
// echo that count.
func TestShiftToServerWithoutACK(t *testing.T) {
	reset := tcpFields{flags: TCPRST, seq: 1001, options: slices.Concat(nops(2), timestamps(9, 0))}
	changes(t, reset, reset, func(p *Packet, unfinished bool) { p.ShiftToServer(testShift, unfinished) })
}

// Row N5: a window is shifted by the difference of the scales. It saturates, and never becomes
// zero, because that would stop the sender. The window of a SYN has no scale.
func TestShiftedWindows(t *testing.T) {
	for _, tc := range []struct {
		window uint16
		bits   int8
		want   uint16
	}{
		{512, 0, 512}, {0, 7, 0}, {0, -7, 0},
		{1, -7, 1}, {127, -7, 1}, {255, -7, 1}, {256, -7, 2}, {65535, -7, 511}, {65535, -14, 3}, {1, -14, 1},
		{1, 3, 8}, {8191, 3, 65528}, {8192, 3, 65535}, {65535, 14, 65535}, {3, 14, 49152}, {4, 14, 65535},
	} {
		from := tcpFields{flags: TCPACK, window: tc.window}
		to := from
		to.window = tc.want
		changes(t, from, to, func(p *Packet, unfinished bool) { p.ShiftToClient(Shift{ToClient: tc.bits}, unfinished) })
		changes(t, from, to, func(p *Packet, unfinished bool) { p.ShiftToServer(Shift{ToServer: tc.bits}, unfinished) })
		from.flags |= TCPSYN
		changes(t, from, from, func(p *Packet, unfinished bool) { p.ShiftToClient(Shift{ToClient: tc.bits}, unfinished) })
		changes(t, from, from, func(p *Packet, unfinished bool) { p.ShiftToServer(Shift{ToServer: tc.bits}, unfinished) })
	}
}

// Row F3: with any numbers, a right checksum stays right and a wrong one stays wrong.
func TestShiftedChecksums(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		f := tcpFields{
			flags: TCPACK, seq: random.Uint32(), ack: random.Uint32(), window: uint16(random.Uint32()),
			options: slices.Concat(nops(1), timestamps(random.Uint32(), random.Uint32()), nops(1)), payload: "payload"[:random.IntN(8)],
		}
		s := Shift{random.Uint32(), random.Uint32(), int8(random.IntN(29) - 14), int8(random.IntN(29) - 14)}
		for _, wide := range []bool{false, true} {
			frame := f.frame(wide, false)
			p := parsed(t, &frame)
			wrong := random.IntN(4) == 0
			if wrong {
				p.L4[17] ^= 0x55
			}
			if random.IntN(2) == 0 {
				p.ShiftToClient(s, false)
			} else {
				p.ShiftToServer(s, false)
			}
			if p.ValidTCP() == wrong {
				t.Fatalf("%+v by %+v: the checksum is right: %v", f, s, !wrong)
			}
		}
	}
}

// Rows F8 and N5: an ICMP error that goes to a server quotes the number that the server knows,
// however short the quote is, and its own checksum is right.
func TestQuotedNumbers(t *testing.T) {
	const seq = 0xfffffff0
	segment := tcpFields{flags: TCPACK, seq: seq, ack: 1001, options: slices.Concat(nops(2), timestamps(1, 2)), payload: "payload"}
	for _, wide := range []bool{false, true} {
		frame := segment.frame(wide, false)
		whole := parsed(t, &frame)
		headers := len(whole.IP) - len(whole.L4)
		to := whole.Tuple
		to.Src, to.Sport = AddrFrom4([]byte{192, 168, 50, 2}), 4001
		if wide {
			to.Src = mustAddr("fd00:50::7")
		}
		for length := 8; length <= len(whole.L4); length++ {
			// The error is as if it came from the packet's destination.
			message := slices.Concat(make([]byte, ICMPHeaderLen), whole.IP[:headers+length])
			ip := slices.Concat(whole.IP[:headers], message)
			p := Packet{Tuple: whole.Tuple.Reversed(), IP: ip, L4: ip[headers:]}
			sum := sumOf(p.L4)
			if wide {
				sum += sumOf(ip[8:40]) + uint32(len(p.L4)) + nextICMPv6
			}
			binary.BigEndian.PutUint16(p.L4[2:], ^Fold(sum))
			quoted, ok := ParseQuote(p.L4[ICMPHeaderLen:])
			if !ok || !p.ValidICMP() {
				t.Fatalf("IPv6 %v, %d bytes: the error is no good one", wide, length)
			}
			p.RewriteQuote(quoted, to, 0x20)
			if got := quoted.Seq(); got != 0x10 {
				t.Errorf("IPv6 %v, %d bytes: the quoted number is %#x, want 0x10", wide, length, got)
			}
			if !p.ValidICMP() {
				t.Errorf("IPv6 %v, %d bytes: the checksum of the error is wrong", wide, length)
			}
			if length == len(whole.L4) && !quoted.ValidTCP() {
				t.Errorf("IPv6 %v: the quoted checksum is wrong", wide)
			}
		}
	}
}
