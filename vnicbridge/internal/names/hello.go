package names

import "encoding/binary"

// hello is a ClientHello in CRYPTO frames, which may come in any order, overlap and leave gaps.
type hello struct {
	bytes []byte
	has   []bool // whether a byte has come
	whole int    // how many bytes have come before the first gap
}

// Types of the frames that a client may send in an Initial packet (RFC 9000 §12.4).
const (
	framePadding         = 0x00
	framePing            = 0x01
	frameACK             = 0x02
	frameACKWithECN      = 0x03
	frameCrypto          = 0x06
	frameConnectionClose = 0x1c
)

// addFrames adds the frames of a packet. It returns false if a frame is malformed, or if the hello
// is too long.
func (h *hello) addFrames(frames []byte) bool {
	f := fields{rest: frames}
	for len(f.rest) > 0 {
		switch kind := f.varint(); kind {
		case framePadding, framePing:
		case frameACK, frameACKWithECN: // RFC 9000 §19.3
			f.skipVarints(2)
			f.skipVarints(1 + 2*f.varint())
			if kind == frameACKWithECN {
				f.skipVarints(3)
			}
		case frameCrypto: // RFC 9000 §19.6
			offset := f.varint()
			if data := f.take(f.varint()); !h.add(offset, data) {
				return false
			}
		case frameConnectionClose: // RFC 9000 §19.19
			f.skipVarints(2)
			f.take(f.varint())
		default:
			return false
		}
	}
	return !f.cut
}

func (h *hello) add(offset uint64, data []byte) bool {
	if offset > uint64(MaxBytes-len(data)) { // data is part of a datagram, so it is not longer
		return false
	}
	start, end := int(offset), int(offset)+len(data)
	if missing := end - len(h.bytes); missing > 0 {
		h.bytes = append(h.bytes, make([]byte, missing)...)
		h.has = append(h.has, make([]bool, missing)...)
	}
	copy(h.bytes[start:], data)
	for i := start; i < end; i++ {
		h.has[i] = true
	}
	for h.whole < len(h.has) && h.has[h.whole] {
		h.whole++
	}
	return true
}

// read reads the name as soon as the hello is complete. In QUIC the hello is not in a TLS record
// (RFC 9001 §4.1.3). One record has room for MaxBytes (RFC 8446 §5.1).
func (h *hello) read() (name string, reading Reading) {
	const (
		clientHello = 1 // RFC 8446 §4
		header      = 4 // bytes
	)
	if h.whole < header {
		return "", More
	}
	f := fields{rest: h.bytes[:h.whole]}
	kind, length := f.number(1), f.number(3)
	switch {
	case kind != clientHello || length > MaxBytes-header:
		return "", None
	case length > uint64(len(f.rest)):
		return "", More
	}
	record := binary.BigEndian.AppendUint16([]byte(recordBeginning+"\x01"), uint16(header+length))
	return ofTLS(append(record, h.bytes[:header+length]...))
}
