package vnicbridge

import (
	"errors"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/capture"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// A capture is of a segment or a bridge, and of all devices that its flows pass.
func TestCapturePoints(t *testing.T) {
	cfg := paperConfig()
	cfg.Segments["a"].Reach = []string{"b"}
	cfg.Segments["lan"] = cfg.Segments["b"]
	s := capture.Scene{Cfg: cfg, Segments: make(map[string]capture.NamedDevice), Bridges: make(map[string]capture.NamedDevice)}
	add := func(to map[string]capture.NamedDevice, name, device string) {
		p := new(iface.Iface)
		p.SetDevice(nil)
		to[name] = capture.NamedDevice{Iface: p, Name: device}
	}
	add(s.Segments, "a", "vnic-A")
	add(s.Segments, "b", "vnic-B")
	add(s.Segments, "lan", "vnic-lan")
	add(s.Bridges, "lan", "nic0")
	for of, want := range map[string]string{
		"a":           "vnic-A nic0 vnic-B",
		"segment/b":   "vnic-B nic0 vnic-A",
		"segment/lan": "vnic-lan",
		"bridge/lan":  "nic0 vnic-A vnic-B",
	} {
		points, err := s.Points(of, false)
		var names []string
		for _, p := range points {
			names = append(names, p.Name)
		}
		if err != nil || strings.Join(names, " ") != want {
			t.Errorf("%s: devices %v, %v; want %s", of, names, err, want)
		}
	}
	if points, err := s.Points("a", true); err != nil || len(points) != 2 || points[0].Name != "vnic-A" || points[1].Name != "nic0" {
		t.Errorf("of segment a alone: devices %v, %v", points, err)
	}
	for of, want := range map[string]string{
		"lan":      "both a segment and a bridge are called lan",
		"vnic/a":   "want the name of a segment or a bridge",
		"bridge/a": "the configuration has the segments a, b, lan and the bridges lan",
	} {
		if points, err := s.Points(of, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: devices %v, %v; want an error that says %q", of, points, err, want)
		}
	}
	var empty capture.Scene
	if _, err := empty.Points("a", false); err == nil || err.Error() != "no configuration is in force" {
		t.Errorf("without a configuration: %v", err)
	}
}

// A capture that cannot begin takes nobody's place.
func TestNoCapture(t *testing.T) {
	plane := New(Options{})
	for range capture.Max + 1 {
		if _, err := plane.OpenCapture(capture.Options{Of: "a"}); err == nil || errors.Is(err, capture.ErrTooMany) {
			t.Fatalf("a capture without a configuration: %v", err)
		}
	}
}
