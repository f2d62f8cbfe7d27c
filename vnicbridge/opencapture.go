package vnicbridge

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/capture"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// OpenCapture begins a capture. The error is a [*config.Error] if the options are impossible
// here, and [capture.ErrTooMany] if as many captures run already as may at once.
func (p *Plane) OpenCapture(opts capture.Options) (*capture.Capture, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	carrier := p.datapaths.kernelPath()
	s := capture.Scene{
		Cfg: p.cfg, Segments: make(map[string]capture.NamedDevice), Bridges: make(map[string]capture.NamedDevice),
		Kernel: carrier != nil, CarriesStill: func() bool { return p.datapaths.kernelPath() == carrier },
		Lookup: p.path.Lookup,
		Open: func(d iface.Device, o capture.SourceOptions) (capture.FrameSource, error) {
			return p.session.machine.capture(d, o) // whatever has devices has a session
		},
	}
	for name, segment := range p.segments {
		s.Segments[name] = capture.NamedDevice{Iface: segment.iface, Name: segment.spec.Iface}
	}
	for name, bridge := range p.bridges {
		s.Bridges[name] = capture.NamedDevice{Iface: bridge.iface, Name: bridge.name}
	}
	return capture.Begin(opts, p.captures, s)
}
