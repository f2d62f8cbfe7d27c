package kernel

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
)

// raiseInterval is the shortest time between two times that a program of ours is put before
// those of others again: another program that does the same is not to be fought. If
// somebody took our program away, it is put back sooner.
const (
	raiseInterval   = time.Minute
	putBackInterval = time.Second
)

// keptFirst is what is known of a program's place among those of others.
type keptFirst struct {
	mu lockorder.Mutex[lockorder.ProgramRank]

	raised time.Time
	behind []string // the programs of others that it stays behind
}

// KeepFirst puts the program before those of others, if any have come before it. On a
// segment's TAP there is no need: the forwarder is behind the programs of all. If the
// device is gone, the iface's reader reports that.
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
		h.places.Machine.Hint() // to tell
	}
}

// ProgramsAhead tells of programs of others that stay before ours: what may come of each,
// and the fix.
func (s *Places) ProgramsAhead() (told []string) {
	s.hooks.Range(func(key, _ any) bool {
		h := key.(*linuxHook)
		h.first.mu.Lock()
		defer h.first.mu.Unlock()
		for _, other := range h.first.behind {
			told = append(told, fmt.Sprintf("device %s: %s comes before the bridge's program: what it does not let go on is lost to the segments; take it away, or let it end with TC_ACT_UNSPEC (-1)", h.name, other))
		}
		return true
	})
	return told
}
