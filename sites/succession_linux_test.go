package sites_test

import (
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/sites"
)

// heir returns the sockets of a process that may succeed another.
func heir(t *testing.T, of *sites.Sockets) *sites.Sockets {
	t.Helper()
	files, err := of.Files()
	if err != nil {
		t.Fatal(err)
	}
	s := sites.NewSockets(new(planeStub))
	s.Inherit(files)
	return s
}

// A successor that fails after its servers have begun to accept leaves the sockets as they were, and has
// taken no connection.
func TestFailedSuccessorTakesNothing(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, f family) {
		sockets := sites.NewSockets(new(planeStub))
		l := listen(t, sockets, at)
		failed := listen(t, heir(t, sockets), at)
		taken := takers(failed)
		for range 20 {
			dialFrom(t, f.alias, l)
			accept(t, l)
		}
		failed.Close()
		dialFrom(t, f.alias, l)
		accept(t, l)
		select {
		case <-taken:
			t.Error("the successor got a connection")
		default:
		}
	})
}

// The connections that wait when a successor has started are the successor's.
func TestSuccessorTakesTheQueue(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, f family) {
		sockets := sites.NewSockets(new(planeStub))
		older := listen(t, sockets, at)
		heirs := heir(t, sockets)
		newer := listen(t, heirs, at)
		sockets.Yield()
		const waiting = 20
		for range waiting {
			dialFrom(t, f.alias, older)
		}
		time.Sleep(10 * time.Millisecond) // the successor must not accept yet; the test passes without, too
		if err := heirs.Confirm(); err != nil {
			t.Fatal(err)
		}
		for range waiting {
			accept(t, newer)
		}
		older.Close()
		dialFrom(t, f.alias, newer)
		accept(t, newer)
		newer.Close()
		expectRefused(t, at)
	})
}
