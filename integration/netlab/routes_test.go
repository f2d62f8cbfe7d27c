package netlab

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// procRoutes is a /proc/net/route in this machine's byte order.
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
	var got []string
	for _, r := range routes {
		got = append(got, r.String())
	}
	want := []string{
		"192.168.50.0/24 192.168.50.1 UG 0 vnic-A",
		"192.168.50.0/24 0.0.0.0      U  0 vnic-A",
		"192.168.60.0/24 192.168.60.1 UG 0 vnic-B",
		"192.168.60.0/24 0.0.0.0      U  0 vnic-B",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseRoutesOther(t *testing.T) {
	routes, err := ParseRoutes(strings.NewReader(procRoutes(
		[]any{"eth0", word(10, 0, 0, 1), word(10, 0, 0, 2), 7, 100, word(255, 255, 255, 255)},
	)))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := routes[0].String(), "10.0.0.1/32     10.0.0.2     UGH 100 eth0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseRoutesErrors(t *testing.T) {
	for _, line := range []string{"eth0 00000000", "eth0 zz 0 1 0 0 0 0", "eth0 0 0 zz 0 0 0 0", "eth0 0 zz 1 0 0 0 0", "eth0 0 0 1 0 0 0 zz", "eth0 0 0 1 0 0 zz 0"} {
		if _, err := ParseRoutes(strings.NewReader("Iface\n" + line + "\n")); err == nil || !strings.Contains(err.Error(), line) {
			t.Errorf("%q: %v", line, err)
		}
	}
}
