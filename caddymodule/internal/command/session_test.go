package command

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestSession checks that the session is found under sudo too. sudo removes the variable, but
// a parent process still has it; here the parent is this process.
func TestSession(t *testing.T) {
	const printSession = "CADDY_VNIC_TEST_PRINT_SESSION"
	if os.Getenv(printSession) != "" {
		os.Stdout.WriteString("session " + session().String() + "\n")
		return
	}
	for _, test := range []struct{ name, wrapper string }{
		{"own environment", `exec "$0" "$@"`},
		{"a parent's", `env -u SSH_CONNECTION "$0" "$@"; true`},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.Command("sh", "-c", test.wrapper, os.Args[0], "-test.run=^TestSession$")
			cmd.Env = append(os.Environ(), printSession+"=1", "SSH_CONNECTION=203.0.113.5 50000 192.168.1.3 22")
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "session 192.168.1.3\n") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func TestSSHServer(t *testing.T) {
	for text, want := range map[string]netip.Addr{
		"203.0.113.5 50000 192.168.1.3 22":        netip.MustParseAddr("192.168.1.3"),
		"fe80::9%eth1 50000 fe80::3%eth1 22":      netip.MustParseAddr("fe80::3"),
		"::ffff:203.0.113.5 5 ::ffff:10.0.0.1 22": netip.MustParseAddr("10.0.0.1"),
		"": {}, "203.0.113.5 50000": {}, "a b c d": {},
	} {
		if got := sshServer(text); got != want {
			t.Errorf("%q gives %s, want %s", text, got, want)
		}
	}
}
