package vnicbridge

// OpenCapture begins a capture. The error is a [*ConfigError] if that is not
// possible as asked for, and may be [ErrTooManyCaptures].
func (p *Plane) OpenCapture(opts CaptureOptions) (*Capture, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	carrier := p.datapaths.kernelPath()
	s := scene{
		cfg: p.cfg, segments: make(map[string]namedDevice), bridges: make(map[string]namedDevice),
		kernel: carrier != nil, carriesStill: func() bool { return p.datapaths.kernelPath() == carrier },
		lookup: p.path.lookup,
		open: func(d device, o sourceOptions) (frameSource, error) {
			return p.session.machine.capture(d, o) // whatever has devices has a session
		},
	}
	for name, segment := range p.segments {
		s.segments[name] = namedDevice{segment.port, segment.spec.iface}
	}
	for name, bridge := range p.bridges {
		s.bridges[name] = namedDevice{bridge.port, bridge.name}
	}
	return begin(opts, p.captures, s)
}
