package host

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A dead end is a device whose frames the host's kernel never sees, because a filter of its
// clsact drops them. The forwarder's packet socket, the programs by tcx, and our filters that
// carry packets come before that filter. A veth pair outlives a killed process, and its
// filter does, too.
const (
	DeadEndPriority = 7661
	deadEndHandle   = 1
)

// ensureDeadEnd adds the filter if it is missing.
func (v *VNICSetup) ensureDeadEnd(VNICSettings) (bool, error) {
	c := Clsact{v.NS, v.Ifindex}
	filters, err := c.Filters()
	if err != nil || slices.ContainsFunc(filters, IsDeadEnd) {
		return false, err
	}
	if _, err := c.Ensure(); err != nil {
		return false, err
	}
	if err := v.NS.Do(func() error { return addDrop(v.Ifindex) }); err != nil {
		return false, fmt.Errorf("adding the filter that keeps its frames from the host (is the module there? modprobe cls_bpf): %w", err)
	}
	return true, nil
}

// IsDeadEnd tells whether a filter is the one of a dead end.
func IsDeadEnd(f netlink.Filter) bool {
	b, ok := f.(*netlink.BpfFilter)
	return ok && b.Priority == DeadEndPriority && b.Handle == deadEndHandle && b.DirectAction && b.Parent == netlink.HANDLE_MIN_INGRESS
}

// addDrop adds a filter of classic BPF that returns TC_ACT_SHOT for every frame. Unlike eBPF,
// it needs no capability beyond CAP_NET_ADMIN. Package netlink has no such filter, so this
// function writes the request (include/uapi/linux/pkt_cls.h).
func addDrop(ifindex int) error {
	program, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: uint32(netlink.TC_ACT_SHOT)}})
	if err != nil {
		return err
	}
	var raw []byte
	for _, i := range program { // struct sock_filter
		raw = binary.NativeEndian.AppendUint16(raw, i.Op)
		raw = append(raw, i.Jt, i.Jf)
		raw = binary.NativeEndian.AppendUint32(raw, i.K)
	}
	request := nl.NewNetlinkRequest(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	request.AddData(&nl.TcMsg{
		Family: nl.FAMILY_ALL, Ifindex: int32(ifindex), Parent: netlink.HANDLE_MIN_INGRESS, Handle: deadEndHandle,
		Info: netlink.MakeHandle(DeadEndPriority, nl.Swap16(unix.ETH_P_ALL)),
	})
	request.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("bpf")))
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_BPF_OPS_LEN, binary.NativeEndian.AppendUint16(nil, uint16(len(program))))
	options.AddRtAttr(nl.TCA_BPF_OPS, raw)
	options.AddRtAttr(nl.TCA_BPF_FLAGS, nl.Uint32Attr(nl.TCA_BPF_FLAG_ACT_DIRECT))
	request.AddData(options)
	_, err = request.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
