package integration

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// procRoutes is /proc/net/route of the paper's server, on this byte order.
func procRoutes(lines ...[]any) string {
	table := "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	for _, l := range lines {
		table += fmt.Sprintf("%s\t%08X\t%08X\t%04X\t0\t0\t%d\t%08X\t0\t0\t0\n", l...)
	}
	return table
}

func word(a, b, c, d byte) uint32 { return binary.NativeEndian.Uint32([]byte{a, b, c, d}) }

func TestParseRoutes(t *testing.T) {
	mask := word(255, 255, 255, 0)
	routes, err := ParseRoutes(strings.NewReader(procRoutes(
		[]any{"vnic-A", word(192, 168, 50, 0), word(192, 168, 50, 1), 3, 0, mask},
		[]any{"vnic-A", word(192, 168, 50, 0), 0, 1, 0, mask},
		[]any{"vnic-B", word(192, 168, 60, 0), word(192, 168, 60, 1), 3, 0, mask},
		[]any{"vnic-B", word(192, 168, 60, 0), 0, 1, 0, mask},
	)))
	if err != nil {
		t.Fatal(err)
	}
	if differ := routesSection(routes).differing(); len(differ) > 0 || len(routes) != 4 {
		t.Errorf("not the table of Fig-4: %v", differ)
	}
}

func TestParseRoutesOther(t *testing.T) {
	routes, err := ParseRoutes(strings.NewReader(procRoutes(
		[]any{"eth0", word(10, 0, 0, 1), word(10, 0, 0, 2), 7, 100, word(255, 255, 255, 255)},
	)))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := routes[0].String(), "10.0.0.1/32 10.0.0.2     UGH 100 eth0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if s := routesSection(routes); len(s.differing()) != len(paperRoutes) {
		t.Errorf("a foreign table passes for Fig-4: %v", s.Checks)
	}
}

func TestParseRoutesErrors(t *testing.T) {
	for _, line := range []string{"eth0 00000000", "eth0 zz 0 1 0 0 0 0", "eth0 0 0 zz 0 0 0 0", "eth0 0 zz 1 0 0 0 0", "eth0 0 0 1 0 0 0 zz", "eth0 0 0 1 0 0 zz 0"} {
		if _, err := ParseRoutes(strings.NewReader("Iface\n" + line + "\n")); err == nil || !strings.Contains(err.Error(), line) {
			t.Errorf("%q: %v", line, err)
		}
	}
}
