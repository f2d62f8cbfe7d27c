package succession

import (
	"fmt"
	"io"
	"os"
	"testing"
)

// Messages and their files come in order, whatever their number, and a file of the predecessor is
// the same open file at the successor.
func TestMessages(t *testing.T) {
	ours, end, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	theirs, err := Open(end)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	for _, count := range []int{0, 1, filesAtOnce, 2*filesAtOnce + 3} {
		files := make(Files)
		for i := range count {
			name := fmt.Sprint("file ", i)
			file, err := os.CreateTemp(t.TempDir(), "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.WriteString(name + " and more"); err != nil {
				t.Fatal(err)
			}
			if _, err := file.Seek(int64(len(name)), io.SeekStart); err != nil {
				t.Fatal(err)
			}
			files[name] = file
		}
		sent := make(chan error, 1)
		go func() { sent <- ours.Send(count, files) }()
		var got int
		received, err := theirs.Receive(&got)
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if err != nil || got != count || len(received) != count {
			t.Fatalf("%d with %d files comes (%v), want %d", got, len(received), err, count)
		}
		for name, file := range received {
			if rest, err := io.ReadAll(file); err != nil || string(rest) != " and more" {
				t.Errorf("%s goes on with %q (%v)", name, rest, err)
			}
		}
		if err := received.Close(); err != nil {
			t.Error(err)
		}
		if err := files.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A predecessor that ends is an error, and so is another program at the other end.
func TestOtherEnds(t *testing.T) {
	for name, says := range map[string]string{
		"an end": "", "half a message": "\x00\x00\x00\x09{", "a web client": "GET / HTTP/1.1\r\n\r\n", "no JSON": "\x00\x00\x00\x01{",
	} {
		ours, end, err := Pair()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := end.WriteString(says); err != nil {
			t.Fatal(err)
		}
		if err := end.Close(); err != nil {
			t.Fatal(err)
		}
		var got any
		if _, err := ours.Receive(&got); err == nil {
			t.Errorf("%s gives %v, want an error", name, got)
		}
		ours.Close()
	}
}
