package process

import (
	"errors"
	"slices"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// planeRecord is a plane that records its calls.
type planeRecord struct {
	refuse  map[*config.Config]bool
	inForce *config.Config // nil before the first Apply and after Close

	retained []*config.Config // kept in addition to inForce
	left     bool             // it was closed for a successor
}

var errRefused = errors.New("refused")

func (p *planeRecord) Apply(cfg *config.Config, retained ...*config.Config) error {
	if p.refuse[cfg] {
		return errRefused
	}
	p.inForce, p.retained = cfg, slices.Clone(retained)
	return nil
}

func (p *planeRecord) Close() error {
	p.inForce = nil
	return nil
}

func (p *planeRecord) Leave() error {
	p.left = true
	return p.Close()
}

// history makes pushes and removals, and checks their effect.
type history struct {
	t *testing.T
	planeRecord
	Generations
	told  *config.Config
	exits bool // whether the process ends
}

func newHistory(t *testing.T) *history {
	h := &history{t: t, planeRecord: planeRecord{refuse: make(map[*config.Config]bool)}}
	h.Generations.plane = &h.planeRecord
	h.Generations.applied = func(cfg *config.Config) { h.told = cfg }
	h.Generations.exiting = func() bool { return h.exits }
	return h
}

func (h *history) mustPush(cfg *config.Config) {
	h.t.Helper()
	if err := h.Push(cfg); err != nil {
		h.t.Fatal(err)
	}
}

func (h *history) mustRemove(cfg *config.Config) {
	h.t.Helper()
	if err := h.Remove(cfg); err != nil {
		h.t.Fatal(err)
	}
}

// expect checks which configuration is in force; nil means none.
func (h *history) expect(cfg *config.Config) {
	h.t.Helper()
	if h.inForce != cfg {
		h.t.Error("another configuration is in force")
	}
	if h.Any() != (cfg != nil) {
		h.t.Errorf("a configuration lives: %v", h.Any())
	}
	if cfg != nil && h.told != cfg {
		h.t.Error("applied was told of another configuration")
	}
}

func TestReload(t *testing.T) {
	h, a, b := newHistory(t), new(config.Config), new(config.Config)
	h.expect(nil)
	h.mustPush(a)
	h.expect(a)
	h.mustPush(b) // Caddy starts the new one first
	h.expect(b)
	if !slices.Equal(h.retained, []*config.Config{a}) {
		t.Error("the old configuration, which may come back, is not retained")
	}
	h.mustRemove(a)
	h.expect(b)
	if len(h.retained) > 0 {
		t.Error("the old configuration has ended and is still retained")
	}
	h.mustRemove(b)
	h.expect(nil)
}

func TestNewConfigurationStoppedAgain(t *testing.T) {
	h, a, b := newHistory(t), new(config.Config), new(config.Config)
	h.mustPush(a)
	h.mustPush(b)
	h.mustRemove(b) // because another of its apps failed
	h.expect(a)
}

func TestFailedApplyChangesNothing(t *testing.T) {
	h, a, b := newHistory(t), new(config.Config), new(config.Config)
	h.mustPush(a)
	h.refuse[b] = true
	if err := h.Push(b); !errors.Is(err, errRefused) {
		t.Fatalf("push returned %v", err)
	}
	h.expect(a)
	h.mustRemove(b) // as Cleanup of a configuration that never came into force
	h.expect(a)
	h.mustRemove(a)
	h.expect(nil)
}

func TestFailedFirstApplyLeavesNothing(t *testing.T) {
	h, a := newHistory(t), new(config.Config)
	h.refuse[a] = true
	if err := h.Push(a); !errors.Is(err, errRefused) {
		t.Fatalf("push returned %v", err)
	}
	h.expect(nil)
	delete(h.refuse, a)
	h.mustPush(a)
	h.expect(a)
}

func TestRemoveIsIdempotent(t *testing.T) {
	h, a, b := newHistory(t), new(config.Config), new(config.Config)
	h.mustRemove(a)
	h.mustPush(a)
	h.mustPush(b)
	h.mustRemove(b)
	h.mustRemove(b)
	h.expect(a)
	h.mustRemove(a)
	h.mustRemove(a)
	h.expect(nil)
	h.mustPush(b)
	h.expect(b)
}

func TestOldConfigurationThatDoesNotComeBack(t *testing.T) {
	h, a, b := newHistory(t), new(config.Config), new(config.Config)
	h.mustPush(a)
	h.mustPush(b)
	h.refuse[a] = true
	if err := h.Remove(b); !errors.Is(err, errRefused) {
		t.Errorf("remove returned %v, want the reason", err)
	}
	h.mustRemove(a)
	h.expect(nil)
}

// TestThePlaneIsLeftAtTheEnd checks that a plane without a configuration is closed, and that
// it is left for a successor only at the end of the process.
func TestThePlaneIsLeftAtTheEnd(t *testing.T) {
	for _, exits := range []bool{false, true} {
		h := newHistory(t)
		h.exits = exits
		cfg := new(config.Config)
		h.mustPush(cfg)
		h.mustRemove(cfg)
		if h.inForce != nil || h.left != exits {
			t.Errorf("the process exits: %v; the plane is left: %v", exits, h.left)
		}
	}
}
