package checkup

import (
	"fmt"
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Severity says how much a [Finding] matters.
type Severity string

// The severities.
const (
	SeverityError   Severity = "error"   // the configuration cannot be put in force
	SeverityWarning Severity = "warning" // something will not work as expected
	SeverityNote    Severity = "note"    // as it should be, but worth knowing
)

// Finding is a fact about this machine that its administrator should know.
type Finding struct {
	Severity Severity `json:"severity"`
	Message  string   `json:"message"` // what it is about, what is wrong, and the fix
}

// Options are what [Run] cannot find out by itself.
type Options struct {
	// Own are the VNICs of an instance that runs already.
	Own []string
	// Listen are the ports that servers of this program will open, by segment.
	Listen map[string][]config.PortRange
	// Sites are what these servers serve by host name.
	Sites []config.Site
	// Session is the address of this host that the administrator is connected
	// to, if any.
	Session netip.Addr
}

// Run reports what this machine lacks for a configuration, and what may surprise its
// administrator. It changes nothing. Without privileges it works, but sees less. The
// configuration must be valid; it may be empty.
func Run(cfg *config.Config, opts Options) []Finding {
	c := &checkup{cfg: cfg, opts: opts, own: make(map[string]bool)}
	for _, device := range opts.Own {
		c.own[device] = true
	}
	c.run()
	c.otherMachines()
	for _, finding := range cfg.Unserved(opts.Listen, opts.Sites) {
		c.warn("%s", finding)
	}
	return c.findings
}

// checkup is one call of Run.
type checkup struct {
	cfg      *config.Config
	opts     Options
	own      map[string]bool
	findings []Finding
}

func (c *checkup) error(err error) {
	c.findings = append(c.findings, Finding{SeverityError, err.Error()})
}

func (c *checkup) warn(format string, args ...any) {
	c.findings = append(c.findings, Finding{SeverityWarning, fmt.Sprintf(format, args...)})
}

func (c *checkup) note(format string, args ...any) {
	c.findings = append(c.findings, Finding{SeverityNote, fmt.Sprintf(format, args...)})
}
