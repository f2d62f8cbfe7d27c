// Package upgrade lets a running Caddy give way to a successor, a new process of the program's file
// on disk, without losing a connection.
//
// The old process starts the new one with a Unix socket. The new one asks for the inventory of the
// data plane and for the listening sockets, prepares everything beside the old one, lets the old
// plane yield, and says when its configuration has started. Then the old process ends, as on
// SIGTERM: requests that are being answered are finished. If the new one fails or is silent, it is
// ended, and the old one goes on.
package upgrade

import (
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// The requests of the successor, in their order.
const (
	askInventory = "inventory"
	askYield     = "yield"
	askReady     = "ready" // the successor's configuration has started
	askEnd       = "end"   // the predecessor may end; there is no answer
)

// answer is the predecessor's answer to a request. What it has not is zero.
type answer struct {
	Error     string               `json:"error,omitempty"`
	Inventory vnicbridge.Inventory `json:"inventory"`
	Sockets   []string             `json:"sockets,omitempty"` // those files that are listening sockets
	State     vnicbridge.State     `json:"state"`
	Paths     []string             `json:"paths,omitempty"` // that the predecessor removes when it ends: of Unix sockets, and of its pidfile
}

// variable names the descriptor of the successor's end of the socket.
const variable = "CADDY_VNIC_PREDECESSOR"

// Kept is what [Keeper.State] says if the service manager keeps the files.
const Kept = "kept"

// Patience is how long a successor may take until its configuration has started.
const Patience = 30 * time.Second
