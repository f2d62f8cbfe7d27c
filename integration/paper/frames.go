package paper

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// frameFigure is one of the paper's figures 12 to 15: a frame of one echo, on
// its way from the NIC to vnic-A and back.
type frameFigure struct {
	figure, title  string
	index          int // the capture's interface: 0 the NIC, 1 vnic-A
	request        bool
	at             time.Duration // since the first of the four, in the paper
	ethSrc, ethDst net.HardwareAddr
	src, dst       netip.Addr
	ttl            uint8
}

// frameFigures are the four figures in the order of the way, for a client that
// the NIC sees under one address and vnic-A under an alias.
func (f *family) frameFigures(client, alias netip.Addr) [4]frameFigure {
	return [4]frameFigure{
		{
			figure: "Fig-12", title: "The echo request on the NIC", index: 0, request: true,
			ethSrc: RouterMAC, ethDst: NICMAC, src: client, dst: f.pseudo, ttl: 63,
		}, {
			figure: "Fig-13", title: "The echo request on vnic-A", index: 1, request: true, at: 78 * time.Microsecond,
			ethSrc: RouterMAC, ethDst: vnicAMAC, src: alias, dst: f.a.vnic, ttl: 63,
		}, {
			figure: "Fig-15", title: "The echo reply on vnic-A", index: 1, at: 112 * time.Microsecond,
			ethSrc: vnicAMAC, ethDst: RouterMAC, src: f.a.vnic, dst: alias, ttl: 64,
		}, {
			figure: "Fig-14", title: "The echo reply on the NIC", index: 0, at: 181 * time.Microsecond,
			ethSrc: NICMAC, ethDst: RouterMAC, src: f.pseudo, dst: client, ttl: 64,
		},
	}
}

// findEcho finds the four frames of the last echo that was answered, in the
// order of frameFigures.
func findEcho(frames []netlab.Frame) (four [4]netlab.Echo, err error) {
	echoes := echoesSince(frames, time.Time{})
	for i := len(echoes) - 1; i >= 0; i-- {
		last := echoes[i]
		if last.Interface != 0 || last.Request {
			continue
		}
		for k, figure := range familyIPv4.frameFigures(netip.Addr{}, netip.Addr{}) {
			found := false
			for _, e := range echoes {
				if e.ID == last.ID && e.Seq == last.Seq && e.Interface == figure.index && e.Request == figure.request {
					four[k], found = e, true
				}
			}
			if !found {
				return four, fmt.Errorf("%s: no such frame was captured for the echo with id=%#04x seq=%d", figure.figure, last.ID, last.Seq)
			}
		}
		return four, nil
	}
	return four, fmt.Errorf("no echo reply was captured on the NIC")
}

func echoesSince(frames []netlab.Frame, since time.Time) (echoes []netlab.Echo) {
	for _, f := range frames {
		if f.Time.Before(since) {
			continue
		}
		if e, ok := netlab.ParseEcho(f); ok {
			echoes = append(echoes, e)
		}
	}
	return echoes
}

// opensTCP tells whether a frame is the first of a TCP connection.
func opensTCP(f netlab.Frame) bool {
	p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy)
	tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
	return ok && tcp.SYN && !tcp.ACK
}

// isPacket tells whether a frame has an IP packet. NDP and MLD, which are ICMPv6 from type 130
// on, are a link's own, as ARP is.
func isPacket(f netlab.Frame) bool {
	p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.Lazy)
	if icmp, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
		return icmp.TypeCode.Type() < 130
	}
	return p.NetworkLayer() != nil
}

// sourceMACs names the Ethernet sources of the frames that a host received.
func sourceMACs(frames []netlab.Frame) string {
	var all []string
	for _, f := range frames {
		if source := net.HardwareAddr(f.Data[6:12]).String(); !f.Outgoing && !slices.Contains(all, source) {
			all = append(all, source)
		}
	}
	return strings.Join(all, ", ")
}

// addressChecks compares the addresses of a frame with its figure.
func addressChecks(figure frameFigure, e netlab.Echo) []Check {
	return []Check{
		same("Ethernet source", figure.ethSrc.String(), e.EthSrc.String()),
		same("Ethernet destination", figure.ethDst.String(), e.EthDst.String()),
		same("IP source", figure.src.String(), e.Src.String()),
		same("IP destination", figure.dst.String(), e.Dst.String()),
	}
}

