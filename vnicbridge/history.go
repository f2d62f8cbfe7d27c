package vnicbridge

import (
	"maps"
	"slices"
	"time"
)

// sampleInterval is how often the plane notes what its devices have carried.
const sampleInterval = 10 * time.Second

// historySize is how many samples of a device are kept: those of an hour.
const historySize = int(time.Hour / sampleInterval)

// History is what the devices of the configuration in force have carried in the last hour: a
// sample every 10 s, the oldest first. Whoever begins to look, as a page that was reloaded, need
// not begin with an empty chart.
type History struct {
	Now      time.Time           `json:"now"` // of the clock that has set the samples' times
	Segments map[string][]Sample `json:"segments"`
	Bridges  map[string][]Sample `json:"bridges"`
}

// Sample is what a device had carried at one time. A count that is less than the one before is
// that of a device that was made anew.
type Sample struct {
	Time     time.Time `json:"time"`
	Flows    int       `json:"flows"`     // in the table then
	NewFlows uint64    `json:"new_flows"` // admitted until then
	Bytes    Traffic   `json:"bytes"`     // carried until then
}

// History returns what the devices have carried in the last hour.
func (p *Plane) History() History {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := History{Now: time.Now(), Segments: make(map[string][]Sample), Bridges: make(map[string][]Sample)}
	for name, samples := range p.history.Segments {
		h.Segments[name] = slices.Clone(samples)
	}
	for name, samples := range p.history.Bridges {
		h.Bridges[name] = slices.Clone(samples)
	}
	return h
}

// sample adds a sample of each device, and forgets those that are no more.
func (p *Plane) sample() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.yielded.Load() {
		return // the devices are the successor's
	}
	now := time.Now()
	p.history.Segments = sampled(p.history.Segments, p.segments, now, func(s *segment) Counters { return p.count(s.iface) })
	p.history.Bridges = sampled(p.history.Bridges, p.bridges, now, func(b *bridge) Counters { return p.count(b.iface) })
}

// sampled returns histories with one more sample of each device.
func sampled[D any](histories map[string][]Sample, devices map[string]D, now time.Time, count func(D) Counters) map[string][]Sample {
	maps.DeleteFunc(histories, func(name string, _ []Sample) bool {
		_, ok := devices[name]
		return !ok
	})
	if histories == nil {
		histories = make(map[string][]Sample)
	}
	for name, device := range devices {
		c, samples := count(device), histories[name]
		if len(samples) == historySize {
			samples = slices.Delete(samples, 0, 1)
		}
		histories[name] = append(samples, Sample{Time: now, Flows: c.Flows, NewFlows: c.NewFlows, Bytes: c.Bytes})
	}
	return histories
}
