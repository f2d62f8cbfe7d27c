package testsite

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"testing"
)

// Endless is something that a hostile peer says, and does not end.
type Endless struct {
	Begin string
	Again string // without end
}

// Cost is what it took until the other side closed the connection.
type Cost struct {
	Sent     int // bytes
	Resident int // how many bytes the process had grown by at its peak
	Open     bool
}

const (
	maxSent     = 32 << 20 // what net/http reads of a head, and what the sockets hold
	maxResident = 200 << 20
)

// Bounded tells whether a cost is one that net/http's bounds allow.
func (c Cost) Bounded() bool { return !c.Open && c.Sent <= maxSent && c.Resident <= maxResident }

func (c Cost) String() string {
	return fmt.Sprintf("after %d MiB the process had grown by %d MiB; the connection is still open: %v", c.Sent>>20, c.Resident>>20, c.Open)
}

// Send sends it until the other side, which is of this process, closes the connection
// or has taken more than any bound allows.
func (e Endless) Send(t testing.TB, to net.Conn) (c Cost) {
	t.Helper()
	before := resetPeak(t)
	block := []byte(e.Begin)
	again := bytes.Repeat([]byte(e.Again), 1+(64<<10)/len(e.Again))
	for c.Sent <= 2*maxSent {
		n, err := to.Write(block)
		c.Sent += n
		if err != nil {
			c.Resident = peak(t) - before
			return c
		}
		block = again
	}
	return Cost{c.Sent, peak(t) - before, true}
}

// resetPeak begins to look for the peak of the process's resident memory, and returns
// what it is now.
func resetPeak(t testing.TB) int {
	t.Helper()
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Error(err)
	}
	return peak(t)
}

func peak(t testing.TB) (resident int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Error(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscanf(rest, "%d kB", &resident); err != nil {
		t.Error(err)
	}
	return resident << 10
}
