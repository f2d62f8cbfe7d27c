package command

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// ngBlock returns a pcapng block.
func ngBlock(kind uint32, body []byte) (b []byte) {
	length := uint32(len(body) + 12)
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = binary.LittleEndian.AppendUint32(b, length)
	return binary.LittleEndian.AppendUint32(append(b, body...), length)
}

// ngStatistics returns a block of statistics with a comment of 4 bytes and a count of dropped
// frames.
func ngStatistics(comment string, dropped uint64) []byte {
	body := append(make([]byte, 12), optionComment, 0, 4, 0)
	body = append(append(body, comment...), optionDropped, 0, 8, 0)
	return ngBlock(statisticsBlock, binary.LittleEndian.AppendUint64(body, dropped))
}

func copyCapture(t *testing.T, from []byte) (c captureCopy, file []byte, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if c.to, err = os.Create(path); err != nil {
		t.Fatal(err)
	}
	defer c.to.Close()
	c.from = bytes.NewReader(from)
	runErr := c.run()
	if file, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return c, file, runErr
}

// TestCaptureCopy checks that a capture that is cut off within a block is kept up to the block
// before.
func TestCaptureCopy(t *testing.T) {
	whole := bytes.Join([][]byte{ngBlock(0x0a0d0d0a, make([]byte, 16)), ngBlock(packetBlock, make([]byte, 40)), ngStatistics("over", 7)}, nil)
	c, file, err := copyCapture(t, whole)
	if err != nil || !bytes.Equal(file, whole) || c.frames != 1 || c.dropped() != 7 || c.ended != "over" {
		t.Errorf("%v: %d bytes of %d, %d frames, %d dropped, ended: %q", err, len(file), len(whole), c.frames, c.dropped(), c.ended)
	}
	for _, cut := range []int{1, 11, 60} {
		_, file, err := copyCapture(t, whole[:len(whole)-cut])
		if want := len(whole) - len(ngStatistics("over", 7)); err != errCutOff || len(file) != want && cut < 60 {
			t.Errorf("without the last %d bytes: %v, %d bytes, want %d", cut, err, len(file), want)
		}
	}
}

// FuzzCaptureCopy checks that what is written is always the beginning of what an instance
// sends.
func FuzzCaptureCopy(f *testing.F) {
	f.Add(ngStatistics("over", 7))
	f.Add(append(ngBlock(packetBlock, make([]byte, 40)), ngStatistics("over", 1)...))
	f.Fuzz(func(t *testing.T, from []byte) {
		if _, file, _ := copyCapture(t, from); !bytes.HasPrefix(from, file) {
			t.Errorf("%x was written", file)
		}
	})
}
