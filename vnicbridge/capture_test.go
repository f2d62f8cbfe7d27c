package vnicbridge

import (
	"errors"
	"strings"
	"testing"
)

// A capture is of a segment or a bridge, and of all devices that its flows pass.
func TestCapturePoints(t *testing.T) {
	cfg := paperConfig()
	cfg.Segments["a"].Reach = []string{"b"}
	cfg.Segments["lan"] = cfg.Segments["b"]
	s := scene{cfg: cfg, segments: make(map[string]namedDevice), bridges: make(map[string]namedDevice)}
	add := func(to map[string]namedDevice, name, device string) {
		p := new(port)
		p.setDevice(nil)
		to[name] = namedDevice{p, device}
	}
	add(s.segments, "a", "vnic-A")
	add(s.segments, "b", "vnic-B")
	add(s.segments, "lan", "vnic-lan")
	add(s.bridges, "lan", "nic0")
	for of, want := range map[string]string{
		"a":           "vnic-A nic0 vnic-B",
		"segment/b":   "vnic-B nic0 vnic-A",
		"segment/lan": "vnic-lan",
		"bridge/lan":  "nic0 vnic-A vnic-B",
	} {
		points, err := s.points(of)
		var names []string
		for _, p := range points {
			names = append(names, p.name)
		}
		if err != nil || strings.Join(names, " ") != want {
			t.Errorf("%s: devices %v, %v; want %s", of, names, err, want)
		}
	}
	for of, want := range map[string]string{
		"lan":      "both a segment and a bridge are called lan",
		"vnic/a":   "want the name of a segment or a bridge",
		"bridge/a": "the configuration has the segments a, b, lan and the bridges lan",
	} {
		if points, err := s.points(of); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: devices %v, %v; want an error that says %q", of, points, err, want)
		}
	}
	var empty scene
	if _, err := empty.points("a"); err == nil || err.Error() != "no configuration is in force" {
		t.Errorf("without a configuration: %v", err)
	}
}

// A capture that cannot begin takes nobody's place.
func TestNoCapture(t *testing.T) {
	plane := New(Options{})
	for range MaxCaptures + 1 {
		if _, err := plane.OpenCapture(CaptureOptions{Of: "a"}); err == nil || errors.Is(err, ErrTooManyCaptures) {
			t.Fatalf("a capture without a configuration: %v", err)
		}
	}
}
