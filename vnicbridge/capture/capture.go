package capture

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

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/pcapfilter"
)

// Capture copies the frames of a segment or a bridge to a file, before and after they are
// rewritten. Whoever opens a capture must close it.
type Capture struct {
	opts   Options
	budget *Budget
	target *iface.Iface // of the segment or bridge
	points []*capturePoint

	lookup       func(flow.Key) (*flow.Flow, flow.Direction)
	carriesStill func() bool // whether the data path is the one that carried at the beginning

	opened time.Time // when it began to open its sources
	began  time.Time // when all sources were open
	file   pcapngWriter
	batch  captureBatch // taken at the last tick, written at the next
	count  int          // of frames that were written
}

// Budget bounds what all captures of a plane take together.
type Budget struct {
	running atomic.Int32  // captures
	bytes   *rate.Limiter // as Rate counts them
}

// NewBudget returns the budget of a plane without captures.
func NewBudget() *Budget { return &Budget{bytes: rate.NewLimiter(Rate, Rate)} }

// Scene is what a capture needs to know of the plane when it begins.
type Scene struct {
	Cfg               *config.Config // in force; nil if none is
	Segments, Bridges map[string]NamedDevice

	Kernel       bool        // the kernel data path carries
	CarriesStill func() bool // whether the same data path carries now

	Lookup func(flow.Key) (*flow.Flow, flow.Direction) // of the flow table
	Open   func(d iface.Device, o SourceOptions) (FrameSource, error)
}

// NamedDevice is an iface and the name that its device has now.
type NamedDevice struct {
	Iface *iface.Iface
	Name  string
}

// capturePoint is a device whose frames are captured. It is an interface of the file.
type capturePoint struct {
	iface             *iface.Iface
	device            iface.Device // of the iface, when the capture began
	Name, description string
	program           []bpf.Instruction
	source            FrameSource

	delivered, dropped, reported uint64
}

// FrameSource gives the frames that pass a device. It never blocks, and it never delays
// a frame: if there is no room for a copy, the copy is dropped.
type FrameSource interface {
	// Take calls visit with the frames that wait, the oldest first, until visit returns
	// false: that frame stays. A frame is valid during the call only.
	Take(visit func(*CapturedFrame) bool)
	// Grant says how many bytes will be taken at most, as [Rate] counts them. The source
	// need not keep more.
	Grant(bytes int)
	// drops returns how many frames were dropped since the last call.
	drops() uint64
	Close() error
}

// SourceOptions say which frames a FrameSource gives.
type SourceOptions struct {
	Filter  []bpf.Instruction
	Snaplen int
	Memory  int  // bytes of frames that can wait
	kernel  bool // the kernel data path carries, so a packet socket does not see all frames
}

// CapturedFrame is a frame, or its first bytes.
type CapturedFrame struct {
	point   int
	time    int64 // when it passed, in nanoseconds since 1970
	Inbound bool  // it came in by the NIC, or went into the segment
	tagged  bool  // its VLAN tag was taken out of the data
	Length  int   // of the whole frame
	Data    []byte
}

// ErrTooMany is the error of [Begin] if [Max] captures run already.
var ErrTooMany = fmt.Errorf("there are %d captures already, which is the most at once: end one first", Max)

// captureTick is how often frames are taken. They are written one tick later, when the
// forwarder has opened their flows.
const captureTick = 100 * time.Millisecond

// CaptureMemory is how many bytes of frames may wait until a capture takes them.
const CaptureMemory = 8 << 20

// Begin opens a capture. The error is a [*config.Error] if the options are impossible here,
// and [ErrTooMany] if [Max] captures run already.
func Begin(opts Options, b *Budget, s Scene) (*Capture, error) {
	if err := opts.complete(); err != nil {
		return nil, &config.Error{Err: err}
	}
	if b.running.Add(1) > Max {
		b.running.Add(-1)
		return nil, ErrTooMany
	}
	c := &Capture{opts: opts, budget: b, lookup: s.Lookup, carriesStill: s.CarriesStill}
	if err := c.open(s); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.start()
	c.writeHead()
	return c, nil
}

