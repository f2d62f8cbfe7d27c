package vnicbridge

import (
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/bpf"
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
			"KEEP": uint64(keep), "DROP_MALFORMED": uint64(dropMalformed), "DROP_VLAN": uint64(dropVLAN),
			"DROP_NOT_FOR_US": uint64(dropNotForUs), "DROP_GROUP": uint64(dropGroup),
			"DROP_ETHER_TYPE": uint64(dropEtherType), "DROP_ARP": uint64(dropARP), "DROP_SOURCE": uint64(dropSource),
			"DROP_FRAGMENT": uint64(dropFragment), "DROP_PROTOCOL": uint64(dropProtocol), "DROP_ICMP": uint64(dropICMP),
			"DROP_NO_FLOW": uint64(dropNoFlow), "DROP_NO_SEGMENT": uint64(dropNoSegment), "DROP_PORT": uint64(dropPort),
			"DROP_EGRESS": uint64(dropEgress), "DROP_TABLE_FULL": uint64(dropTableFull),
			"DROP_NO_TUPLE": uint64(dropNoTuple), "DROP_UNRESOLVED": uint64(dropUnresolved),
			"DROP_TOO_BIG": uint64(dropTooBig), "DROP_SEND": uint64(dropSend), "DROP_OVERLOAD": uint64(dropOverload),
			"DROP_REASONS": uint64(dropReasons),
			"SLOW":         64, // C's own, beyond all reasons
		},
		"slot_index": {
			"SLOT_FIRST": uint64(slotFirst), "SLOT_IN_TURN": uint64(slotInTurn), "SLOT_RANDOM": uint64(slotRandom),
			"SLOT_CLIENT_HASH": uint64(slotClientHash), "SLOT_FLOW_HASH": uint64(slotFlowHash),
			"SLOT_LEAST_FLOWS": uint64(slotLeastFlows),
		},
		"flow_flag": {
			"FLOW_PICKED_UP": flowPickedUp, "FLOW_ACCEPTED": flowAccepted, "FLOW_ESTABLISHED": flowEstablished,
			"FLOW_FIN": flowFIN, "FLOW_RESET": flowReset, "FLOW_ACKED": flowAcked, "FLOW_SUPERSEDED": flowSuperseded,
			"FLOW_OVER": flowOver,
		},
		"egress": {
			"EGRESS_OFF": uint64(egressNumbers[EgressOff]), "EGRESS_GATEWAY": uint64(egressNumbers[EgressGateway]),
			"EGRESS_ANY": uint64(egressNumbers[EgressAny]),
		},
		"arp_kind": {
			"ARP_ANYBODY": uint64(arpAnybody), "ARP_ANSWER": uint64(arpAnswer), "ARP_NEIGHBOUR": uint64(arpNeighbour),
			"ARP_GATEWAY": uint64(arpGateway), "ARP_KINDS": uint64(arpKinds),
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
		bpf.BridgeMapPorts: maxPorts, bpf.BridgeMapCounts: bpf.MaxPorts, bpf.BridgeMapMeters: bpf.MaxPorts,
		bpf.BridgeMapBridges: 2 * bpf.MaxPorts, bpf.BridgeMapSegments: 2 * bpf.MaxPorts,
		bpf.BridgeMapTables: 2 * maxBridges,
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
		"plane_state": planeState{}, "flow_state": flowState{}, "flow_traffic": flowTraffic{}, "gauges": gauges{},
		"flow_key": bpf.FlowKey{}, "flow_record": bpf.FlowRecord{}, "counters": bpf.Counters{}, "port": bpf.Port{},
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
