package vnicbridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/bpf"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/pcapfilter"
)

// Capture copies the frames of a segment or a bridge to a file, before and after
// they are rewritten. It is made by [Plane.OpenCapture] and must be closed.
type Capture struct {
	plane  *Plane
	opts   CaptureOptions
	target *port // of the segment or bridge
	points []*capturePoint
	kernel kernelPath // the data path that carried when it began

	began time.Time
	file  pcapngWriter
	batch captureBatch // what was taken at the last tick, and is to be written
	count int          // frames that were written
}

// capturePoint is a device whose frames are captured: an interface of the file.
type capturePoint struct {
	port              *port
	device            device // of the port, when the capture began
	name, description string
	program           []bpf.Instruction
	source            frameSource

	delivered, dropped, reported uint64
}

// frameSource gives the frames that pass a device. It never waits, nor lets them
// wait: what there is no room for is dropped.
type frameSource interface {
	// take gives the oldest frames to a function, until that returns false: that
	// frame stays. They are valid during the call.
	take(visit func(*capturedFrame) bool)
	// grant says how much is going to be taken at most, as CaptureRate counts it: what
	// is beyond need not wait.
	grant(bytes int)
	// drops is how many frames were dropped since it was last asked.
	drops() uint64
	close() error
}

// capturedFrame is a frame, or its first bytes.
type capturedFrame struct {
	point   int
	time    int64 // when it passed, in nanoseconds since 1970
	inbound bool  // it came in by the NIC, or went into the segment
	tagged  bool  // its VLAN tag was taken out of the data
	length  int   // of the whole frame
	data    []byte
}

// ErrTooManyCaptures tells that there are MaxCaptures already.
var ErrTooManyCaptures = fmt.Errorf("there are %d captures already, which is the most at once: end one first", MaxCaptures)

// captureTick is how often frames are taken. They are written a tick later: until
// then the forwarder has opened their flows.
const captureTick = 100 * time.Millisecond

// captureMemory is how many bytes of frames may wait to be taken by a capture.
const captureMemory = 8 << 20

// OpenCapture begins a capture. The error is a [*ConfigError] if that is not
// possible as asked for, and may be [ErrTooManyCaptures].
func (p *Plane) OpenCapture(opts CaptureOptions) (*Capture, error) {
	if err := opts.complete(); err != nil {
		return nil, &ConfigError{Err: err}
	}
	if p.captures.Add(1) > MaxCaptures {
		p.captures.Add(-1)
		return nil, ErrTooManyCaptures
	}
	c := &Capture{plane: p, opts: opts}
	if err := p.beginCapture(c); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.begin()
	return c, nil
}

// beginCapture finds the devices and opens them.
func (p *Plane) beginCapture(c *Capture) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.findPoints(c); err != nil {
		return &ConfigError{Err: err}
	}
	for _, point := range c.points {
		filter, err := pcapfilter.Compile(c.opts.on(point.port), uint32(c.opts.Snaplen))
		if err != nil {
			return &ConfigError{Err: err}
		}
		point.program = filter
	}
	c.kernel = p.datapaths.kernelPath()
	for _, point := range c.points {
		var err error
		if point.source, err = p.session.machine.capture(point, c.opts.Snaplen, captureMemory/len(c.points), c.kernel != nil); err != nil {
			return err
		}
	}
	c.start()
	return nil
}

// start lets all devices keep frames, which none could while the others were opened.
// The capture begins now: what passed before is no part of it, and was not dropped.
func (c *Capture) start() {
	c.began = time.Now()
	c.grant(c.began)
	for _, point := range c.points {
		point.source.drops()
	}
}

// findPoints lists the devices of what is to be captured, its own first.
func (p *Plane) findPoints(c *Capture) error {
	kind, name, qualified := strings.Cut(c.opts.Of, "/")
	if !qualified {
		kind, name = "", c.opts.Of
	}
	segment, bridge := p.segments[name], p.bridges[name]
	switch {
	case kind == "" && segment != nil && bridge != nil:
		return fmt.Errorf("both a segment and a bridge are called %s: say segment/%s or bridge/%s", name, name, name)
	case kind != "" && kind != "segment" && kind != "bridge":
		return fmt.Errorf("%q: want the name of a segment or a bridge, segment/<name> or bridge/<name>", c.opts.Of)
	case segment != nil && kind != "bridge":
		c.addSegment(name, segment)
		for _, b := range p.cfg.bridgesOf(name) {
			c.addBridge(b, p.bridges[b])
		}
		for _, peer := range p.cfg.peersOf(name) {
			c.addSegment(peer, p.segments[peer])
		}
	case bridge != nil && kind != "segment":
		c.addBridge(name, bridge)
		for _, s := range sortedKeys(p.segments) {
			if slices.Contains(p.cfg.bridgesOf(s), name) {
				c.addSegment(s, p.segments[s])
			}
		}
	case p.cfg == nil:
		return errors.New("no configuration is in force")
	default:
		return fmt.Errorf("there is no segment or bridge %q: the configuration has the segments %s and the bridges %s",
			c.opts.Of, strings.Join(sortedKeys(p.segments), ", "), strings.Join(sortedKeys(p.bridges), ", "))
	}
	c.target = c.points[0].port
	return nil
}

