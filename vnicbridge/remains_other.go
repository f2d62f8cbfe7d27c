//go:build !linux

package vnicbridge

import "errors"

func (p *Plane) leaveRemains() error { return errors.ErrUnsupported }
