package kernel

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
)

// raiseInterval is the shortest time before a program of ours is put first again, because
// another program may do the same and must not be fought. If somebody removed our program, it
// is put back after putBackInterval.
const (
	raiseInterval   = time.Minute
	putBackInterval = time.Second
)

// keptFirst is the state of keeping a program before those of others.
type keptFirst struct {
	mu lockorder.Mutex[lockorder.ProgramRank]

	raised time.Time
	behind []string // the programs of others that still run before it
}

// KeepFirst puts the program before those of others, if any run before it. On a segment's TAP
// it does nothing, because packets that other programs let pass reach the forwarder there. If
// the device is gone, the iface's reader reports that.
func (h *linuxHook) KeepFirst(log *slog.Logger) {
	if h.slowPath == nil {
		return
	}
	h.first.mu.Lock()
	defer h.first.mu.Unlock()
	ahead, stands, err := h.program.ahead()
	if err != nil {
		return
	}
	since := time.Since(h.first.raised)
	if len(ahead) > 0 && since >= raiseInterval || !stands && since >= putBackInterval {
		h.first.raised = time.Now()
		if err = h.program.raise(); err == nil {
			log.Info("others changed the programs on a device: the bridge's is put first again", "device", h.name, "before", ahead)
			ahead, _, err = h.program.ahead()
		}
	}
	if err != nil && !host.IsGone(err) {
		log.Error("keeping the bridge's program before those of others", "device", h.name, "error", err)
	}
	if !slices.Equal(ahead, h.first.behind) {
		h.first.behind = ahead
		h.places.Machine.Hint() // so that the plane reports it
	}
}

// ProgramsAhead reports programs of others that run before ours although ours should be
// first: what may come of each, and the fix.
func (s *Places) ProgramsAhead() (told []string) {
	s.hooks.Range(func(key, _ any) bool {
		h := key.(*linuxHook)
		h.first.mu.Lock()
		defer h.first.mu.Unlock()
		for _, other := range h.first.behind {
			told = append(told, fmt.Sprintf("device %s: %s comes before the bridge's program: what it does not let go on is lost to the segments; take it away, or let it end with TC_ACT_UNSPEC (-1)",
				h.name, other))
		}
		return true
	})
	return told
}
