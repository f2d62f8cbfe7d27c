package host

import (
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Our rules come before those of others, and behind the local table's, wherever that is.
func TestPlaceOfOurRules(t *testing.T) {
	local := func(priority int) netlink.Rule { return netlink.Rule{Priority: priority, Table: unix.RT_TABLE_LOCAL} }
	other := func(priority int) netlink.Rule { return netlink.Rule{Priority: priority, Table: 52} }
	ours := func(priority int) netlink.Rule {
		return netlink.Rule{Priority: priority, Table: ruleTables + 7, Protocol: ruleProtocol}
	}
	for _, tt := range []struct {
		name            string
		rules           []netlink.Rule
		priority, ahead int
	}{
		{"nothing", nil, 1000, 0},
		{"the kernel's", []netlink.Rule{local(0), other(32766), other(32767)}, 1000, 0},
		{"an exit node's", []netlink.Rule{local(0), ours(1000), other(5270), other(32766)}, 1000, 0},
		{"added before ours", []netlink.Rule{local(0), other(998), other(999), ours(1000)}, 997, 0},
		{"ours, moved", []netlink.Rule{local(0), ours(997), other(998), other(999)}, 997, 0},
		{"the others are gone", []netlink.Rule{local(0), ours(997), other(32766)}, 1000, 0},
		{"no room but beside the local table's", []netlink.Rule{local(0), other(1)}, 0, 0},
		{"right behind the local table's before ours", []netlink.Rule{local(0), other(0), ours(1000), other(32766)}, 1000, 1},
		{"right behind the local table's after ours", []netlink.Rule{local(0), ours(0), other(0), other(32766)}, 0, 0},
		{"a local table that was moved", []netlink.Rule{other(9), other(10), local(100), other(32766)}, 1000, 2},
		{"the same, and others behind", []netlink.Rule{other(9), local(100), ours(1000), other(101)}, 100, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			priority, ahead := placeOfOurs(tt.rules)
			if priority != tt.priority || len(ahead) != tt.ahead {
				t.Errorf("ours belong at %d, behind %v, want %d, behind %d others", priority, ahead, tt.priority, tt.ahead)
			}
		})
	}
}
