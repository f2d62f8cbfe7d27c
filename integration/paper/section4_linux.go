package paper

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// playRoutes is Fig-4.
func (l *lab) playRoutes() error {
	read := l.network.Server.Routes
	if l.beyond {
		read = l.network.Server.RoutesIPv6
	}
	routes, err := read()
	if err != nil {
		return fmt.Errorf("lab: routing table: %w", err)
	}
	l.section(l.routesSection(routes))
	return nil
}

// playPing is Fig-10 or 11.
func (l *lab) playPing(ctx context.Context, segment segmentFigures) error {
	since := time.Now()
	ping, err := l.network.PC1.Ping(ctx, l.pseudo, netlab.PingOptions{
		Count: l.opts.Pings, Interval: l.opts.Interval,
		OnReply: func(r netlab.PingReply) {
			l.report.Progress("%d bytes from %s: icmp_seq=%d/%d ttl=%d time=%.3f ms", r.Bytes, r.From, r.Seq, l.opts.Pings, r.TTL, ms(r.RTT))
		},
	})
	if err != nil {
		return err
	}
	carriers, err := l.carriers(since, func(f netlab.Frame) bool {
		e, ok := netlab.ParseEcho(f)
		return ok && e.Request
	})
	if err != nil {
		return err
	}
	l.section(l.pingSection(segment, ping, carriers))
	return nil
}

// playFrames is Fig-12 to 15, of the last echo so far.
func (l *lab) playFrames(client netip.Addr) error {
	frames, err := l.server.Frames()
	if err != nil {
		return fmt.Errorf("lab: capture: %w", err)
	}
	four, err := findEcho(frames)
	if err != nil {
		l.section(Section{Figure: "Fig-12–15", Title: "The four frames of an echo", Checks: []Check{
			expect("frames", "four", err.Error(), false),
		}})
		return nil
	}
	if client != RouterAddr {
		l.section(l.framesSection(four, client, four[1].Src))
		return nil
	}
	for _, section := range l.frameSections(four, client, l.a.gateway) {
		l.section(section)
	}
	return nil
}

// playPage is Fig-16 or 17.
func (l *lab) playPage(ctx context.Context, segment segmentFigures, client netip.Addr) error {
	l.report.Progress("getting the page at %s", urlOf(l.pseudo))
	since := time.Now()
	page, err := getPage(ctx, l.network.PC1, l.pseudo)
	if err != nil {
		return l.explain("the web page", err)
	}
	carriers, err := l.carriers(since, opensTCP)
	if err != nil {
		return err
	}
	l.section(l.pageSection(segment, page, client, carriers))
	return nil
}

