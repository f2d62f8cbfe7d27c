package vnicbridge

import (
	"errors"
	"log/slog"
	"net/netip"
)

type Options struct{ Log *slog.Logger }
type Plane struct{}

func Open(Options) *Plane                                                   { return &Plane{} }
func (p *Plane) Apply(cfg *Config) error                                    { return errors.New("not yet") }
func (p *Plane) Close() error                                               { return nil }
func (p *Plane) Status() Status                                             { return Status{} }
func (p *Plane) OpenPort(segment string, port PortRange) (release func())   { return func() {} }
func (p *Plane) SegmentAddr(segment string) (netip.Addr, bool)              { return netip.Addr{}, false }
func (p *Plane) Client(proto Protocol, local, remote netip.AddrPort) (netip.AddrPort, bool) {
	return netip.AddrPort{}, false
}
func (p *Plane) Alias(proto Protocol, local, client netip.AddrPort) (netip.AddrPort, bool) {
	return netip.AddrPort{}, false
}
