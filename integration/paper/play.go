package paper

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Options say how [Play] plays the paper. Zero values take the defaults.
type Options struct {
	Output   io.Writer     // where the report goes
	Pings    int           // echo requests of each ping; default 10
	Interval time.Duration // between them; default 100 ms
	Captures string        // the directory for captures, the Caddyfile and Caddy's log; default lab-captures
	Only     []string      // the figures that are played, of [Figures]; none: all, over both families
	Pause    io.Reader     // each section waits for a line of it; nil: none waits
	Keep     string        // leave one of [Networks] up after the report, until the context ends
	Example  string        // the Caddyfile of Fig-18: the repository's Caddyfile.example
}

// DefaultCaptures is the directory for captures if none is given.
const DefaultCaptures = "lab-captures"

// Errors of Play.
var (
	// ErrDiffers says that the lab ran to its end and that a result is not the paper's.
	ErrDiffers = errors.New("the lab's results differ from the paper's")
	// ErrReported says that the lab failed in its user namespace, and that the process
	// there has printed the reason.
	ErrReported = errors.New("the lab failed in its user namespace")
)

func (o Options) withDefaults() Options {
	if o.Output == nil {
		o.Output = io.Discard
	}
	if o.Pings <= 0 {
		o.Pings = 10
	}
	if o.Interval <= 0 {
		o.Interval = 100 * time.Millisecond
	}
	if o.Captures == "" {
		o.Captures = DefaultCaptures
	}
	return o
}

// caddyfile is the configuration with which the lab starts.
//
//go:embed Caddyfile
var caddyfile string

const (
	answerA = "lb_policy first a b"
	answerB = "lb_policy first b a"
)

// withPolicy is the Caddyfile with another line for the policy, the only line that the
// lab edits before a reload.
func withPolicy(line string) string {
	return strings.Replace(caddyfile, answerA, line, 1)
}

// Figures are the figures and sections of the paper that the lab can play alone.
func Figures() []string {
	return []string{"fig4", "fig10", "fig11", "fig12", "fig13", "fig14", "fig15", "fig16", "fig17", "fig18", "fig19", "III-C", "III-D"}
}

// Networks are the networks that the lab can leave up.
func Networks() []string { return []string{"paper", "fig18", "fig19", "names"} }

// Hosts are the hosts of a network that is left up.
func Hosts() []string { return []string{"pc1", "router", "server", "pc2", "router2"} }

// check returns an error if the options name what the lab does not have.
func (o Options) check() error {
	for _, figure := range o.Only {
		if !slices.ContainsFunc(Figures(), func(f string) bool { return sameFigure(f, figure) }) {
			return fmt.Errorf("--only %s: want one of %s", figure, strings.Join(Figures(), ", "))
		}
	}
	if o.Keep != "" && !slices.Contains(Networks(), o.Keep) {
		return fmt.Errorf("--keep %s: want one of %s", o.Keep, strings.Join(Networks(), ", "))
	}
	return nil
}

// wants tells whether one of these figures is to be played.
func (o Options) wants(figures ...string) bool {
	return len(o.Only) == 0 || slices.ContainsFunc(figures, func(figure string) bool {
		return slices.ContainsFunc(o.Only, func(wanted string) bool { return sameFigure(figure, wanted) })
	})
}

// sameFigure compares "Fig-12" with "fig12".
func sameFigure(a, b string) bool {
	plain := strings.NewReplacer("-", "")
	return strings.EqualFold(plain.Replace(a), plain.Replace(b))
}

// pictureIPv6 is the network of all experiments in IPv6, and fits reportWidth.
const pictureIPv6 = `
 PC1                  router                        server, 2001:db8:1::2
┌────────────────┐   ┌─────────────────────────┐   ┌───────────────────────────┐
│ 2001:db8:10::2 ├───┤ 2001:db8:10::1  fe80::1 ├───┤ nic0 ┬ vnic-A fd00:50::1  │
└────────────────┘   └─────────────────────────┘   │      ├ vnic-B fd00:60::1  │
 PC2                  router2                      │      └ vnic-F fd00:40::1  │
┌────────────────┐   ┌─────────────────────────┐   │                           │
│ 2001:db8:20::2 ├───┤ 2001:db8:20::1  fe80::1 ├───┤ 2001:db8:2::2             │
└────────────────┘   └─────────────────────────┘   │ nic1                      │
                                                   └───────────────────────────┘

The same experiments with IPv6 addresses in the same Caddyfiles.
The routers do not translate.`

// picture is the network, and fits reportWidth.
const picture = `
 PC1                router                          server, 192.168.1.2
┌──────────────┐   ┌───────────────────────────┐   ┌───────────────────────────┐
│ 192.168.10.2 ├───┤ 192.168.10.1  192.168.1.1 ├───┤ nic0 ┬ vnic-A 192.168.50.1│
└──────────────┘   └───────────────────────────┘   │      └ vnic-B 192.168.60.1│
                                                   └───────────────────────────┘`
