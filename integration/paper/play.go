package paper

import (
	_ "embed"
	"errors"
	"io"
	"strings"
	"time"
)

// Options say how [Play] plays the paper. Zero values take the defaults.
type Options struct {
	Output   io.Writer     // where the report goes
	Pings    int           // echo requests of each ping; default 10
	Interval time.Duration // between them; default 100 ms
	Captures string        // the directory for captures, the Caddyfile and Caddy's log; default lab-captures
	Keep     bool          // leave the network up after the report, until the context ends
	Example  string        // the Caddyfile of Fig-18: the repository's Caddyfile.example
}

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
		o.Captures = "lab-captures"
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

// pictureIPv6 is the network of all experiments in IPv6, and fits reportWidth.
const pictureIPv6 = `
   PC1                     router                           server
  ┌────────────────┐     ┌──────────────────────────┐     ┌────────────────────────────────────┐
  │ 2001:db8:10::2 ├─────┤ 2001:db8:10::1   fe80::1 ├─────┤ nic0 ─┬─ vnic-A fd00:50::1 web A   │
  └────────────────┘     └──────────────────────────┘     │       ├─ vnic-B fd00:60::1 web B   │
                                    answers 2001:db8:1::2 │       └─ vnic-F fd00:40::1 front   │
   PC2                     router2                        │                                    │
  ┌────────────────┐     ┌──────────────────────────┐     │ answers 2001:db8:2::2              │
  │ 2001:db8:20::2 ├─────┤ 2001:db8:20::1   fe80::1 ├─────┤ nic1                               │
  └────────────────┘     └──────────────────────────┘     └────────────────────────────────────┘

The same experiments with IPv6 addresses in the same Caddyfiles. The routers do not translate.`

// picture is the network, and fits reportWidth.
const picture = `
   PC1                  router                            server
  ┌──────────────┐     ┌────────────────────────────┐     ┌────────────────────────────────────┐
  │ 192.168.10.2 ├─────┤ 192.168.10.1   192.168.1.1 ├─────┤ nic0 ─┬─ vnic-A 192.168.50.1 web A │
  └──────────────┘     └────────────────────────────┘     │       └─ vnic-B 192.168.60.1 web B │
                                      answers 192.168.1.2 └────────────────────────────────────┘`
