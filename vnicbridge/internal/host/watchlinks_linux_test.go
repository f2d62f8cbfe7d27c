package host

import (
	"encoding/binary"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// linkMessageOf is a message about a device as the kernel sends it.
func linkMessageOf(index int32, flags, event uint32) syscall.NetlinkMessage {
	info := nl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index, info.Flags = index, flags
	data := append(info.Serialize(), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("bond0")).Serialize()...)
	data = append(data, nl.NewRtAttr(unix.IFLA_EVENT, binary.NativeEndian.AppendUint32(nil, event)).Serialize()...)
	return syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.RTM_NEWLINK}, Data: data}
}

// Row A2++: for which messages about a device its peers are to be notified.
func TestLinkMessages(t *testing.T) {
	const up, down = unix.IFF_UP | unix.IFF_LOWER_UP, unix.IFF_UP
	type message struct{ flags, event uint32 }
	for _, tc := range []struct {
		name     string
		messages []message
		notify   bool
	}{
		{"notify peers", []message{{up, unix.IFLA_EVENT_NOTIFY_PEERS}}, true},
		{"another event", []message{{up, unix.IFLA_EVENT_FEATURES}, {up, unix.IFLA_EVENT_NONE}}, false},
		{"a carrier that comes back", []message{{up, 0}, {down, 0}, {up, 0}}, true},
		{"a carrier that is gone", []message{{up, 0}, {down, unix.IFLA_EVENT_NOTIFY_PEERS}}, false},
	} {
		m := new(Machine)
		for _, msg := range tc.messages {
			l, ok := parseLinkMessage(linkMessageOf(7, msg.flags, msg.event))
			if !ok || l.index != 7 {
				t.Fatalf("%s: %+v, %v", tc.name, l, ok)
			}
			m.noteLink(l)
		}
		if _, notify := m.peers.Load(7); notify != tc.notify {
			t.Errorf("%s: the peers are to be notified: %v", tc.name, notify)
		}
	}
	for n := range unix.SizeofIfInfomsg {
		msg := linkMessageOf(7, up, 0)
		msg.Data = msg.Data[:n]
		if _, ok := parseLinkMessage(msg); ok {
			t.Errorf("a message of %d bytes is read", n)
		}
	}
}
