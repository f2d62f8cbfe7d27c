package vnicbridge

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Row A5: under one secret clients get the same aliases and segments at every start, and
// others under another one. A plane asks for its secret when it starts, not at a reload.
func TestHashKey(t *testing.T) {
	cfg := paperConfig()
	cfg.Bridges["lan"].LBPolicy.Policy = config.PolicyIPHash
	bubble(t, func(t *testing.T) {
		asked := 0
		start := func(secret func() ([16]byte, error)) (r *rig, logged *bytes.Buffer) {
			r, logged = newEmptyRig(t), new(bytes.Buffer)
			r.plane.log = slog.New(slog.NewTextHandler(logged, nil))
			if secret != nil {
				r.plane.secret = func() ([16]byte, error) { asked++; return secret() }
			}
			for range 2 { // a start and a reload
				if err := r.plane.Apply(cfg); err != nil {
					t.Fatal(err)
				}
			}
			r.settle()
			return r, logged
		}
		chosen := func(secret func() ([16]byte, error)) (choices []string, log string) {
			r, logged := start(secret)
			defer r.plane.Close()
			for i := range 20 {
				r.put("nic0", fromRouter(fmt.Sprintf("203.0.113.%d", i+1), uint16(5000+i), 80).tcp("S", ""))
				for _, vnic := range []string{"vnic-A", "vnic-B"} {
					for _, frame := range r.got(vnic) {
						choices = append(choices, vnic+" "+decode(frame).src)
					}
				}
			}
			return choices, logged.String()
		}
		const warning = "which every user of this machine can read"
		secret := func(b byte) func() ([16]byte, error) { return func() ([16]byte, error) { return [16]byte{3: b}, nil } }
		first, log := chosen(secret(1))
		if len(first) != 20 || strings.Contains(log, warning) {
			t.Errorf("the choices are %q, logged is %s", first, log)
		}
		if again, _ := chosen(secret(1)); !slices.Equal(again, first) {
			t.Errorf("the choices were %q, and are %q at the next start", first, again)
		}
		if other, _ := chosen(secret(2)); slices.Equal(other, first) {
			t.Error("the choices do not depend on the secret")
		}
		if asked != 3 {
			t.Errorf("three starts and three reloads have asked for the secret %d times", asked)
		}
		failed, log := chosen(func() ([16]byte, error) { return [16]byte{}, errors.New("no storage") })
		if !strings.Contains(log, warning) || !strings.Contains(log, "no storage") {
			t.Errorf("without a secret, logged is %s", log)
		}
		if bare, _ := chosen(nil); !slices.Equal(bare, failed) {
			t.Errorf("without a secret the choices are %q, and then %q", failed, bare)
		}
	})
}
