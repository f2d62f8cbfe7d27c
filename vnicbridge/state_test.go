package vnicbridge

import "testing"

// A reload without the segment that fails afterwards, and so brings the segment
// back, brings its state back; one that stands forgets it.
func TestStateOfARemovedSegment(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		old, without := paperConfig(), paperConfig()
		delete(without.Segments, "a")
		without.Bridges["lan"].LBPolicy.Segments = []string{"b"}
		if err := r.plane.SetState("a", Stopped); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			cfg      *Config
			retained []*Config
			want     State
		}{{without, []*Config{old}, Stopped}, {old, nil, Stopped}, {without, nil, Active}, {old, nil, Active}} {
			if err := r.plane.Apply(step.cfg, step.retained...); err != nil {
				t.Fatal(err)
			}
			r.settle()
			if got := r.plane.State("a"); got != step.want {
				t.Errorf("the state is %s, want %s", got, step.want)
			}
		}
	})
}
