package paper

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// labName begins the names of the lab's namespaces, as in vniclab-pc1.
const labName = "vniclab"

// Play builds the paper's network, plays section IV, Fig-19 and Fig-18 of the paper in
// it with this program as Caddy, and reports each result beside the paper's. Then Play
// plays them once more over IPv6. If a result differs from what is expected, Play returns
// ErrDiffers. At the end Play removes the network.
//
// If this process may not make network namespaces, Play runs this program again with
// the same arguments in a user namespace.
func Play(ctx context.Context, opts Options) error {
	if err := opts.check(); err != nil {
		return err
	}
	if err := checkTUN(); err != nil {
		return err
	}
	if !privileged() {
		return runInUserNamespace(ctx)
	}
	opts = opts.withDefaults()
	if err := os.MkdirAll(opts.Captures, 0o755); err != nil {
		return fmt.Errorf("lab: %w (choose another directory with --captures)", err)
	}
	if insideUserNamespace() {
		if err := hideRun(); err != nil {
			return err
		}
	}
	network, err := NewNetwork(labName, NetworkOptions{NAT: true, IPv6: true})
	if err != nil {
		return err
	}
	l := &lab{family: familyIPv4, opts: opts, network: network, report: NewReport(opts.Output)}
	if opts.Pause != nil {
		l.lines, l.interrupted = linesOf(opts.Pause), ctx.Done()
	}
	err = l.run(ctx)
	if errors.Is(err, context.Canceled) {
		err = errors.New("lab: interrupted")
	}
	return errors.Join(err, l.close())
}

// lab is one run of the experiments.
type lab struct {
	*family  // the one in play
	opts     Options
	report   *Report
	network  *Network
	state    string // Caddy's own files, removed at the end
	caddy    *netlab.Caddy
	captures []*netlab.Capture
	second   *SecondLAN      // nil before Fig-19
	server   *netlab.Capture // of the experiment under way: nic0, vnic-A and vnic-B, as the paper numbers them, and more
	router   *netlab.Capture // the router's side of the link to the server

	lines       <-chan struct{} // each lets a section go on; nil: none waits
	interrupted <-chan struct{}
}

// linesOf signals each line that a reader has, and is closed at its end.
func linesOf(r io.Reader) <-chan struct{} {
	lines := make(chan struct{})
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			lines <- struct{}{}
		}
	}()
	return lines
}

func (l *lab) run(ctx context.Context) error {
	l.report.Text("caddy vnic lab: the paper's section IV, Fig-19 and Fig-18, in namespaces")
	if err := l.start(ctx); err != nil {
		return err
	}
	if err := l.playSection4(ctx); err != nil {
		return err
	}
	if err := l.playFigures(ctx); err != nil {
		return err
	}
	if len(l.opts.Only) == 0 {
		if err := l.playIPv6(ctx); err != nil {
			return err
		}
	}
	return l.finish(ctx)
}

// playSection4 plays section IV with both kinds of router. Single figures need the paper's only,
// which translates.
func (l *lab) playSection4(ctx context.Context) error {
	if l.opts.wants(section4...) {
		l.report.Text(picture)
		l.report.Text("\nThe server's Caddyfile:\n\n" + indent(caddyfile))
		l.report.Part("The router translates addresses (NAT): the server sees the router")
		if err := l.play(ctx, RouterAddr); err != nil {
			return err
		}
	}
	if err := l.network.Router.StopMasquerade(); err != nil || len(l.opts.Only) > 0 {
		return err
	}
	if err := l.reload(ctx, answerA); err != nil {
		return err
	}
	l.report.Part("The router only routes: the server sees PC1 itself")
	return l.play(ctx, PC1Addr)
}

// playIPv6 plays all experiments once more with IPv6 addresses, with the router that only
// routes.
func (l *lab) playIPv6(ctx context.Context) error {
	l.report.Part("Beyond the paper: IPv6")
	l.report.Text(pictureIPv6)
	l.family = familyIPv6
	if err := l.reload(ctx, answerA); err != nil {
		return err
	}
	if err := l.captureSection4(); err != nil {
		return err
	}
	if err := l.play(ctx, l.pc1); err != nil {
		return err
	}
	return l.playFigures(ctx)
}

