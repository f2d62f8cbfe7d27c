package vnicbridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/time/rate"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/pcapfilter"
)

// Capture copies the frames of a segment or a bridge to a file, before and after
// they are rewritten. Who opens it must close it.
type Capture struct {
	opts   CaptureOptions
	budget *budget
	target *port // of the segment or bridge
	points []*capturePoint

	lookup       func(flowKey) (*flow, direction)
	carriesStill func() bool // the data path that carried when it began

	began time.Time
	file  pcapngWriter
	batch captureBatch // what was taken at the last tick, and is to be written
	count int          // frames that were written
}

// budget is what all captures of a plane may take together.
type budget struct {
	running atomic.Int32  // captures
	bytes   *rate.Limiter // as CaptureRate counts them
}

func newBudget() *budget { return &budget{bytes: rate.NewLimiter(CaptureRate, CaptureRate)} }

// scene is what a capture finds in the plane when it begins.
type scene struct {
	cfg               *Config // in force; nil if none is
	segments, bridges map[string]namedDevice

	kernel       bool        // the kernel data path carries
	carriesStill func() bool // whether the same data path carries as in this scene

	lookup func(flowKey) (*flow, direction) // of the flow table
	open   func(d device, o sourceOptions) (frameSource, error)
}

// namedDevice is a device in its place, with the name that it has now.
type namedDevice struct {
	port *port
	name string
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

// frameSource gives the frames that pass a device. It never blocks, and it never delays
// a frame: if there is no room for a copy, the copy is dropped.
type frameSource interface {
	// take calls visit with the frames that wait, the oldest first, until visit returns
	// false: that frame stays. A frame is valid during the call only.
	take(visit func(*capturedFrame) bool)
	// grant says how many bytes will be taken at most, as CaptureRate counts them. The
	// source need not keep more.
	grant(bytes int)
	// drops returns how many frames were dropped since its last call.
	drops() uint64
	close() error
}

// sourceOptions say which frames a frameSource gives.
type sourceOptions struct {
	filter  []bpf.Instruction
	snaplen int
	memory  int  // bytes of frames that can wait
	kernel  bool // the kernel data path carries: a packet socket does not see all that it sends
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

// captureTick is how often frames are taken. They are written one tick later, because
// the forwarder has opened their flows by then.
const captureTick = 100 * time.Millisecond

// captureMemory is how many bytes of frames may wait to be taken by a capture.
const captureMemory = 8 << 20

// begin opens a capture of what a scene has. The error is a [*ConfigError] if that is
// not possible as asked for, and may be [ErrTooManyCaptures].
func begin(opts CaptureOptions, b *budget, s scene) (*Capture, error) {
	if err := opts.complete(); err != nil {
		return nil, &ConfigError{Err: err}
	}
	if b.running.Add(1) > MaxCaptures {
		b.running.Add(-1)
		return nil, ErrTooManyCaptures
	}
	c := &Capture{opts: opts, budget: b, lookup: s.lookup, carriesStill: s.carriesStill}
	if err := c.open(s); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.start()
	c.writeHead()
	return c, nil
}

// open finds the devices and opens them.
func (c *Capture) open(s scene) error {
	var err error
	if c.points, err = s.points(c.opts.Of); err != nil {
		return &ConfigError{Err: err}
	}
	c.target = c.points[0].port
	for _, point := range c.points {
		if point.program, err = pcapfilter.Compile(c.opts.on(point.port), uint32(c.opts.Snaplen)); err != nil {
			return &ConfigError{Err: err}
		}
	}
	for _, point := range c.points {
		point.source, err = s.open(point.device, sourceOptions{
			filter: point.program, snaplen: c.opts.Snaplen, memory: captureMemory / len(c.points), kernel: s.kernel,
		})
		if err != nil {
			return fmt.Errorf("capturing on device %s: %w", point.name, err)
		}
	}
	return nil
}

// start lets all devices keep frames. Until now none could, because others were not open
// yet. Frames that passed before are no part of the capture, and do not count as dropped.
func (c *Capture) start() {
	c.began = time.Now()
	c.grant(c.began)
	for _, point := range c.points {
		point.source.drops()
	}
}

// points lists the devices of what is to be captured, its own first.
func (s *scene) points(of string) ([]*capturePoint, error) {
	kind, name, qualified := strings.Cut(of, "/")
	if !qualified {
		kind, name = "", of
	}
	_, segment := s.segments[name]
	_, bridge := s.bridges[name]
	var points []*capturePoint
	switch {
	case kind == "" && segment && bridge:
		return nil, fmt.Errorf("both a segment and a bridge are called %s: say segment/%s or bridge/%s", name, name, name)
	case kind != "" && kind != "segment" && kind != "bridge":
		return nil, fmt.Errorf("%q: want the name of a segment or a bridge, segment/<name> or bridge/<name>", of)
	case segment && kind != "bridge":
		points = append(points, s.vnic(name))
		for _, b := range s.cfg.bridgesOf(name) {
			points = append(points, s.nic(b))
		}
		for _, peer := range s.cfg.peersOf(name) {
			points = append(points, s.vnic(peer))
		}
	case bridge && kind != "segment":
		points = append(points, s.nic(name))
		for _, segment := range sortedKeys(s.segments) {
			if slices.Contains(s.cfg.bridgesOf(segment), name) {
				points = append(points, s.vnic(segment))
			}
		}
	case s.cfg == nil:
		return nil, errors.New("no configuration is in force")
	default:
		return nil, fmt.Errorf("there is no segment or bridge %q: the configuration has the segments %s and the bridges %s",
			of, strings.Join(sortedKeys(s.segments), ", "), strings.Join(sortedKeys(s.bridges), ", "))
	}
	return points, nil
}

func (s *scene) vnic(segment string) *capturePoint {
	return newCapturePoint(s.segments[segment], "VNIC of segment "+segment)
}

func (s *scene) nic(bridge string) *capturePoint {
	return newCapturePoint(s.bridges[bridge], "NIC of bridge "+bridge)
}

func newCapturePoint(d namedDevice, description string) *capturePoint {
	return &capturePoint{port: d.port, device: d.port.device(), name: d.name, description: description}
}

// writeHead writes what stands at the beginning of the file.
func (c *Capture) writeHead() {
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

// Run writes a pcapng file to w. It returns when ctx is done, when a bound of the options
// is reached, or when a device or the data path is no longer the same. While w blocks,
// frames are dropped; only the capture waits. The error is w's.
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

// over says why the capture cannot go on. Empty: it can.
func (c *Capture) over() string {
	if c.complete() {
		return "all frames that were asked for are there"
	}
	for _, point := range c.points {
		if point.port.closed.Load() || point.port.device() != point.device {
			return point.description + " is gone, or was made anew"
		}
	}
	if !c.carriesStill() {
		return "the data path has changed"
	}
	return ""
}

func (c *Capture) complete() bool { return c.opts.Count > 0 && c.count >= c.opts.Count }

// finish writes the last frames and the final statistics.
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

// Captured returns how many frames were written, and how many were dropped because
// memory was full or CaptureRate was reached.
func (c *Capture) Captured() (frames int, dropped uint64) {
	for _, point := range c.points {
		dropped += point.dropped
	}
	return c.count, dropped
}

// Close closes the devices, and lets another capture begin. It must be called once,
// after Run.
func (c *Capture) Close() error {
	c.budget.running.Add(-1)
	var errs []error
	for _, point := range c.points {
		if point.source != nil {
			errs = append(errs, point.source.close())
		}
	}
	return errors.Join(errs...)
}
