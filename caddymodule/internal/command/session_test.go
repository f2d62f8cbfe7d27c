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
		os.Stdout.WriteString("session " + session().server.String() + "\n")
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

func TestParseSSH(t *testing.T) {
	for text, want := range map[string][2]string{
		"203.0.113.5 50000 192.168.1.3 22":        {"203.0.113.5", "192.168.1.3"},
		"fe80::9%eth1 50000 fe80::3%eth1 22":      {"fe80::9", "fe80::3"},
		"::ffff:203.0.113.5 5 ::ffff:10.0.0.1 22": {"203.0.113.5", "10.0.0.1"},
		"": {}, "203.0.113.5 50000": {}, "a b c d": {},
	} {
		var wanted sshSession
		if want[0] != "" {
			wanted = sshSession{netip.MustParseAddr(want[0]), netip.MustParseAddr(want[1])}
		}
		if got := parseSSH(text); got != wanted {
			t.Errorf("%q gives %v, want %v", text, got, wanted)
		}
	}
}