// playFigures saves the captures of section IV, then plays Fig-19 and Fig-18, the latter in the
// bridge first.
func (l *lab) playFigures(ctx context.Context) error {
	if err := errors.Join(l.save(l.server, "server"), l.save(l.router, "router")); err != nil {
		return err
	}
	if l.opts.wants("fig19") {
		if err := l.playFig19(ctx); err != nil {
			return err
		}
	}
	if !l.opts.wants("fig18") {
		return nil
	}
	if err := l.playNames(ctx); err != nil {
		return err
	}
	return l.playFig18(ctx)
}

// part begins a part of the report, with a Caddyfile. Beyond the paper there is one part for
// all, and the Caddyfiles differ by their addresses only.
func (l *lab) part(title, picture, caption, caddyfile string) {
	if l.beyond {
		return
	}
	l.report.Part(title)
	l.report.Text(picture)
	l.report.Text("\n" + caption + ":\n\n" + indent(caddyfile))
}

// section reports a section that is wanted, and waits until its reader goes on. The paper has no
// results over IPv6, so there the section has those that are expected.
func (l *lab) section(s Section) {
	if !l.opts.wants(s.Figure) {
		return
	}
	if l.beyond {
		s.Expected = "expected"
	}
	l.report.Section(s)
	if l.lines == nil {
		return
	}
	l.report.Prompt("Enter: go on")
	select {
	case <-l.lines: // closed at the end of the input: then nothing waits any more
	case <-l.interrupted:
	}
}

// start starts Caddy and the captures.
func (l *lab) start(ctx context.Context) (err error) {
	if l.state, err = os.MkdirTemp("", "caddy-vnic-lab"); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if err := errors.Join(l.writeCaddyfiles(), l.writeCaddyfile(caddyfile), l.writePages()); err != nil {
		return err
	}
	l.report.Progress("starting Caddy")
	l.caddy, err = l.network.Server.StartCaddy(ctx, netlab.CaddyOptions{
		Config: l.path("Caddyfile"), Log: l.path("caddy.log"), State: l.state,
	})
	if err != nil {
		return err
	}
	return l.captureSection4()
}

// captureSection4 captures anew, because a reload with another family makes the VNICs anew.
func (l *lab) captureSection4() (err error) {
	if l.server, err = l.capture(l.network.Server, NICDevice, segmentA.device, segmentB.device); err != nil {
		return err
	}
	l.router, err = l.capture(l.network.Router, RouterWANDevice)
	return err
}

// capture captures on a host's devices until the lab ends, or until a reload makes one of
// them anew.
func (l *lab) capture(host *netlab.Host, devices ...string) (*netlab.Capture, error) {
	c, err := host.Capture(devices...)
	if err != nil {
		return nil, err
	}
	l.captures = append(l.captures, c)
	return c, nil
}

// section4 are the figures of section IV.
var section4 = []string{"Fig-4", "Fig-10", "Fig-11", "Fig-12", "Fig-13", "Fig-14", "Fig-15", "Fig-16", "Fig-17", "III-C", "III-D"}

// step is a part of section IV, with the figures that it shows.
type step struct {
	play    func() error
	figures []string
}

// play plays section IV once, for the client that the server's NIC sees, up to the last figure
// that is wanted.
func (l *lab) play(ctx context.Context, client netip.Addr) error {
	steps := []step{
		{func() error { return l.playPing(ctx, l.a) }, []string{"Fig-10"}},
		{func() error { return l.playFrames(client) }, []string{"Fig-12", "Fig-13", "Fig-14", "Fig-15"}},
		{func() error { return l.playPage(ctx, l.a, client) }, []string{"Fig-16"}},
		{func() error { return l.playReload(ctx) }, []string{"III-D"}},
		{func() error { return l.playPing(ctx, l.b) }, []string{"Fig-11"}},
		{func() error { return l.playPage(ctx, l.b, client) }, []string{"Fig-17"}},
	}
	if client != PC1Addr { // IPv4 has a second time, which repeats neither routes nor egress
		steps = slices.Insert(steps, 0, step{l.playRoutes, []string{"Fig-4"}})
		steps = append(steps, step{func() error { return l.playEgress(ctx) }, []string{"III-C"}})
	}
	steps = append(steps, step{l.playNeighbours, []string{"III-C"}})
	last := 0
	for i, s := range steps {
		if l.opts.wants(s.figures...) {
			last = i
		}
	}
	for _, s := range steps[:last+1] {
		if err := s.play(); err != nil {
			return err
		}
	}
	return nil
}

