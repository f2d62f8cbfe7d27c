package vnicbridge

import (
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/kernel"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// What C and Go both write down is the same. The objects carry their types (BTF),
// so that it is the C side that is asked.

func loadObjects(t *testing.T) *ebpf.CollectionSpec {
	t.Helper()
	spec, err := bpf.LoadBridge()
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// enumOf is an enum of the objects, of which none holds all that types.h has.
func enumOf(t *testing.T, name string) (enum *btf.Enum) {
	t.Helper()
	filter, err := bpf.LoadLetIn()
	if err != nil {
		t.Fatal(err)
	}
	if loadObjects(t).Types.TypeByName(name, &enum) == nil {
		return enum
	}
	if err := filter.Types.TypeByName(name, &enum); err != nil {
		t.Fatalf("enum %s: %v", name, err)
	}
	return enum
}

func TestSharedConstants(t *testing.T) {
	for name, want := range map[string]map[string]uint64{
		"drop_reason": {
			"KEEP": uint64(packet.Keep), "DROP_MALFORMED": uint64(packet.DropMalformed), "DROP_VLAN": uint64(packet.DropVLAN),
			"DROP_NOT_FOR_US": uint64(packet.DropNotForUs), "DROP_GROUP": uint64(packet.DropGroup),
			"DROP_ETHER_TYPE": uint64(packet.DropEtherType), "DROP_ARP": uint64(packet.DropARP), "DROP_SOURCE": uint64(packet.DropSource),
			"DROP_FRAGMENT": uint64(packet.DropFragment), "DROP_PROTOCOL": uint64(packet.DropProtocol), "DROP_ICMP": uint64(packet.DropICMP),
			"DROP_NO_FLOW": uint64(packet.DropNoFlow), "DROP_NO_SEGMENT": uint64(packet.DropNoSegment), "DROP_PORT": uint64(packet.DropPort),
			"DROP_EGRESS": uint64(packet.DropEgress), "DROP_TABLE_FULL": uint64(packet.DropTableFull),
			"DROP_NO_TUPLE": uint64(packet.DropNoTuple), "DROP_UNRESOLVED": uint64(packet.DropUnresolved),
			"DROP_TOO_BIG": uint64(packet.DropTooBig), "DROP_SEND": uint64(packet.DropSend), "DROP_OVERLOAD": uint64(packet.DropOverload),
			"DROP_DENIED":  uint64(packet.DropDenied),
			"DROP_LIMIT":   uint64(packet.DropLimit),
			"DROP_STANDBY": uint64(packet.DropStandby),
			"DROP_REASONS": uint64(packet.DropReasonCount),
			"SLOW":         64, // C's own, beyond all reasons
		},
		"slot_index": {
			"SLOT_FIRST": uint64(rules.SlotFirst), "SLOT_IN_TURN": uint64(rules.SlotInTurn), "SLOT_RANDOM": uint64(rules.SlotRandom),
			"SLOT_CLIENT_HASH": uint64(rules.SlotClientHash), "SLOT_FLOW_HASH": uint64(rules.SlotFlowHash),
			"SLOT_LEAST_FLOWS": uint64(rules.SlotLeastFlows),
		},
		"flow_flag": {
			"FLOW_PICKED_UP": flow.PickedUp, "FLOW_ACCEPTED": flow.Accepted, "FLOW_ESTABLISHED": flow.Established,
			"FLOW_FIN": flow.FIN, "FLOW_RESET": flow.Reset, "FLOW_ACKED": flow.Acked, "FLOW_SUPERSEDED": flow.Superseded,
			"FLOW_OVER": flow.Over, "FLOW_COUNTED": flow.Counted, "FLOW_GREETED": flow.Greeted, "FLOW_SHIFTED": flow.Shifted,
			"FLOW_ANSWERED": flow.Answered,
		},
		"egress": {
			"EGRESS_OFF": uint64(kernel.EgressNumbers[config.EgressOff]), "EGRESS_GATEWAY": uint64(kernel.EgressNumbers[config.EgressGateway]),
			"EGRESS_ANY": uint64(kernel.EgressNumbers[config.EgressAny]),
		},
		"message_kind": {
			"MESSAGE_ANYBODY": uint64(link.MessageAnybody), "MESSAGE_ANSWER": uint64(link.MessageAnswer),
			"MESSAGE_NEIGHBOUR": uint64(link.MessageNeighbour), "MESSAGE_GATEWAY": uint64(link.MessageGateway),
			"MESSAGE_LINK_LOCAL": uint64(link.MessageLinkLocal), "MESSAGE_MLD": uint64(link.MessageMLD),
			"MESSAGE_IGNORED": uint64(link.MessageIgnored), "MESSAGE_KINDS": uint64(link.MessageKinds),
		},
		"mode": {"MODE_ASLEEP": bpf.Asleep, "MODE_SLOW": bpf.Slow, "MODE_FAST": bpf.Fast},
	} {
		got := make(map[string]uint64)
		for _, v := range enumOf(t, name).Values {
			got[v.Name] = v.Value
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("enum %s is\n%v in C and\n%v in Go", name, got, want)
		}
	}
}

// The limits are the sizes of maps.
func TestSharedLimits(t *testing.T) {
	spec := loadObjects(t)
	for name, want := range map[string]uint32{
		bpf.BridgeMapIfaces: iface.Max, bpf.BridgeMapCounts: bpf.MaxIfaces, bpf.BridgeMapMeters: bpf.MaxIfaces,
		bpf.BridgeMapBridges: 2 * bpf.MaxIfaces, bpf.BridgeMapSegments: 2 * bpf.MaxIfaces,
		bpf.BridgeMapTables: 2 * kernel.MaxBridges,
	} {
		if got := spec.Maps[name].MaxEntries; got != want {
			t.Errorf("the map %s has %d entries, want %d", name, got, want)
		}
	}
}

// Go's own types, whose fields are atomic, lie in memory as C's do.
func TestSharedLayouts(t *testing.T) {
	spec := loadObjects(t)
	for name, own := range map[string]any{
		"plane_state": kernel.PlaneState{}, "flow_state": flow.State{}, "flow_traffic": flow.Traffic{}, "gauges": iface.Gauges{}, "limit": iface.Limits{},
		"flow_key": bpf.FlowKey{}, "flow_record": bpf.FlowRecord{}, "counters": bpf.Counters{}, "iface": bpf.Iface{},
	} {
		var c *btf.Struct
		if err := spec.Types.TypeByName(name, &c); err != nil {
			t.Errorf("struct %s: %v", name, err)
			continue
		}
		layout := reflect.TypeOf(own)
		if uintptr(c.Size) != layout.Size() {
			t.Errorf("struct %s has %d bytes in C and %d in Go", name, c.Size, layout.Size())
		}
		for _, member := range c.Members {
			field, ok := layout.FieldByNameFunc(func(n string) bool {
				return strings.EqualFold(n, strings.ReplaceAll(member.Name, "_", ""))
			})
			if !ok {
				if member.Name != "zero" {
					t.Errorf("struct %s: Go has no %s", name, member.Name)
				}
				continue
			}
			size, err := btf.Sizeof(member.Type)
			if err != nil || uintptr(member.Offset.Bytes()) != field.Offset || uintptr(size) != field.Type.Size() {
				t.Errorf("struct %s: %s is at %d with %d bytes in C (%v), and at %d with %d in Go",
					name, member.Name, member.Offset.Bytes(), size, err, field.Offset, field.Type.Size())
			}
		}
	}
}
