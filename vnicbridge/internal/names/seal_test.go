package names

import (
	"crypto/aes"
	"encoding/binary"
	"slices"
)

// SealInitial returns an Initial packet of a client. If the client has a token, it clears the fixed
// bit (RFC 9287 §3.1).
func SealInitial(number uint32, id, token string, frames []byte) []byte {
	const (
		fixedBit     = 0x40
		twoBytes     = 0x4000 // in a varint
		packetNumber = 7
		numberLen    = 4 // bytes
	)
	v := versions[uint64(number)]
	keys, err := packet{version: v, id: []byte(id)}.deriveKeys()
	if err != nil {
		panic(err)
	}
	first := longHeader | v.initial<<4 | (numberLen - 1)
	if token == "" {
		first |= fixedBit
	}
	frames = append(frames, make([]byte, max(0, aes.BlockSize-len(frames)))...) // PADDING, for the sample
	header := binary.BigEndian.AppendUint32([]byte{first}, number)
	header = append(append(header, byte(len(id))), id...)
	header = append(header, 0) // the source connection id
	header = binary.BigEndian.AppendUint16(header, twoBytes|uint16(len(token)))
	header = append(header, token...)
	header = binary.BigEndian.AppendUint16(header, twoBytes|uint16(numberLen+len(frames)+keys.frames.Overhead()))
	numberOffset := len(header)
	header = binary.BigEndian.AppendUint32(header, packetNumber)

	nonce := slices.Clone(keys.iv)
	nonce[len(nonce)-1] ^= packetNumber
	sealed := keys.frames.Seal(header, nonce, frames, header)
	var mask [aes.BlockSize]byte
	keys.header.Encrypt(mask[:], sealed[numberOffset+numberLen:][:aes.BlockSize])
	sealed[0] ^= mask[0] & 0x0f
	for i := range numberLen {
		sealed[numberOffset+i] ^= mask[1+i]
	}
	return sealed
}