// finish sums up, and keeps a network up where wished.
func (l *lab) finish(ctx context.Context) error {
	checked, differing := l.report.Summary()
	verdict := fmt.Sprintf("\nAll %d checks agree with the paper.", checked)
	if len(l.opts.Only) == 0 {
		verdict += "\nThose of IPv6 are the paper's with other addresses."
	}
	if differing > 0 {
		verdict = fmt.Sprintf("\n%d of %d checks differ from the paper. Caddy's log ends so:\n\n%s", differing, checked, indent(l.caddy.Log(20)))
	}
	l.report.Text(verdict)
	l.report.Text("\nKept in " + l.opts.Captures + ":")
	for _, k := range kept {
		if found, _ := filepath.Glob(l.path(k.files)); len(found) > 0 {
			l.report.Text("  " + pad(k.files, 14) + " " + k.what)
		}
	}
	if l.opts.Keep != "" {
		if err := l.keep(ctx); err != nil {
			return err
		}
	}
	if differing > 0 {
		return ErrDiffers
	}
	return nil
}

// kept are the files that a lab leaves.
var kept = []struct{ files, what string }{
	{"server.pcapng", "nic0 (interface 0), vnic-A (1) and vnic-B (2), for Wireshark"},
	{"router.pcapng", "the same link seen from the router"},
	{"fig19.pcapng", "nic0 (0), vnic-A (1), nic1 (2), vnic-B (3): two networks"},
	{"fig18.pcapng", "nic0 (0), vnic-A (1), vnic-B (2), vnic-F (3): a front"},
	{"*-ipv6.pcapng", "the same over IPv6"},
	{"Caddyfile.*", "the configurations of the experiments"},
	{"Caddyfile", "the last that was in force"},
	{"caddy.log", "Caddy's log"},
}

func (l *lab) reload(ctx context.Context, policy string) error {
	l.report.Progress("reloading with %s", policy)
	return l.reloadWith(ctx, l.addresses.Replace(withPolicy(policy)))
}

func (l *lab) reloadWith(ctx context.Context, config string) error {
	if err := l.writeCaddyfile(config); err != nil {
		return err
	}
	return l.caddy.Reload(ctx)
}

func (l *lab) writeCaddyfile(config string) error {
	if err := os.WriteFile(l.path("Caddyfile"), []byte(config), 0o644); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// writeCaddyfiles writes the configurations of the networks, by name, so that they can be loaded
// as they are.
func (l *lab) writeCaddyfiles() error {
	for _, network := range Networks() {
		if err := os.WriteFile(l.path("Caddyfile."+network), []byte(l.config(network)), 0o644); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
	}
	return nil
}

// config is the configuration of a network, over IPv4.
func (l *lab) config(network string) string {
	switch network {
	case "fig18":
		return l.exampleHere()
	case "fig19":
		return caddyfileFig19
	case "names":
		return caddyfileNames
	}
	return caddyfile
}

func (l *lab) path(name string) string { return filepath.Join(l.opts.Captures, name) }

// save writes a capture to a file that is named after an experiment and the family.
func (l *lab) save(c *netlab.Capture, experiment string) error {
	return c.Save(l.path(experiment + l.suffix + ".pcapng"))
}

func (l *lab) close() error {
	var errs []error
	for _, c := range l.captures {
		errs = append(errs, c.Close())
	}
	errs = append(errs, l.network.Close())
	if l.state != "" {
		errs = append(errs, os.RemoveAll(l.state))
	}
	return errors.Join(errs...)
}
