package capture

import (
	"encoding/binary"
	"time"
)

// pcapngWriter appends blocks of a pcapng file (draft-ietf-opsawg-pcapng) to a buffer:
// Ethernet frames with times in nanoseconds. gopacket's writer cannot record the direction of
// a frame.
type pcapngWriter struct{ buffer []byte }

// Types of blocks, and of options in them.
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockStatistics = 5
	blockPacket     = 6

	optEnd     = 0
	optComment = 1

	shbUserApplication = 4
	ifName             = 2
	ifDescription      = 3
	ifTimeResolution   = 9
	epbFlags           = 2
	isbStart           = 2
	isbEnd             = 3
	isbDropped         = 5 // isb_ifdrop: there was no room
	isbDelivered       = 8 // isb_usrdeliv: frames of the interface that are in the file
)

// Directions of a frame (epb_flags).
const (
	flagInbound  = 1
	flagOutbound = 2
)

var order = binary.LittleEndian

// block appends a block: its type and length, a body, and the length again.
func (w *pcapngWriter) block(kind uint32, body func()) {
	start := len(w.buffer)
	w.uint32(kind)
	w.uint32(0)
	body()
	length := uint32(len(w.buffer) - start + 4)
	order.PutUint32(w.buffer[start+4:], length)
	w.uint32(length)
}

func (w *pcapngWriter) uint16(v uint16) { w.buffer = order.AppendUint16(w.buffer, v) }
func (w *pcapngWriter) uint32(v uint32) { w.buffer = order.AppendUint32(w.buffer, v) }
func (w *pcapngWriter) uint64(v uint64) { w.buffer = order.AppendUint64(w.buffer, v) }

// bytes appends data, padded to a multiple of 4.
func (w *pcapngWriter) bytes(data []byte) {
	w.buffer = append(w.buffer, data...)
	for range -len(data) & 3 {
		w.buffer = append(w.buffer, 0)
	}
}

func (w *pcapngWriter) option(code uint16, value []byte) {
	w.uint16(code)
	w.uint16(uint16(len(value)))
	w.bytes(value)
}

// timestamp appends a time as blocks have it, with the upper half first.
func (w *pcapngWriter) timestamp(ns int64) {
	w.uint32(uint32(uint64(ns) >> 32))
	w.uint32(uint32(ns))
}

func (w *pcapngWriter) timeOption(code uint16, t time.Time) {
	w.uint16(code)
	w.uint16(8)
	w.timestamp(t.UnixNano())
}

func (w *pcapngWriter) countOption(code uint16, n uint64) {
	w.uint16(code)
	w.uint16(8)
	w.uint64(n)
}

// section begins a file.
func (w *pcapngWriter) section(comment string) {
	w.block(blockSection, func() {
		w.uint32(0x1a2b3c4d) // the byte order
		w.uint16(1)          // version 1.0
		w.uint16(0)
		w.uint64(1<<64 - 1) // of any length
		w.option(optComment, []byte(comment))
		w.option(shbUserApplication, []byte("caddy-vnic"))
		w.option(optEnd, nil)
	})
}

// networkInterface describes the next interface. Its number is how many were described
// before.
func (w *pcapngWriter) networkInterface(name, description string, snaplen int) {
	w.block(blockInterface, func() {
		w.uint16(1) // LINKTYPE_ETHERNET
		w.uint16(0)
		w.uint32(uint32(snaplen))
		w.option(ifName, []byte(name))
		w.option(ifDescription, []byte(description))
		w.option(ifTimeResolution, []byte{9}) // 10⁻⁹ s
		w.option(optEnd, nil)
	})
}

// packet appends a frame.
func (w *pcapngWriter) packet(f *CapturedFrame) {
	w.block(blockPacket, func() {
		w.uint32(uint32(f.point))
		w.timestamp(f.time)
		w.uint32(uint32(len(f.Data)))
		w.uint32(uint32(f.Length))
		w.bytes(f.Data)
		w.uint16(epbFlags)
		w.uint16(4)
		if f.Inbound {
			w.uint32(flagInbound)
		} else {
			w.uint32(flagOutbound)
		}
		w.option(optEnd, nil)
	})
}

// statistics appends what became of an interface's frames since the capture began.
func (w *pcapngWriter) statistics(point int, began, now time.Time, delivered, dropped uint64, comment string) {
	w.block(blockStatistics, func() {
		w.uint32(uint32(point))
		w.timestamp(now.UnixNano())
		if comment != "" {
			w.option(optComment, []byte(comment))
		}
		w.timeOption(isbStart, began)
		w.timeOption(isbEnd, now)
		w.countOption(isbDropped, dropped)
		w.countOption(isbDelivered, delivered)
		w.option(optEnd, nil)
	})
}
