package upgrade

import (
	"slices"
	"strings"
)

// watches tells whether Caddy follows its configuration's file, which its command line then has to
// name.
func watches(args []string) bool {
	for _, arg := range args {
		if name, _, _ := strings.Cut(arg, "="); name == "--watch" || name == "-w" {
			return true
		}
	}
	return false
}

// The flags of `caddy run` about its configuration. --pingback is of `caddy start`, which no longer
// waits.
var (
	flagsWithValue = []string{"--config", "-c", "--adapter", "-a", "--pingback"}
	flagsWithout   = []string{"--resume", "-r"}
)

// withConfig returns a command line of Caddy with another configuration, in JSON.
func withConfig(args []string, config string) (changed []string) {
	skip := false
	for _, arg := range args {
		name, _, joined := strings.Cut(arg, "=")
		switch {
		case skip:
			skip = false
		case slices.Contains(flagsWithValue, name):
			skip = !joined
		case slices.Contains(flagsWithout, name):
		default:
			changed = append(changed, arg)
		}
	}
	return append(changed, "--config", config)
}

// pidfile returns the file in which Caddy's command line asks for the process id, or "".
func pidfile(args []string) string {
	for i, arg := range args {
		name, value, joined := strings.Cut(arg, "=")
		switch {
		case name != "--pidfile":
		case joined:
			return value
		case i+1 < len(args):
			return args[i+1]
		}
	}
	return ""
}
