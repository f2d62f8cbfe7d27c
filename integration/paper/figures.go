package paper

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// segmentFigures are what the paper shows of one of its two segments.
type segmentFigures struct {
	device string // of the VNIC
	index  int    // its interface number in captures, as in the paper

	network       netip.Prefix
	vnic, gateway netip.Addr // the VNIC's own, and the alias under which it sees its router

	ping            string // the figure's name
	packets         string // transmitted and received
	rtt, avg        string // min/avg/max/mdev in ms, and the average alone, as the summary has it
	page, pageTitle string // the figure's name, and the server that it shows
}

var (
	segmentA = segmentFigures{
		device: "vnic-A", index: 1, network: netip.MustParsePrefix("192.168.50.0/24"),
		vnic: netip.MustParseAddr("192.168.50.1"), gateway: netip.MustParseAddr("192.168.50.2"),
		ping: "Fig-10", packets: "212, 212", rtt: "0.940/1.782/2.818/0.269", avg: ", 1.782 ms",
		page: "Fig-16", pageTitle: "server-A",
	}
	segmentB = segmentFigures{
		device: "vnic-B", index: 2, network: netip.MustParsePrefix("192.168.60.0/24"),
		vnic: netip.MustParseAddr("192.168.60.1"), gateway: netip.MustParseAddr("192.168.60.2"),
		ping: "Fig-11", packets: "523, 523", rtt: "0.925/1.834/6.880/0.297", avg: ", 1.834 ms",
		page: "Fig-17", pageTitle: "server-B",
	}
)

// vnicAMAC is vnic-A's address in Fig-13.
var vnicAMAC = net.HardwareAddr{0x50, 0x01, 0x02, 0x03, 0x04, 0x05}

// routesSection compares a routing table with Fig-4, line by line.
func (f *family) routesSection(routes []netlab.Route) Section {
	s := Section{Figure: "Fig-4", Title: "The server's routing table"}
	for i := range max(len(f.routes), len(routes)) {
		paper, here := "(none)", "(none)"
		if i < len(f.routes) {
			paper = f.routes[i]
		}
		if i < len(routes) {
			here = routes[i].String()
		}
		s.Checks = append(s.Checks, same(fmt.Sprint(i+1), paper, here))
	}
	s.Gist = Gist{fmt.Sprintf("%d routes", len(f.routes)), fmt.Sprintf("%d routes", len(routes))}
	s.Body = "  Destination, gateway, flags, metric and device, in the order of `" + f.routesBy + "`."
	return s
}

// pingSection compares a ping from PC1 with the figure of the segment that is to
// answer. carriers are the VNICs on which its requests were seen.
func (f *family) pingSection(segment segmentFigures, ping *netlab.PingResult, carriers string) Section {
	ttl, bytes := 0, 0
	for _, reply := range ping.Replies {
		ttl, bytes = reply.TTL, reply.Bytes
	}
	loss := fmt.Sprintf("%d%%", 100*ping.Lost()/max(ping.Sent, 1))
	return Section{
		Figure: segment.ping,
		Title:  fmt.Sprintf("Ping from PC1 to %s, answered by %s", f.pseudo, segment.device),
		Checks: []Check{
			note("transmitted, received", segment.packets, fmt.Sprintf("%d, %d", ping.Sent, len(ping.Replies))),
			expect("packet loss", "0%", loss, ping.Lost() == 0),
			same("duplicates", "0", fmt.Sprint(ping.Duplicates)),
			same("bytes", "64", fmt.Sprint(bytes)),
			same("ttl", "63", fmt.Sprint(ttl)),
			same("answered by", segment.device, carriers),
			note("rtt min/avg/max/mdev, ms", segment.rtt, ping.RTT().String()),
		},
		Gist: Gist{
			fmt.Sprintf("%s, 0%% lost%s", segment.device, segment.avg),
			fmt.Sprintf("%s, %s lost, %.3f ms", carriers, loss, ms(ping.RTT().Avg)),
		},
	}
}

// pageSection compares the web page that PC1 got with the segment's figure.
// client is what the page must show as its reader.
func (f *family) pageSection(segment segmentFigures, page page, client netip.Addr, carriers string) Section {
	return Section{
		Figure: segment.page,
		Title:  fmt.Sprintf("The web page at %s, from %s", urlOf(f.pseudo), segment.pageTitle),
		Checks: []Check{
			same("the page is", segment.pageTitle, page.title),
			same("carried by", segment.device, carriers),
			same("the server sees as client", client.String(), page.client),
		},
		Gist: Gist{
			fmt.Sprintf("%s, for %s", segment.pageTitle, client),
			fmt.Sprintf("%s, for %s", page.title, page.client),
		},
	}
}

// page is what PC1 can tell of a web page.
type page struct{ title, client string }

// parsePage reads a page of the lab's Caddyfile.
func parsePage(html string) page {
	between := func(before, after string) string {
		_, rest, _ := strings.Cut(html, before)
		text, _, found := strings.Cut(rest, after)
		if !found {
			return "(not found)"
		}
		return text
	}
	return page{title: between("<title>", "</title>"), client: between("You are ", ".</p>")}
}
