package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// MaxLimit is the highest number of flows, and of new flows a second, to which a segment can be
// limited.
const MaxLimit = 1_000_000_000

// Bounds of a limit of rates.
const (
	MinRate  = 8_000             // bits a second
	MaxRate  = 1_000_000_000_000 // bits a second
	MaxBurst = 1 << 30           // bytes
)

// usualBurst is the time of whose packets a burst consists if Burst is 0.
const usualBurst = 50 * time.Millisecond

// Limits bound what a segment takes of what all segments share, both families together. 0 means
// no limit. What is beyond a limit is dropped without an answer, so that who tries again later
// succeeds.
type Limits struct {
	// How many flows the segment has at once. If it has that many, the oldest of its flows
	// that came to nothing makes room for a new one: a half-open or closing connection, or
	// another flow that has been idle for 5 s.
	Flows int `json:"flows,omitempty"`

	// How many of the segment's flows one client has at once: one address, or in IPv6 one /64,
	// which is what one customer or one host has. Flows that the segment opens itself, and
	// those of segments that may reach it, do not count.
	FlowsPerClient int `json:"flows_per_client,omitempty"`

	// How many flows of the segment begin in a second. After a pause, those of a second may
	// begin at once.
	New int `json:"new,omitempty"`

	// How many bits a second go out of the segment, and as many into it: those of IP packets
	// (RFC 2697). Packets beyond it wait until the rate allows them. Those that would wait for
	// more than 100 ms are dropped.
	Rate int64 `json:"rate,omitempty"`

	// How many bytes may go at once after a pause, if Rate is set. Default: those of 50 ms.
	Burst int64 `json:"burst,omitempty"`
}

// BurstTime returns the burst as the time that the rate takes for it.
func (l Limits) BurstTime() time.Duration {
	if l.Burst == 0 || l.Rate == 0 {
		return usualBurst
	}
	return time.Duration(float64(l.Burst) * 8 / float64(l.Rate) * float64(time.Second))
}

// String returns the limits as in the Caddyfile, without the word limit.
func (l Limits) String() string {
	var limits []string
	if l.Rate > 0 {
		limits = append(limits, "rate "+l.rate())
	}
	for _, limit := range l.each() {
		if limit.n > 0 {
			limits = append(limits, fmt.Sprintf("%s %d%s", limit.name, limit.n, limit.unit))
		}
	}
	return strings.Join(limits, ", ")
}

// rate returns the limit of rates as in the Caddyfile.
func (l Limits) rate() string {
	rate := strings.Replace(humanize.SI(float64(l.Rate), "bit/s"), " ", "", 1)
	if l.Burst > 0 {
		rate += " " + strings.Replace(humanize.IBytes(uint64(l.Burst)), " ", "", 1)
	}
	return rate
}

// namedLimit is one of the limits.
type namedLimit struct {
	name string
	n    int
	unit string
}

func (l Limits) each() []namedLimit {
	return []namedLimit{{"flows", l.Flows, ""}, {"flows_per_client", l.FlowsPerClient, ""}, {"new", l.New, "/s"}}
}

func (l Limits) validate() error {
	if l.Rate != 0 && (l.Rate < MinRate || l.Rate > MaxRate) {
		return fmt.Errorf("limit rate %d: want %d to %d bits a second", l.Rate, MinRate, MaxRate)
	}
	if l.Burst < 0 || l.Burst > MaxBurst {
		return fmt.Errorf("limit rate: a burst of %d bytes: want at most %d", l.Burst, MaxBurst)
	}
	if l.Burst != 0 && l.Rate == 0 {
		return errors.New("a burst without a rate: set the rate, too")
	}
	for _, limit := range l.each() {
		if limit.n < 0 || limit.n > MaxLimit {
			return fmt.Errorf("limit %s %d: want 1 to %d", limit.name, limit.n, MaxLimit)
		}
	}
	return nil
}
