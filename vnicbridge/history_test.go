package vnicbridge

import (
	"maps"
	"slices"
	"testing"
	"time"
)

// The plane notes every 10 s what each device has carried, keeps the notes of an hour, and
// forgets those of a device that the configuration no longer has.
func TestHistory(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		if h := r.plane.History(); len(h.Segments["a"]) > 0 {
			t.Errorf("before the first sample there is %+v", h)
		}
		r.put("nic0", fromRouter(farHost, 4000, 80).tcp("S", ""))
		time.Sleep(sampleInterval + maintainInterval)
		first := r.plane.History()
		for device, samples := range map[string][]Sample{"segment a": first.Segments["a"], "segment b": first.Segments["b"], "bridge lan": first.Bridges["lan"]} {
			if len(samples) != 1 {
				t.Fatalf("%s has %d samples", device, len(samples))
			}
			if age := first.Now.Sub(samples[0].Time); age < 0 || age > sampleInterval {
				t.Errorf("the sample of %s is %v old", device, age)
			}
		}
		now := r.plane.Status().Segments["a"]
		if got := first.Segments["a"][0]; got.NewFlows != 1 || got.Flows != 1 || got.Bytes != now.Bytes || got.Bytes.To == 0 {
			t.Errorf("segment a has %+v, of %+v", got, now)
		}

		for range historySize + 5 {
			r.plane.sample()
		}
		last := r.plane.History()
		if got := last.Segments["a"]; len(got) != historySize || slices.ContainsFunc(got, func(s Sample) bool { return s == first.Segments["a"][0] }) {
			t.Errorf("after more than an hour there are %d samples, want %d without the first", len(got), historySize)
		}
		if len(first.Segments["a"]) != 1 {
			t.Error("what was returned has changed since")
		}

		cfg := paperConfig()
		delete(cfg.Segments, "b")
		cfg.Bridges["lan"].LBPolicy.Segments = []string{"a"}
		if err := r.plane.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		r.plane.sample()
		if got := slices.Sorted(maps.Keys(r.plane.History().Segments)); !slices.Equal(got, []string{"a"}) {
			t.Errorf("without segment b there are samples of %v", got)
		}
	})
}
