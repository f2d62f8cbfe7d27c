package vnicbridge

import (
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// A reload without the segment that fails afterwards, and so brings the segment
// back, brings its state back; one that stands forgets it.
func TestStateOfARemovedSegment(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		old, without := paperConfig(), paperConfig()
		delete(without.Segments, "a")
		without.Bridges["lan"].LBPolicy.Segments = []string{"b"}
		if err := r.plane.SetState("a", config.Stopped); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			cfg      *config.Config
			retained []*config.Config
			want     config.State
		}{{without, []*config.Config{old}, config.Stopped}, {old, nil, config.Stopped}, {without, nil, config.Active}, {old, nil, config.Active}} {
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
