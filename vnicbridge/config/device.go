package config

import (
	"errors"
	"fmt"
	"slices"
)

// Remote tells whether the segment's server is behind a device, and not on this machine.
func (s *Segment) Remote() bool { return s.Device != "" }

// deviceOption is the option that names the segment's device.
func (s *Segment) deviceOption() string {
	if s.Remote() {
		return "device"
	}
	return "interface"
}

// validateDevice checks the device behind which a segment's server is.
func (c *Config) validateDevice(name string) error {
	s := c.Segments[name]
	if !s.Remote() {
		return nil
	}
	switch {
	case s.Interface != "":
		return fmt.Errorf("device %s: it takes the place of a VNIC: take interface %s away", s.Device, s.Interface)
	case s.Netns != "":
		return fmt.Errorf("device %s: the server is behind the device, so nothing of the segment is in a namespace of this machine: take netns %s away", s.Device, s.Netns)
	case s.DefaultRoute:
		return fmt.Errorf("device %s: default_route sends through a VNIC, and this segment has none: give it to another segment", s.Device)
	case s.Health != nil && s.Health.From == "":
		return fmt.Errorf("device %s: health: this machine has no address in the segment's network: name the segment that the checks come from, as in `health %s/%d from front`", s.Device, s.Health.Protocol, s.Health.Port)
	}
	for _, bridge := range SortedKeys(c.Bridges) {
		if b := c.Bridges[bridge]; b.NIC == s.Device {
			return fmt.Errorf("device %s is bridge %s's nic: clients and the server must come in by different devices", s.Device, bridge)
		}
	}
	return nil
}

// validateHealthFrom checks the segment that a segment's checks come from.
func (c *Config) validateHealthFrom(name string) error {
	h := c.Segments[name].Health
	if h == nil || h.From == "" {
		return nil
	}
	if err := c.known(h.From); err != nil {
		return fmt.Errorf("health: from: %w", err)
	}
	switch from := c.Segments[h.From]; {
	case h.From == name:
		return errors.New("health: from: the segment itself is the default: take it away, or name another one")
	case from.Remote():
		return fmt.Errorf("health: from %s: its server is behind device %s, so this machine cannot send from there: name a segment with a VNIC", h.From, from.Device)
	case !slices.Contains(from.Reach, name):
		return fmt.Errorf("health: from %s: that segment may not reach this one: add `reach %s` there", h.From, name)
	}
	return nil
}