// open finds the devices and opens their sources.
func (c *Capture) open(s Scene) error {
	c.opened = time.Now()
	var err error
	if c.points, err = s.Points(c.opts.Of, c.opts.Alone); err != nil {
		return &config.Error{Err: err}
	}
	c.target = c.points[0].iface
	for _, point := range c.points {
		if point.program, err = pcapfilter.Compile(c.opts.on(point.iface), uint32(c.opts.Snaplen)); err != nil {
			return &config.Error{Err: err}
		}
	}
	for _, point := range c.points {
		point.source, err = s.Open(point.device, SourceOptions{
			Filter: point.program, Snaplen: c.opts.Snaplen, Memory: CaptureMemory / len(c.points), kernel: s.Kernel,
		})
		if err != nil {
			return fmt.Errorf("capturing on device %s: %w", point.Name, err)
		}
	}
	return nil
}

// start makes all devices keep frames, when all are open. Frames that passed before do not
// belong to the capture, and do not count as dropped.
func (c *Capture) start() {
	c.grant(time.Now())
	for _, point := range c.points {
		point.source.drops()
	}
	c.began = time.Now()
}

// Points lists the devices of a segment or a bridge, its own first: those of other segments only if
// it is not alone. The error says that there is none of that name, or two.
func (s *Scene) Points(of string, alone bool) ([]*capturePoint, error) {
	kind, name, qualified := strings.Cut(of, "/")
	if !qualified {
		kind, name = "", of
	}
	_, segment := s.Segments[name]
	_, bridge := s.Bridges[name]
	var points []*capturePoint
	switch {
	case kind == "" && segment && bridge:
		return nil, fmt.Errorf("both a segment and a bridge are called %s: say segment/%s or bridge/%s", name, name, name)
	case kind != "" && kind != "segment" && kind != "bridge":
		return nil, fmt.Errorf("%q: want the name of a segment or a bridge, segment/<name> or bridge/<name>", of)
	case segment && kind != "bridge":
		points = append(points, s.vnic(name))
		for _, b := range s.Cfg.BridgesOf(name) {
			points = append(points, s.nic(b))
		}
		for _, peer := range s.Cfg.PeersOf(name) {
			if !alone {
				points = append(points, s.vnic(peer))
			}
		}
	case bridge && kind != "segment":
		points = append(points, s.nic(name))
		for _, segment := range config.SortedKeys(s.Segments) {
			if slices.Contains(s.Cfg.BridgesOf(segment), name) {
				points = append(points, s.vnic(segment))
			}
		}
	case s.Cfg == nil:
		return nil, errors.New("no configuration is in force")
	default:
		return nil, fmt.Errorf("there is no segment or bridge %q: the configuration has the segments %s and the bridges %s",
			of, strings.Join(config.SortedKeys(s.Segments), ", "), strings.Join(config.SortedKeys(s.Bridges), ", "))
	}
	return points, nil
}

func (s *Scene) vnic(segment string) *capturePoint {
	return newCapturePoint(s.Segments[segment], "VNIC of segment "+segment)
}

func (s *Scene) nic(bridge string) *capturePoint {
	return newCapturePoint(s.Bridges[bridge], "NIC of bridge "+bridge)
}

func newCapturePoint(d NamedDevice, description string) *capturePoint {
	return &capturePoint{iface: d.Iface, device: d.Iface.Device(), Name: d.Name, description: description}
}

// writeHead writes the beginning of the file.
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
		c.file.networkInterface(point.Name, point.description, c.opts.Snaplen)
	}
}

// Run writes a pcapng file to w. It returns when ctx is done, when a bound of the options is
// reached, or when a device or the data path changes. If w blocks, only the capture waits,
// and copies of frames are dropped. The error is w's.
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
		if point.iface.Closed.Load() || point.iface.Device() != point.device {
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

// Captured returns how many frames were written, and how many were dropped because memory was
// full or [Rate] was reached.
func (c *Capture) Captured() (frames int, dropped uint64) {
	for _, point := range c.points {
		dropped += point.dropped
	}
	return c.count, dropped
}

// Close closes the sources, and lets another capture begin. It must be called once, after
// Run.
func (c *Capture) Close() error {
	c.budget.running.Add(-1)
	var errs []error
	for _, point := range c.points {
		if point.source != nil {
			errs = append(errs, point.source.Close())
		}
	}
	return errors.Join(errs...)
}