// remainderChecks compares what the bridge must leave alone, with the frame
// before its rewrite (nil: there is none) and with the request.
func (f *family) remainderChecks(figure frameFigure, e netlab.Echo, before, request *netlab.Echo) []Check {
	checks := []Check{
		same(f.hops, fmt.Sprint(figure.ttl), fmt.Sprint(e.TTL)),
		same("bytes on the wire", f.echoBytes, fmt.Sprint(len(e.Data))),
		expect("checksums, IP and ICMP", "valid", validity(e.ChecksumsValid), e.ChecksumsValid),
	}
	switch {
	case e.Src.Is6(): // without an IP id
	case before == nil:
		checks = append(checks, note("IP id", "0x2c93", fmt.Sprintf("%#04x", e.IPID)))
	default:
		checks = append(checks, expect("IP id", "as before", fmt.Sprintf("%#04x, before %#04x", e.IPID, before.IPID), e.IPID == before.IPID))
	}
	if request == nil {
		return append(checks, note("ICMP id, seq", "0x285f, 95", fmt.Sprintf("%#04x, %d", e.ID, e.Seq)))
	}
	return append(checks,
		expect("ICMP id, seq", "the request's", fmt.Sprintf("%#04x, %d", e.ID, e.Seq), e.ID == request.ID && e.Seq == request.Seq),
		expect("ICMP payload", "the request's", payloadVerdict(e, *request), bytes.Equal(e.Payload, request.Payload)))
}

func validity(ok bool) string {
	if ok {
		return "valid"
	}
	return "wrong"
}

func payloadVerdict(e, request netlab.Echo) string {
	if bytes.Equal(e.Payload, request.Payload) {
		return "the request's"
	}
	return "another"
}

// frameSections are figures 12 to 15, each with all its fields and a dump that
// marks what the bridge has rewritten.
func (f *family) frameSections(four [4]netlab.Echo, client, alias netip.Addr) (sections []Section) {
	for i, figure := range f.frameFigures(client, alias) {
		e, before, request := four[i], beforeRewrite(four, i), requestOf(four, i)
		checks := []Check{note("time, ms", fmt.Sprintf("%.3f", ms(figure.at)), fmt.Sprintf("%.3f", ms(e.Time.Sub(four[0].Time))))}
		checks = append(checks, addressChecks(figure, e)...)
		checks = append(checks, f.remainderChecks(figure, e, before, request)...)
		var data []byte
		if before != nil {
			data = before.Data
		}
		sections = append(sections, Section{
			Figure: figure.figure, Title: figure.title, Checks: checks,
			Body: hexDump(e.Data, data),
			Gist: Gist{arrow(figure.src, figure.dst), arrow(e.Src, e.Dst)},
		})
	}
	return sections
}

// framesSection is the same in short, for another client than the paper's.
func (f *family) framesSection(four [4]netlab.Echo, client, alias netip.Addr) Section {
	s := Section{
		Figure: "Fig-12–15", Title: fmt.Sprintf("The same four frames, for the client %s", client), Expected: "expected",
		Checks: []Check{expect("alias on vnic-A", "in "+f.a.network.String()+", not "+f.a.gateway.String(), alias.String(),
			f.a.network.Contains(alias) && alias != f.a.gateway && alias != f.a.vnic)},
	}
	for i, figure := range f.frameFigures(client, alias) {
		e := four[i]
		name := strings.TrimPrefix(figure.title, "The echo ")
		s.Checks = append(s.Checks,
			same(name, arrow(figure.src, figure.dst), arrow(e.Src, e.Dst)),
			same("  MACs", arrow(figure.ethSrc, figure.ethDst), arrow(e.EthSrc, e.EthDst)))
		rest := Section{Checks: f.remainderChecks(figure, e, beforeRewrite(four, i), requestOf(four, i))}
		here := "as sent"
		if differ := rest.differing(); len(differ) > 0 {
			here = "differs: " + names(differ)
		}
		s.Checks = append(s.Checks, same("  the rest", "as sent", here))
	}
	s.Gist = Gist{"an alias for " + client.String(), alias.String()}
	s.Body = "  As sent: " + f.hops + ", lengths, ids and payload are as before,\n  and the checksums are valid."
	return s
}

func arrow(from, to fmt.Stringer) string { return from.String() + " → " + to.String() }

// beforeRewrite is the frame from which the bridge made the i-th: the request on the
// NIC, or the reply on vnic-A.
func beforeRewrite(four [4]netlab.Echo, i int) *netlab.Echo {
	if i%2 == 0 {
		return nil
	}
	return &four[i-1]
}

func requestOf(four [4]netlab.Echo, i int) *netlab.Echo {
	if i == 0 {
		return nil
	}
	return &four[0]
}
