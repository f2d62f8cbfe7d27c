package paper

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// silence is how long Play waits for an answer that must not come.
const silence = 300 * time.Millisecond

// network19 is one of the two networks of Fig-19, with its segment.
type network19 struct {
	pcName     string
	pc, router *netlab.Host
	pseudo     netip.Addr
	segment    segmentFigures
	nic        string
}

// playFig19 gives the server its second NIC and tries both networks, each from
// outside and from its segment.
func (l *lab) playFig19(ctx context.Context) (err error) {
	if err := l.addLAN(); err != nil {
		return err
	}
	l.part("Two NICs: two networks that do not reach each other", pictureFig19, "The server's Caddyfile", caddyfileFig19)
	l.report.Progress("reloading with two bridges")
	if err := l.reloadWith(ctx, l.addresses.Replace(caddyfileFig19)); err != nil {
		return err
	}
	one := network19{pcName: "PC1", pc: l.network.PC1, router: l.network.Router, pseudo: l.pseudo, segment: l.a, nic: NICDevice}
	two := network19{pcName: "PC2", pc: l.second.PC2, router: l.second.Router2, pseudo: l.pseudo2, segment: l.b, nic: NIC2Device}
	if l.server, err = l.capture(l.network.Server, one.nic, one.segment.device, two.nic, two.segment.device); err != nil {
		return err
	}
	own, err := l.reachOwn(ctx, one, two)
	if err != nil {
		return err
	}
	l.section(ownSection(own))
	if err := l.reachOther(ctx, one, two); err != nil {
		return err
	}
	if err := l.reachOther(ctx, two, one); err != nil {
		return err
	}
	return l.save(l.server, "fig19")
}

// addLAN gives the server its second NIC, once.
func (l *lab) addLAN() (err error) {
	if l.second == nil {
		l.second, err = l.network.AddLAN(false)
	}
	return err
}

// reachOwn has each network get its page and ping, and each segment ping its
// gateway.
func (l *lab) reachOwn(ctx context.Context, networks ...network19) (attempts []attempt, err error) {
	all := fmt.Sprintf("%d of %d echoes", l.opts.Pings, l.opts.Pings)
	for _, n := range networks {
		l.report.Progress("%s reaches its segment", n.pcName)
		attempts = append(attempts, attempt{n.pcName + ": " + urlOf(n.pseudo), n.segment.pageTitle, titleOf(ctx, n.pc, n.pseudo)})
		pings := []struct {
			what       string
			from       *netlab.Host
			source, to netip.Addr
		}{
			{n.pcName + ": ping " + n.pseudo.String(), n.pc, netip.Addr{}, n.pseudo},
			{n.segment.pageTitle + ": ping its router, " + n.segment.gateway.String(), l.network.Server, n.segment.vnic, n.segment.gateway},
		}
		for _, p := range pings {
			ping, err := p.from.Ping(ctx, p.to, netlab.PingOptions{Source: p.source, Count: l.opts.Pings, Interval: l.opts.Interval})
			if err != nil {
				return nil, err
			}
			attempts = append(attempts, attempt{p.what, all, fmt.Sprintf("%d of %d echoes", len(ping.Replies), ping.Sent)})
		}
	}
	return attempts, nil
}

// reachOther tries to reach the other network: from the PC, whose router sends
// what is for the other's addresses to the server, and from the segment.
func (l *lab) reachOther(ctx context.Context, from, to network19) error {
	before, err := l.packetsOn(to)
	if err != nil {
		return err
	}
	var attempts []attempt
	for _, target := range []netip.Addr{to.pseudo, to.segment.vnic} {
		l.report.Progress("%s tries %s", from.pcName, target)
		if err := from.router.RouteBy(target, from.pseudo); err != nil {
			return err
		}
		echo, err := pingOnce(ctx, from.pc, netip.Addr{}, target)
		if err != nil {
			return err
		}
		attempts = append(attempts,
			attempt{from.pcName + ": " + urlOf(target), noAnswer, titleOf(ctx, from.pc, target)},
			attempt{fmt.Sprintf("%s: ping %s", from.pcName, target), noAnswer, echo})
	}
	echo, err := pingOnce(ctx, l.network.Server, from.segment.vnic, to.segment.gateway)
	if err != nil {
		return err
	}
	attempts = append(attempts, attempt{fmt.Sprintf("%s: ping the other's router, %s", from.segment.pageTitle, to.segment.gateway), noAnswer, echo})
	after, err := l.packetsOn(to)
	if err != nil {
		return err
	}
	title := fmt.Sprintf("%s and %s reach nothing of the other network", from.pcName, from.segment.pageTitle)
	l.section(otherSection(title, attempts, after-before))
	return nil
}

// packetsOn counts the IP packets that were sent to a network or to its segment.
func (l *lab) packetsOn(n network19) (count int, err error) {
	frames, err := l.server.Frames()
	if err != nil {
		return 0, fmt.Errorf("lab: capture: %w", err)
	}
	for _, f := range frames {
		device := l.server.Devices()[f.Interface]
		sent := device == n.nic && f.Outgoing || device == n.segment.device && !f.Outgoing
		if sent && isPacket(f) {
			count++
		}
	}
	return count, nil
}

// titleOf is the title of the page that a host gets from an address. titleOf connects
// once before it asks, because an http.Transport goes on dialing after its timeout.
func titleOf(ctx context.Context, from *netlab.Host, address netip.Addr) string {
	dialing, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	conn, err := from.DialContext(dialing, "tcp", netip.AddrPortFrom(address, 80).String())
	if os.IsTimeout(err) {
		return noAnswer
	}
	var page page
	if err == nil {
		conn.Close()
		page, err = getPage(ctx, from, address)
	}
	if err != nil {
		return err.Error()
	}
	return page.title
}

func pingOnce(ctx context.Context, from *netlab.Host, source, to netip.Addr) (string, error) {
	ping, err := from.Ping(ctx, to, netlab.PingOptions{Source: source, Timeout: silence})
	if err != nil {
		return "", err
	}
	if len(ping.Replies) > 0 {
		return "an echo from " + ping.Replies[0].From.String(), nil
	}
	return noAnswer, nil
}
