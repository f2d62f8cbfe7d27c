package command

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// What commands answer when the instance has done what they asked for: they ask for its status
// and say how things stand now.

func (f *adminFlags) status() (vnicbridge.Status, error) {
	raw, err := f.request(http.MethodGet, api.StatusPath)
	if err != nil {
		return vnicbridge.Status{}, err
	}
	return parseAnswer[vnicbridge.Status](raw)
}

// writeSegmentNow says which state a segment is in.
func writeSegmentNow(w io.Writer, admin *adminFlags, name string) error {
	s, err := admin.status()
	if err != nil {
		return err
	}
	segment := s.Segments[name]
	if segment.State != config.Active {
		return writeLeft(w, admin, name, segment.State)
	}
	_, err = fmt.Fprintf(w, "Segment %s.\n", standing(name, segment))
	return err
}

// writeBridgeNow says whether a bridge has its addresses.
func writeBridgeNow(w io.Writer, admin *adminFlags, name string) error {
	s, err := admin.status()
	if err != nil {
		return err
	}
	if bridge := s.Bridges[name]; bridge.Role() != nil {
		_, err = fmt.Fprintf(w, "Bridge %s %s.\n", name, role(bridge.Role()))
	}
	return err
}

// role says in words whether a bridge has its addresses, and what others are told of it.
func role(f *vnicbridge.RoleStatus) string {
	is := map[vnicbridge.BridgeState]string{
		vnicbridge.BridgeIsActive: "is active", vnicbridge.BridgeStandsBy: "stands by", vnicbridge.BridgeIsDraining: "is draining",
	}[f.State]
	switch {
	case f.Fit:
		return is + ", and this machine is fit for its addresses"
	case f.Unfit != "":
		return is + ", and this machine is not fit for its addresses: " + f.Unfit
	}
	return is + ", and this machine will be fit for its addresses in a second"
}

// standing says whether a segment gets new flows.
func standing(name string, s vnicbridge.SegmentStatus) string {
	switch {
	case s.State != config.Active:
		return fmt.Sprintf("%s is %s and gets no new flows", name, s.State)
	case !s.Health.Healthy:
		return fmt.Sprintf("%s is unhealthy and gets no new flows: %s", name, s.Health.Reason)
	}
	return name + " is active and gets new flows"
}

// writeWeightNow says which weight a segment has.
func writeWeightNow(w io.Writer, admin *adminFlags, name string) error {
	s, err := admin.status()
	if err != nil {
		return err
	}
	segment := s.Segments[name]
	_, err = fmt.Fprintf(w, "Segment %s has weight %d; the configuration has %d.\n", name, segment.Weight, segment.ConfiguredWeight)
	return err
}

// writeSwitchNow says which segment a bridge prefers.
func writeSwitchNow(w io.Writer, admin *adminFlags, name string) error {
	s, err := admin.status()
	if err != nil {
		return err
	}
	bridge := s.Bridges[name]
	if bridge.SwitchedTo == "" {
		_, err = fmt.Fprintf(w, "Bridge %s chooses by lb_policy again: %s.\n", name, policy(bridge.Policy))
		return err
	}
	fmt.Fprintf(w, "Bridge %s gives new flows to segment %s.\n", name, bridge.SwitchedTo)
	if to := s.Segments[bridge.SwitchedTo]; to.State != config.Active || !to.Health.Healthy {
		_, err = fmt.Fprintf(w, "But segment %s. Until then the others of lb_policy take its place.\n", standing(bridge.SwitchedTo, to))
	}
	return err
}

// bannedNow says what a ban does.
func bannedNow(ban api.BanRequest) string {
	until := "until unban"
	if ban.For > 0 {
		until = "for " + time.Duration(ban.For).String()
	}
	return fmt.Sprintf("%s banned%s, %s.", are(ban.Networks), where(ban), until)
}

// where says where a ban holds, if not everywhere.
func where(ban api.BanRequest) string {
	switch {
	case ban.Segment != "":
		return " from segment " + ban.Segment
	case ban.Bridge == "":
		return ""
	}
	return " at bridge " + ban.Bridge
}

// are begins a sentence about one or more things.
func are(names []string) string {
	if len(names) == 1 {
		return names[0] + " is"
	}
	return enumerate(names) + " are"
}

// enumerate lists names as a sentence does.
func enumerate(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
