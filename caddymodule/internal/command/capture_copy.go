package command

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/capture"
)

// captureCopy copies a pcapng file block by block, so that the copy is a valid file
// wherever it ends. It reads the counts that the blocks contain.
type captureCopy struct {
	from io.Reader
	to   *os.File

	frames int
	drops  map[uint32]uint64 // by interface
	ended  string            // the reason, from the comment of the last statistics
	block  []byte
}

// errCutOff tells that the capture ended within a block.
var errCutOff = errors.New("the capture was cut off: the instance ended, or this command read its frames too slowly")

// Types of blocks and options (draft-ietf-opsawg-pcapng).
const (
	packetBlock     = 6
	statisticsBlock = 5
	optionComment   = 1
	optionDropped   = 5
)

// maxBlock is the largest length of a block that is accepted, in bytes.
const maxBlock = capture.MaxSnaplen + 4096

// writeAt is the number of bytes that are gathered before a write.
const writeAt = 256 << 10

func (c *captureCopy) run() error {
	c.drops = make(map[uint32]uint64)
	from := bufio.NewReaderSize(c.from, 64<<10)
	var (
		ready []byte
		whole int64
	)
	for {
		err := c.next(from)
		if err == nil {
			ready = append(ready, c.block...)
			c.look()
		}
		if len(ready) > 0 && (err != nil || from.Buffered() == 0 || len(ready) > writeAt) {
			if _, e := c.to.Write(ready); e != nil {
				_ = c.to.Truncate(whole) // fails for a pipe, which has no whole blocks to keep
				return e
			}
			whole += int64(len(ready))
			ready = ready[:0]
		}
		switch {
		case err == io.EOF && c.ended != "":
			return nil
		case err != nil:
			return errCutOff
		}
	}
}

// next reads a block.
func (c *captureCopy) next(from io.Reader) error {
	c.block = append(c.block[:0], make([]byte, 8)...)
	if _, err := io.ReadFull(from, c.block); err != nil {
		return err
	}
	length := binary.LittleEndian.Uint32(c.block[4:])
	if length < 12 || length > maxBlock {
		return fmt.Errorf("a block of %d bytes", length)
	}
	c.block = append(c.block, make([]byte, length-8)...)
	_, err := io.ReadFull(from, c.block[8:])
	return err
}

// look reads what a block counts.
func (c *captureCopy) look() {
	switch binary.LittleEndian.Uint32(c.block) {
	case packetBlock:
		c.frames++
	case statisticsBlock:
		c.lookAtStatistics()
	}
}

func (c *captureCopy) lookAtStatistics() {
	const header = 20 // type, length, interface, time
	for options := c.block[header:]; len(options) >= 4; {
		code, length := binary.LittleEndian.Uint16(options), int(binary.LittleEndian.Uint16(options[2:]))
		padded := 4 + (length+3)&^3
		if code == 0 || padded > len(options) {
			return
		}
		value := options[4:][:length]
		switch {
		case code == optionComment:
			c.ended = string(value)
		case code == optionDropped && length == 8:
			c.drops[binary.LittleEndian.Uint32(c.block[8:])] = binary.LittleEndian.Uint64(value)
		}
		options = options[padded:]
	}
}

func (c *captureCopy) dropped() (sum uint64) {
	for _, n := range c.drops {
		sum += n
	}
	return sum
}