func (c *Capture) addSegment(name string, s *segment) {
	c.add(s.port, s.spec.iface, "VNIC of segment "+name)
}

func (c *Capture) addBridge(name string, b *bridge) { c.add(b.port, b.name, "NIC of bridge "+name) }

func (c *Capture) add(p *port, name, description string) {
	c.points = append(c.points, &capturePoint{port: p, device: p.device(), name: name, description: description})
}

// begin writes what stands at the beginning of the file.
func (c *Capture) begin() {
	about := "caddy vnic capture " + c.opts.Of
	if c.opts.Client.IsValid() {
		about += " --client " + c.opts.Client.String()
	}
	if c.opts.Filter != "" {
		about += " --filter '" + c.opts.Filter + "'"
	}
	c.file.section(about)
	for _, point := range c.points {
		c.file.networkInterface(point.name, point.description, c.opts.Snaplen)
	}
}

// Run writes a pcapng file, until the context is done, the capture's own bounds are
// reached, or one of its devices or the data path is no longer the same. While w
// takes its time frames are dropped; nothing but the capture waits for it. The error
// is w's.
func (c *Capture) Run(ctx context.Context, w io.Writer) error {
	ticker := time.NewTicker(captureTick)
	defer ticker.Stop()
	var expired <-chan time.Time
	if c.opts.Duration > 0 {
		timer := time.NewTimer(c.opts.Duration)
		defer timer.Stop()
		expired = timer.C
	}
	for reason := c.over(); ; reason = c.over() {
		if reason != "" {
			return c.finish(w, reason)
		}
		if err := c.flush(w); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return c.finish(w, "interrupted")
		case <-expired:
			return c.finish(w, "the time is over")
		case <-ticker.C:
			c.write()
			c.take()
		}
	}
}

// over says why the capture cannot go on.
func (c *Capture) over() string {
	if c.complete() {
		return "all frames that were asked for are there"
	}
	for _, point := range c.points {
		if point.port.closed.Load() || point.port.device() != point.device {
			return point.description + " is gone, or was made anew"
		}
	}
	if c.plane.datapaths.kernelPath() != c.kernel {
		return "the data path has changed"
	}
	return ""
}

func (c *Capture) complete() bool { return c.opts.Count > 0 && c.count >= c.opts.Count }

// finish ends the file with what was captured still, and the final statistics.
func (c *Capture) finish(w io.Writer, reason string) error {
	c.write()
	c.take()
	c.write()
	c.countDrops()
	for i, point := range c.points {
		c.file.statistics(i, c.began, time.Now(), point.delivered, point.dropped, reason)
	}
	return c.flush(w)
}

// flush writes what is ready, and what was dropped since the last time.
func (c *Capture) flush(w io.Writer) error {
	c.countDrops()
	for i, point := range c.points {
		if point.dropped != point.reported {
			point.reported = point.dropped
			c.file.statistics(i, c.began, time.Now(), point.delivered, point.dropped, "")
		}
	}
	if len(c.file.buffer) == 0 {
		return nil
	}
	_, err := w.Write(c.file.buffer)
	c.file.buffer = c.file.buffer[:0]
	return err
}

func (c *Capture) countDrops() {
	for _, point := range c.points {
		point.dropped += point.source.drops()
	}
}

// Captured is how many frames were written, and how many were dropped for want of
// room or of time.
func (c *Capture) Captured() (frames int, dropped uint64) {
	for _, point := range c.points {
		dropped += point.dropped
	}
	return c.count, dropped
}

// Close gives back what the capture takes. It is called once, after Run.
func (c *Capture) Close() error {
	c.plane.captures.Add(-1)
	var errs []error
	for _, point := range c.points {
		if point.source != nil {
			errs = append(errs, point.source.close())
		}
	}
	return errors.Join(errs...)
}
