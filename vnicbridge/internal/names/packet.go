package names

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// version is a version of QUIC.
type version struct {
	initial, zeroRTT byte   // types of packets
	salt             string // for the keys of Initial packets
	labels           string // how the labels of these keys begin
}

// versions are v1 (RFC 9000 §17.2, RFC 9001 §5.2) and v2 (RFC 9369 §3).
var versions = map[uint64]version{
	0x00000001: {0, 1, "\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a", "quic "},
	0x6b3343cf: {1, 2, "\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9", "quicv2 "},
}

// packet is an Initial or 0-RTT packet (RFC 9000 §17.2.2 and §17.2.3).
type packet struct {
	version    version
	initial    bool
	id         []byte // the destination connection id
	connection string // the version and the id
	bytes      []byte
	header     int // length without the packet number
}

const (
	longHeader    = 0x80 // in the first byte of a packet
	versionOffset = 1
)

// MaxIDLen is the length of the longest connection id, in bytes (RFC 9000 §17.2).
const MaxIDLen = 20

// packetsOf returns the packets at the beginning of a datagram. It stops at a packet of another
// type, which no client sends before the server answers, and at a packet of another connection,
// which a server ignores (RFC 9000 §12.2). So one datagram costs the keys of one connection.
func packetsOf(datagram []byte) (packets []packet) {
	for {
		p, ok := firstPacket(datagram)
		if !ok || len(packets) > 0 && p.connection != packets[0].connection {
			return packets
		}
		packets = append(packets, p)
		datagram = datagram[len(p.bytes):]
	}
}

// firstPacket ignores the fixed bit, because a client that knows the server may clear it (RFC 9287
// §3.1).
func firstPacket(datagram []byte) (p packet, ok bool) {
	f := fields{rest: datagram}
	offset := func() int { return len(datagram) - len(f.rest) }
	first := byte(f.number(1))
	p.version, ok = versions[f.number(4)]
	p.id = f.take(f.number(1))
	if !ok || first&longHeader == 0 || len(p.id) > MaxIDLen {
		return packet{}, false
	}
	p.connection = string(datagram[versionOffset:offset()])
	f.take(f.number(1)) // the source connection id
	switch first >> 4 & 3 {
	case p.version.initial:
		p.initial = true
		f.take(f.varint()) // the token
	case p.version.zeroRTT:
	default:
		return packet{}, false
	}
	length := f.varint()
	p.header = offset()
	f.take(length)
	p.bytes = datagram[:offset()]
	return p, !f.cut
}

// initialKeys are a client's keys for the Initial packets of one attempt.
type initialKeys struct {
	frames cipher.AEAD
	iv     []byte
	header cipher.Block
}

// deriveKeys derives the keys of an attempt from its first packet (RFC 9001 §5.1 and §5.2). It
// fails only if GODEBUG=fips140=only is set, because an id is too short a secret for FIPS 140.
func (p packet) deriveKeys() (*initialKeys, error) {
	secret, err := hkdf.Key(sha256.New, p.id, []byte(p.version.salt), keyInfo("client in", sha256.Size), sha256.Size)
	expand := func(label string, length int) (key []byte) {
		if err == nil {
			key, err = hkdf.Expand(sha256.New, secret, keyInfo(p.version.labels+label, length), length)
		}
		return key
	}
	const keyLen, ivLen = 16, 12 // bytes, of AES-128-GCM
	key, iv, headerKey := expand("key", keyLen), expand("iv", ivLen), expand("hp", keyLen)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	frames, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	header, err := aes.NewCipher(headerKey)
	return &initialKeys{frames, iv, header}, err
}

// keyInfo returns the HkdfLabel of a key, with an empty context (RFC 8446 §7.1).
func keyInfo(label string, length int) string {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(length))
	info = append(info, byte(len(label)))
	info = append(info, label...)
	return string(append(info, 0))
}

// open decrypts the frames of an Initial packet (RFC 9001 §5.3 and §5.4). The packet has
// its whole number, because the server has not acknowledged an earlier one (RFC 9000 §17.1).
func (k *initialKeys) open(p packet) (frames []byte, ok bool) {
	const maxNumber = 4 // bytes
	sample := p.header + maxNumber
	if !p.initial || len(p.bytes) < sample+aes.BlockSize {
		return nil, false
	}
	var mask [aes.BlockSize]byte
	k.header.Encrypt(mask[:], p.bytes[sample:][:aes.BlockSize])
	first := p.bytes[0] ^ mask[0]&0x0f
	numberLen := int(first&3) + 1
	header := slices.Clone(p.bytes[:p.header+numberLen])
	header[0] = first
	nonce := slices.Clone(k.iv)
	for i := range numberLen {
		header[p.header+i] ^= mask[1+i]
		nonce[len(nonce)-numberLen+i] ^= header[p.header+i]
	}
	frames, err := k.frames.Open(nil, nonce, p.bytes[len(header):], header)
	return frames, err == nil
}
