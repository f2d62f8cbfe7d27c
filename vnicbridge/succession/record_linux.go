package succession

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
)

// Record is a file in memory whose content is replaced as a whole: if the process that writes is
// killed, a reader finds the content from before or the new one. It has two slots, which are
// written in turn.
type Record struct {
	*os.File
	sequence uint64 // of the content that was written last
}

// slotSize is the distance of the slots, in bytes, and so the limit of a content. What is not
// written takes no memory.
const slotSize = maxMessage

// recordHeader precedes the content in a slot.
type recordHeader struct {
	Sequence, Length uint64
	Sum              uint32 // of the rest of the header, and of the content
}

var recordHeaderSize = binary.Size(recordHeader{})

// NewRecord makes an empty record.
func NewRecord(name string) (*Record, error) {
	file, err := Memory(name, nil)
	if err != nil {
		return nil, err
	}
	return &Record{File: file}, nil
}

// OpenRecord returns a record of another process with its content. The record then owns the file.
func OpenRecord(file *os.File) (r *Record, content []byte, err error) {
	r = &Record{File: file}
	for slot := range uint64(2) {
		h, c := r.read(slot)
		if c != nil && h.Sequence > r.sequence {
			r.sequence, content = h.Sequence, c
		}
	}
	if content == nil {
		return nil, nil, fmt.Errorf("the record %s has no content", file.Name())
	}
	return r, content, nil
}

// read returns what a slot has; nil if that is not whole.
func (r *Record) read(slot uint64) (h recordHeader, content []byte) {
	header := make([]byte, recordHeaderSize)
	if _, err := r.ReadAt(header, int64(slot*slotSize)); err != nil {
		return h, nil
	}
	_, _ = binary.Decode(header, binary.BigEndian, &h) // it is long enough
	if h.Length > slotSize-uint64(recordHeaderSize) {
		return h, nil
	}
	content = make([]byte, h.Length)
	if _, err := r.ReadAt(content, int64(slot*slotSize)+int64(recordHeaderSize)); err != nil || h.sum(content) != h.Sum {
		return h, nil
	}
	return h, content
}

// Replace replaces the content.
func (r *Record) Replace(content []byte) error {
	h := recordHeader{Sequence: r.sequence + 1, Length: uint64(len(content))}
	if h.Length > slotSize-uint64(recordHeaderSize) {
		return errors.New("the record's content is too long")
	}
	h.Sum = h.sum(content)
	slot, _ := binary.Append(nil, binary.BigEndian, h) // a struct of numbers
	if _, err := r.WriteAt(append(slot, content...), int64(h.Sequence%2*slotSize)); err != nil {
		return err
	}
	r.sequence = h.Sequence
	return nil
}

func (h recordHeader) sum(content []byte) uint32 {
	h.Sum = 0
	header, _ := binary.Append(nil, binary.BigEndian, h)
	return crc32.Update(crc32.ChecksumIEEE(header), crc32.IEEETable, content)
}
