package capture

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/pcapfilter"
)

// Options say what is captured, and for how long.
type Options struct {
	// Of is the name of a segment or a bridge. segment/<name> or bridge/<name> distinguishes
	// the two if they have the same name.
	Of string
	// Alone leaves the VNICs of other segments out of the capture of a segment.
	Alone bool
	// Filter is an expression of [pcapfilter]. A frame is in the capture only if it
	// matches as it is on its device. Default: all frames match.
	Filter string
	// Client limits the capture to flows whose client is in this network. Frames that
	// show the client's alias instead of its address are in the capture, too.
	Client netip.Prefix
	// Snaplen is how many bytes of each frame are kept, MinSnaplen to MaxSnaplen;
	// 0: DefaultSnaplen.
	Snaplen int
	// Count is how many frames end the capture; 0: no limit.
	Count int
	// Duration is how long the capture runs; 0: no limit.
	Duration time.Duration
}

// Bounds of captures.
const (
	DefaultSnaplen = 2048     // holds any frame of a wire; not a 64 KiB one of segmentation offload
	MinSnaplen     = 128      // holds the headers that tell a frame's flow
	MaxSnaplen     = 68 << 10 // holds any frame
	Max            = 4        // at once
	MaxFilter      = 4096     // bytes of an expression

	// Rate is how many bytes per second all captures take together, with FrameCost bytes
	// more for each frame. Unused bytes of one second can be taken in the next. Frames
	// beyond the rate are dropped and counted.
	Rate      = 2 << 20
	FrameCost = 512
)

// complete checks the options, and sets defaults.
func (o *Options) complete() error {
	o.Snaplen = cmp.Or(o.Snaplen, DefaultSnaplen)
	switch {
	case o.Snaplen < MinSnaplen || o.Snaplen > MaxSnaplen:
		return fmt.Errorf("snaplen %d: want %d to %d", o.Snaplen, MinSnaplen, MaxSnaplen)
	case o.Count < 0:
		return fmt.Errorf("count %d: want a positive number", o.Count)
	case o.Duration < 0:
		return fmt.Errorf("duration %s: want a positive one", o.Duration)
	case len(o.Filter) > MaxFilter:
		return fmt.Errorf("the filter has %d bytes: want at most %d", len(o.Filter), MaxFilter)
	}
	// The filter must compile alone, so that it cannot close the parentheses that it gets
	// later.
	_, err := pcapfilter.Compile(o.Filter, uint32(o.Snaplen))
	return err
}

// on returns the filter for a device. On a NIC it adds that a packet is for or from a pseudo
// address, or that ARP or NDP is about one, because all others belong to the host.
func (o *Options) on(p *iface.Iface) string {
	if p.NIC == nil {
		return o.Filter
	}
	var ours []string
	if own := p.Of(config.IPv4); own != nil {
		ours = append(ours, fmt.Sprintf("host %s", own.NIC.Address.Netip()))
	}
	if own := p.Of(config.IPv6); own != nil {
		ours = append(ours, fmt.Sprintf("ip6 host %s", own.NIC.Address.Netip()), "("+solicitationOf(own.NIC.Address)+")")
	}
	own := "(" + strings.Join(ours, " or ") + ")"
	if strings.TrimSpace(o.Filter) == "" {
		return own
	}
	return own + " and (" + o.Filter + ")"
}

// solicitationOf is the filter for Neighbor Solicitations and Advertisements of which an
// address is the target. They are for a group, if not for a host.
func solicitationOf(target packet.Addr) string {
	filter := "icmp6[icmp6type] >= icmp6-neighborsolicit and icmp6[icmp6type] <= icmp6-neighboradvert"
	for i := 0; i < len(target); i += 4 {
		filter += fmt.Sprintf(" and ether[%d:4] = %#x", ndpTarget+i, binary.BigEndian.Uint32(target[i:]))
	}
	return filter
}
