package integration_test

import (
	"os/exec"
	"testing"
)

// TestAlerts has Prometheus's own tool check the alerts of packaging/, and run their tests.
func TestAlerts(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"check", "rules", "../packaging/prometheus/caddy-vnic.rules.yml"},
		{"test", "rules", "../packaging/prometheus/caddy-vnic.test.yml"},
	} {
		if said, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, said)
		}
	}
}
