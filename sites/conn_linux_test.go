package sites

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"
)

const size, part = 1 << 20, 1000

// TestReadFromBehindLimits checks that a file or a connection behind several limits goes by
// sendfile or splice. The test sees this because a copy would need a buffer.
func TestReadFromBehindLimits(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	for name, open := range map[string]func() io.Reader{
		"file": func() io.Reader {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			file, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { file.Close() })
			return file
		},
		"connection": func() io.Reader {
			from, to := tcpPair(t)
			go func() {
				_, _ = to.Write(content) // the test finds what is missing
			}()
			return from
		},
		"source": func() io.Reader {
			from, to := tcpPair(t)
			go func() {
				_, _ = to.Write(content) // the test finds what is missing
			}()
			return &Source{Conn: from, Sent: func() {}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, limits := range [][]int64{{size}, {part, size}, {size, part}, {size + 1, 2 * size, size}} {
				readFromBehind(t, open(), content, limits)
			}
		})
	}
}

// readFromBehind reads from a source behind limits, with the outermost limit first.
func readFromBehind(t *testing.T, source io.Reader, content []byte, limits []int64) {
	t.Helper()
	client, server := tcpPair(t)
	want := slices.Min(limits)
	got, received := make([]byte, want), make(chan error)
	go func() {
		_, err := io.ReadFull(client, got)
		received <- err
	}()
	chain := make([]*io.LimitedReader, len(limits))
	for i, limit := range slices.Backward(limits) {
		chain[i] = &io.LimitedReader{R: source, N: limit}
		source = chain[i]
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, err := (&Conn{TCPConn: server}).ReadFrom(source)
	runtime.ReadMemStats(&after)
	if n != want || err != nil {
		t.Fatalf("limits %v: %d bytes: %v", limits, n, err)
	}
	if err := <-received; err != nil || !bytes.Equal(got, content[:want]) {
		t.Errorf("limits %v: something else was received: %v", limits, err)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 16<<10 && want > part {
		t.Errorf("limits %v: %d bytes were allocated, as for a buffer", limits, allocated)
	}
	for i, limited := range chain {
		if limited.N != limits[i]-want {
			t.Errorf("limits %v: %d is left of the one at %d", limits, limited.N, i)
		}
	}
}

// TestSourceHasADeadline checks that a source is sent until the other end stops reading, and
// that the deadline counts from the last part that was sent.
func TestSourceHasADeadline(t *testing.T) {
	from, to := tcpPair(t)
	client, server := tcpPair(t)
	go func() {
		_, _ = io.Copy(to, zeros{}) // until the test ends
	}()
	own := &Conn{TCPConn: server}
	patience, sent := 10*time.Second, 0
	source := &Source{Conn: from, Sent: func() {
		sent++
		if err := own.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			t.Error(err)
		}
		if sent == 3 { // the client stops reading, and its buffers fill
			patience = 100 * time.Millisecond
		}
	}}
	go func() {
		_, _ = io.CopyN(io.Discard, client, size)
	}()
	n, err := own.ReadFrom(io.LimitReader(source, 1<<40))
	if !errors.Is(err, os.ErrDeadlineExceeded) || sent < 3 {
		t.Errorf("%d bytes, of which the source heard %d times: %v", n, sent, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestSourceEnds checks that a source that ends early is no error of the connection.
func TestSourceEnds(t *testing.T) {
	from, to := tcpPair(t)
	client, server := tcpPair(t)
	if _, err := to.Write(make([]byte, part)); err != nil {
		t.Fatal(err)
	}
	to.Close()
	n, err := (&Conn{TCPConn: server}).ReadFrom(io.LimitReader(&Source{Conn: from, Sent: func() {}}, size))
	if n != part || err != nil {
		t.Errorf("%d bytes: %v", n, err)
	}
	if _, err := io.ReadFull(client, make([]byte, part)); err != nil {
		t.Error(err)
	}
}

// tcpPair returns the two ends of a connection.
func tcpPair(t *testing.T) (dialed, accepted *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}