func getPage(ctx context.Context, from *netlab.Host, address netip.Addr) (page, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, urlOf(address), nil)
	if err != nil {
		return page{}, err
	}
	resp, err := from.HTTPClient().Do(request)
	if err != nil {
		return page{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return parsePage(string(body)), err
}

// playReload switches from segment A to B by a reload in the midst of an upload,
// which must go on to A over its connection.
func (l *lab) playReload(ctx context.Context) error {
	conn, err := l.network.PC1.DialContext(ctx, "tcp", netip.AddrPortFrom(l.pseudo, 80).String())
	if err != nil {
		return l.explain("a connection", err)
	}
	defer conn.Close()
	const before, after = "two ", "halves"
	if _, err := fmt.Fprintf(conn, "POST /upload HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", netlab.URLHost(l.pseudo), len(before+after), before); err != nil {
		return fmt.Errorf("lab: the first half of an upload: %w", err)
	}
	if err := l.reload(ctx, answerB); err != nil {
		return err
	}
	answer, err := finishUpload(conn, after)
	if err != nil {
		answer = err.Error()
	}
	l.section(Section{
		Figure: "III-D", Title: "Reload: `" + answerA + "` becomes `" + answerB + "`", Expected: "expected",
		Checks: []Check{
			same("an upload under way", fmt.Sprintf("%s got '%s'", segmentA.pageTitle, before+after), answer),
		},
		Gist: Gist{"under way stays on " + segmentA.pageTitle, firstWord(answer)},
	})
	return nil
}

func finishUpload(conn net.Conn, rest string) (answer string, err error) {
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, rest); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func firstWord(text string) string {
	word, _, _ := strings.Cut(text, " ")
	return word
}

// playEgress has the server ping its router through the alias (III-C of the
// paper).
func (l *lab) playEgress(ctx context.Context) error {
	since := time.Now()
	ping, err := l.network.Server.Ping(ctx, l.a.gateway, netlab.PingOptions{Source: l.a.vnic, Count: l.opts.Pings, Interval: l.opts.Interval})
	if err != nil {
		return err
	}
	frames, err := l.router.Frames()
	if err != nil {
		return fmt.Errorf("lab: capture: %w", err)
	}
	asked := "nobody"
	for _, e := range echoesSince(frames, since) {
		if e.Request {
			asked = fmt.Sprintf("%s, %s", e.Src, e.EthSrc)
		}
	}
	l.section(Section{
		Figure: "III-C", Title: fmt.Sprintf("The server pings its router by its alias: %s → %s", l.a.vnic, l.a.gateway), Expected: "expected",
		Checks: []Check{
			same("replies", fmt.Sprintf("%d of %d", ping.Sent, ping.Sent), fmt.Sprintf("%d of %d", len(ping.Replies), ping.Sent)),
			same("the router is asked by", fmt.Sprintf("%s, %s", l.pseudo, NICMAC), asked),
			note("rtt min/avg/max/mdev, ms", notGiven, ping.RTT().String()),
		},
		Gist: Gist{"the router answers", fmt.Sprintf("%d of %d", len(ping.Replies), ping.Sent)},
	})
	return nil
}

// playNeighbours looks at the server from the router: one address, one MAC.
func (l *lab) playNeighbours() error {
	read := l.network.Router.Neighbours
	if l.beyond {
		read = l.network.Router.NeighboursIPv6
	}
	neighbours, err := read(RouterWANDevice)
	if err != nil {
		return fmt.Errorf("lab: the router's %s: %w", l.neighbours, err)
	}
	var table []string
	for _, n := range neighbours {
		if n.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE|netlink.NUD_NOARP) == 0 {
			table = append(table, fmt.Sprintf("%s at %s", n.IP, n.HardwareAddr))
		}
	}
	frames, err := l.router.Frames()
	if err != nil {
		return fmt.Errorf("lab: capture: %w", err)
	}
	l.section(Section{
		Figure: "III-C", Title: "What the router knows of the server: no MAC address conflicts",
		Checks: []Check{
			same(l.neighbours, fmt.Sprintf("%s at %s", l.pseudo, NICMAC), strings.Join(table, ", ")),
			same("source MACs seen", NICMAC.String(), sourceMACs(frames)),
		},
		Gist: Gist{"one MAC address outside", sourceMACs(frames)},
	})
	return nil
}

// carriers names the VNICs on which a kind of frame passed since a time.
func (l *lab) carriers(since time.Time, kind func(netlab.Frame) bool) (string, error) {
	frames, err := l.server.Frames()
	if err != nil {
		return "", fmt.Errorf("lab: capture: %w", err)
	}
	var names []string
	for _, segment := range []segmentFigures{segmentA, segmentB} {
		for _, f := range frames {
			if f.Interface == segment.index && !f.Time.Before(since) && kind(f) {
				names = append(names, segment.device)
				break
			}
		}
	}
	if len(names) == 0 {
		return "no VNIC", nil
	}
	return strings.Join(names, " and "), nil
}

// explain adds the end of Caddy's log to an error that only Caddy can explain.
func (l *lab) explain(what string, err error) error {
	return fmt.Errorf("lab: %s: %w; Caddy's log ends so:\n%s", what, err, indent(l.caddy.Log(20)))
}

// indent sets text off from the report's own.
func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(text, "\t", "  ")) {
		if line != "\n" {
			b.WriteString("  ")
		}
		b.WriteString(line)
	}
	return b.String()
}
