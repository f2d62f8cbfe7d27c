package kernel

import (
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A filter of ours comes before those of others, and a capture's before that, unless a
// filter of another kind has the lowest priority there is.
func TestPriorityBeforeOthers(t *testing.T) {
	at := func(priority uint16) netlink.FilterAttrs {
		return netlink.FilterAttrs{Priority: priority, Protocol: unix.ETH_P_ALL}
	}
	for _, tt := range []struct {
		name              string
		first             netlink.Filter
		carries, captures uint16
	}{
		{"nobody", nil, 7660, 7659},
		{"those that tc adds without a priority", &netlink.BpfFilter{FilterAttrs: at(0xc000)}, 7660, 7659},
		{"a lower one", &netlink.GenericFilter{FilterAttrs: at(100), FilterType: "flower"}, 99, 98},
		{"the one before the lowest", &netlink.U32{FilterAttrs: at(2)}, 1, 1},
		{"the lowest, of the same kind", &netlink.BpfFilter{FilterAttrs: at(1)}, 1, 1},
		{"the lowest, of another kind", &netlink.U32{FilterAttrs: at(1)}, 7660, 7659},
		{"the lowest, of another protocol", &netlink.BpfFilter{FilterAttrs: netlink.FilterAttrs{Priority: 1, Protocol: unix.ETH_P_IP}}, 7660, 7659},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var others []netlink.Filter
			if tt.first != nil {
				others = []netlink.Filter{tt.first}
			}
			if c, p := priorityBefore(others, carries), priorityBefore(others, Captures); c != tt.carries || p != tt.captures {
				t.Errorf("what carries has %d, a capture %d, want %d and %d", c, p, tt.carries, tt.captures)
			}
		})
	}
}
