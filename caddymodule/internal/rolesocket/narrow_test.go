package rolesocket

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/journal"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

// TestNarrowStatus checks that each field of a segment is shown except those that name others, and
// that what a bridge does for others is not.
func TestNarrowStatus(t *testing.T) {
	var own vnicbridge.SegmentStatus
	fill(reflect.ValueOf(&own).Elem())
	whole := api.Status{Version: "v1", Restart: "secret", Status: vnicbridge.Status{
		Datapath: "kernel", DatapathReason: "secret", Obstacles: []string{"secret"}, Flows: 99, MaxFlows: 100, Bans: 99,
		Segments: map[string]vnicbridge.SegmentStatus{"a": own, "secret": own},
		Bridges: map[string]vnicbridge.BridgeStatus{
			"lan": {
				NIC: "eth1", Up: true, SwitchedTo: "secret", Policy: &config.Policy{Policy: "first", Segments: []string{"secret", "a"}},
				Steer: []config.Rule{{Segment: "secret", Names: []string{"secret.example"}}, {Segment: "a", Names: []string{"a.example"}},
					{LBPolicy: &config.Policy{Policy: "random", Segments: []string{"a", "secret"}}, Names: []string{"both.example"}}},
				Candidates:  map[config.Family][]string{config.IPv4: {"secret", "a"}},
				FlowsByName: map[string]uint64{"secret.example": 1, "a.example": 2, "both.example": 3, "": 4},
				Counters:    vnicbridge.Counters{Flows: 99, Drops: map[string]uint64{"denied": 99}}, Conflicts: 99,
			},
			"secretlan": {Policy: &config.Policy{Policy: "first", Segments: []string{"secret"}}},
		},
	}}
	got := narrow(whole, "a")
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "secret") || strings.Contains(string(text), "99") {
		t.Errorf("the status has what is others':\n%s", text)
	}
	shown := reflect.ValueOf(got.Segments["a"])
	for i := range shown.NumField() {
		field := shown.Type().Field(i).Name
		if hidden := field == "Reach" || field == "Peers"; shown.Field(i).IsZero() != hidden {
			t.Errorf("the segment's field %s is shown: %t; decide about it in segmentOf", field, hidden)
		}
	}
	lan := got.Bridges["lan"]
	if len(got.Bridges) != 1 || lan.NIC != "eth1" || !lan.Up || len(lan.Steer) != 2 || lan.FlowsByName["a.example"] != 2 || len(lan.FlowsByName) != 1 || len(lan.Candidates[config.IPv4]) != 1 {
		t.Errorf("the bridges are %+v", got.Bridges)
	}
	if whole.Bridges["lan"].Policy.Segments[0] != "secret" || whole.Bridges["lan"].Candidates[config.IPv4][0] != "secret" {
		t.Error("the whole status has changed")
	}
}

// fill sets each field of a structure to something else than zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
	case reflect.Array:
		fill(v.Index(0))
	case reflect.String:
		v.SetString("own")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64, reflect.Int32, reflect.Int8:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint64, reflect.Uint32, reflect.Uint16, reflect.Uint8:
		v.SetUint(1)
	}
}

// TestNarrowFlows checks that of a flow between segments each sees what its VNIC shows, and that other
// segments are no clients.
func TestNarrowFlows(t *testing.T) {
	at := netip.MustParseAddrPort
	reach := flowlist.Flow{
		Direction: flowlist.Reach, Segment: "b", Peer: "a",
		Client: at("10.0.1.1:5000"), Destination: at("10.0.1.200:80"), Source: at("10.0.2.200:5000"), Server: at("10.0.2.1:80"),
	}
	forA, forB := narrowFlow(reach, "a"), narrowFlow(reach, "b")
	if forA.Segment != another || forA.Peer != "a" || forA.Server != reach.Destination || forA.Source != reach.Client || forA.Client != reach.Client {
		t.Errorf("who has opened it sees %+v", forA)
	}
	if forB.Segment != "b" || forB.Peer != another || forB.Client != reach.Source || forB.Destination != reach.Server || forB.Server != reach.Server {
		t.Errorf("who serves it sees %+v", forB)
	}
	inbound := flowlist.Flow{Direction: flowlist.Inbound, Segment: "a", Client: at("203.0.113.1:5000"), Server: at("10.0.1.1:80")}
	if got := narrowFlow(inbound, "a"); got != inbound {
		t.Errorf("a flow from the network is %+v", got)
	}
	whole := api.Status{Status: vnicbridge.Status{Segments: map[string]vnicbridge.SegmentStatus{
		"a": {Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.1.1/24")}},
		"b": {Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.2.1/24"), netip.MustParsePrefix("fd00:2::1/64")}},
	}}}
	var clients []flowlist.Client
	for _, address := range []string{"10.0.1.1", "10.0.2.1", "203.0.113.1", "fd00:2::1"} {
		clients = append(clients, flowlist.Client{Address: flowlist.SiteOf(netip.MustParseAddr(address)), Segments: []string{"a", "b"}})
	}
	var names []string
	for _, client := range narrowClients(clients, whole, "a") {
		names = append(names, client.Address.String()+" "+strings.Join(client.Segments, ","))
	}
	if got := strings.Join(names, " "); got != "10.0.1.1 a 203.0.113.1 a" {
		t.Errorf("the clients are %s", got)
	}
}

// TestNarrowEvents checks that events of others, and attributes that may name others, are left out.
func TestNarrowEvents(t *testing.T) {
	got := narrowEvents([]journal.Event{
		{ID: 1, Message: "own", Attributes: map[string]string{"segment": "a", "reason": "refused", "error": "secret"}},
		{ID: 2, Message: "secret", Attributes: map[string]string{"segment": "b"}},
		{ID: 3, Message: "secret", Attributes: map[string]string{"bridge": "lan"}},
		{ID: 4, Message: "secret"},
	}, "a")
	if len(got) != 1 || got[0].ID != 1 || len(got[0].Attributes) != 2 {
		t.Errorf("the events are %+v", got)
	}
	h := narrowHistory(vnicbridge.History{
		Now: time.Unix(1, 0), Segments: map[string][]vnicbridge.Sample{"a": {{Flows: 1}}, "b": {{Flows: 2}}}, Bridges: map[string][]vnicbridge.Sample{"lan": {{Flows: 3}}},
	}, "a")
	if len(h.Segments) != 1 || h.Segments["a"][0].Flows != 1 || len(h.Bridges) != 0 || h.Now.IsZero() {
		t.Errorf("the history is %+v", h)
	}
}
