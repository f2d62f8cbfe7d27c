//go:build !linux

package upgrade

import (
	"errors"

	"github.com/caddy-vnic/caddy-vnic/sites"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// Heir is the successor's side, which only Linux has.
type Heir struct{ Sockets *sites.Sockets }

// Predecessor returns nil.
func (*Heir) Predecessor() (vnicbridge.Predecessor, error) { return nil, nil }

// Ready does nothing.
func (*Heir) Ready(*vnicbridge.Plane) error { return nil }

// Upgrade gives this process's place to a successor, which only Linux has.
type Upgrade struct {
	Plane   *vnicbridge.Plane
	Sockets *sites.Sockets
}

// Run is not supported.
func (*Upgrade) Run([]byte) (pid int, err error) { return 0, errors.ErrUnsupported }
