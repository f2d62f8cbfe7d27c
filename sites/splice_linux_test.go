package sites

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// many is more than the 64 large pipes that an ordinary user may have.
const many = 100

// TestSourcesOfAnOrdinaryUser checks that an ordinary user's sources are copied if only a small
// pipe is left, both if many are sent at once and if all large pipes are in use already.
func TestSourcesOfAnOrdinaryUser(t *testing.T) {
	if os.Getuid() == 0 {
		runAsOrdinaryUser(t)
		return
	}
	sendMany(t)
	refused := 0
	for range many {
		p, err := takePipe()
		if err != nil {
			refused++
			continue
		}
		defer p.close()
		if size, err := unix.FcntlInt(uintptr(p.w), unix.F_GETPIPE_SZ, 0); size < leastSize || size != p.size {
			t.Errorf("a pipe is of %d bytes, and is said to be of %d: %v", size, p.size, err)
		}
	}
	if refused == 0 {
		t.Fatal("the user has as many large pipes as wanted")
	}
	sendMany(t)
}

// runAsOrdinaryUser runs this test again, as a user who has no other process.
func runAsOrdinaryUser(t *testing.T) {
	t.Helper()
	const id = 61_234
	again := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	again.Dir = "/"
	again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	if output, err := again.CombinedOutput(); err != nil || !bytes.Contains(output, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, output)
	}
}

// sendMany sends many sources at the same time. Each begins before any ends.
func sendMany(t *testing.T) {
	t.Helper()
	content := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	var begun, ended sync.WaitGroup
	begun.Add(many)
	for range many {
		from, to := tcpPair(t)
		client, server := tcpPair(t)
		go func() {
			_, _ = to.Write(content) // the test finds what is missing
		}()
		ended.Go(func() {
			begun.Wait()
			if got, err := io.ReadAll(io.LimitReader(client, size)); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes were received, or others than were sent: %v", len(got), err)
			}
		})
		ended.Go(func() {
			var parts atomic.Int32
			source := &Source{Conn: from, Sent: func() {
				if parts.Add(1) == 1 {
					begun.Done()
				}
			}}
			if n, err := (&Conn{TCPConn: server}).ReadFrom(io.LimitReader(source, size)); n != size || err != nil {
				t.Errorf("%d bytes were sent, in %d parts: %v", n, parts.Load(), err)
			}
			if parts.Load() == 0 {
				begun.Done()
			}
		})
	}
	ended.Wait()
}

// TestCopyFrom checks that a copy renews the deadline as a splice does, and ends with the
// source.
func TestCopyFrom(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	for name, limit := range map[string]int64{"behind a limit": size - part, "to the end": 2 * size} {
		t.Run(name, func(t *testing.T) {
			from, to := tcpPair(t)
			client, server := tcpPair(t)
			go func() {
				_, _ = to.Write(content) // the test finds what is missing
				to.Close()
			}()
			want := content[:min(limit, size)]
			got, received := make([]byte, len(want)), make(chan error)
			go func() {
				_, err := io.ReadFull(client, got)
				received <- err
			}()
			parts := 0
			n, err := (&Conn{TCPConn: server}).copyFrom(&Source{Conn: from, Sent: func() { parts++ }}, limit)
			if n != int64(len(want)) || err != nil || parts == 0 {
				t.Errorf("%d bytes were sent, in %d parts: %v", n, parts, err)
			}
			if err := <-received; err != nil || !bytes.Equal(got, want) {
				t.Errorf("something else was received: %v", err)
			}
		})
	}
}
