package upgrade

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-vnic/caddy-vnic/sites"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// Heir is the successor's side.
type Heir struct {
	Sockets *sites.Sockets // take over the predecessor's
	Keeper  *Keeper        // takes over what the service manager keeps for the predecessor

	mu   sync.Mutex
	conn *succession.Conn // nil: there is no predecessor, or no longer
}

// Predecessor returns the predecessor's plane, or nil if there is none.
func (h *Heir) Predecessor() (vnicbridge.Predecessor, error) {
	text := os.Getenv(variable)
	if text == "" {
		return nil, nil
	}
	_ = os.Unsetenv(variable) // fails only on an invalid name; programs that Caddy starts are no successors
	fd, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("%s=%s: want the number of a descriptor", variable, text)
	}
	if h.conn, err = succession.Open(os.NewFile(uintptr(fd), "predecessor")); err != nil {
		return nil, err
	}
	return h, nil
}

// ask sends a request and waits for the answer.
func (h *Heir) ask(request string) (a answer, files succession.Files, err error) {
	if err := h.conn.Send(request, nil); err != nil {
		return a, nil, err
	}
	if files, err = h.conn.Receive(&a); err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	return a, files, err
}

// Inventory implements [vnicbridge.Predecessor]. The sockets take over the listening ones.
func (h *Heir) Inventory() (vnicbridge.Inventory, error) {
	a, files, err := h.ask(askInventory)
	if err != nil {
		return a.Inventory, err
	}
	listening := make(succession.Files)
	for _, name := range a.Sockets {
		listening[name] = files.Take(name)
	}
	h.Sockets.Inherit(listening)
	a.Inventory.Files = files
	return a.Inventory, nil
}

// Yield implements [vnicbridge.Predecessor].
func (h *Heir) Yield() (vnicbridge.State, error) {
	a, files, err := h.ask(askYield)
	a.State.Files = files
	return a.State, err
}

// Release implements [vnicbridge.Predecessor].
func (*Heir) Release(string) error { return vnicbridge.ErrChanged }

// Resume implements [vnicbridge.Predecessor]. The predecessor resumes by itself when this process ends.
func (*Heir) Resume() {}

// Ready tells the predecessor that this process's configuration has started. The plane and the
// sockets are this process's then. Only the first call does anything.
func (h *Heir) Ready(plane *vnicbridge.Plane) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil {
		return nil
	}
	a, stored, err := h.ask(askReady) // a predecessor that has died cannot go on either
	err = errors.Join(err, h.Keeper.Inherit(stored))
	kept, failed := keep(a.Paths)
	err = errors.Join(err, failed, plane.Confirm(), h.Sockets.Confirm())
	_ = h.conn.Send(askEnd, nil) // as above
	go outlive(h.conn, kept)
	h.conn = nil
	return err
}

// outlive waits for the end of the predecessor, which closes the connection.
func outlive(conn *succession.Conn, kept keptPaths) {
	_, _ = io.Copy(io.Discard, conn) // whatever ends it
	_ = conn.Close()
	if err := kept.restore(); err != nil {
		caddy.Log().Named("vnic").Error("a Unix socket or the pidfile has lost its path", zap.Error(err))
	}
}
