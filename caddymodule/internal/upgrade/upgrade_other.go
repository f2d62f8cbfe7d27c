//go:build !linux

package upgrade

import (
	"errors"

	"github.com/caddy-vnic/caddy-vnic/sites"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// Heir is the successor's side, which only Linux has.
type Heir struct {
	Sockets *sites.Sockets
	Keeper  *Keeper
}

// Predecessor returns nil.
func (*Heir) Predecessor() (vnicbridge.Predecessor, error) { return nil, nil }

// Ready does nothing.
func (*Heir) Ready(*vnicbridge.Plane) error { return nil }

// Upgrade gives this process's place to a successor, which only Linux has.
type Upgrade struct {
	Plane   *vnicbridge.Plane
	Sockets *sites.Sockets
	Keeper  *Keeper
}

// Run is not supported.
func (*Upgrade) Run([]byte) (pid int, err error) { return 0, errors.ErrUnsupported }

// Keeper keeps open files with the service manager, which only Linux has.
type Keeper struct {
	Plane   *vnicbridge.Plane
	Sockets *sites.Sockets
}

// Predecessor returns nil.
func (*Keeper) Predecessor() (vnicbridge.Predecessor, error) { return nil, nil }

// Ready does nothing.
func (*Keeper) Ready() error { return nil }

// Write keeps nothing.
func (*Keeper) Write() bool { return false }

// Kept returns false.
func (*Keeper) Kept() bool { return false }

// State returns nothing.
func (*Keeper) State() string { return "" }

// DiscardUnused does nothing.
func (*Keeper) DiscardUnused() {}

// Leave does nothing.
func (*Keeper) Leave() {}
