package names

import "strings"

// Reading says whether the first bytes of a client contain the name that the client asks for.
type Reading int

// The readings. Found and None are final: further bytes do not change them.
const (
	More  Reading = iota // the bytes end too early to tell
	Found                // there is a name
	None                 // there is no name
)

// MaxBytes is how many bytes of a client are read at most. A name beyond them is not found.
const MaxBytes = 16 << 10

// maxName is the length of the longest host name, in bytes and without the final dot (RFC 1035
// §2.3.4).
const maxName = 253

// found returns the reading of a host that a client names. No host name on the wire has bytes
// other than printable ASCII, and control characters could confuse a terminal that shows the name.
func found(host string) (name string, reading Reading) {
	host = strings.TrimSuffix(host, ".")
	if host == "" || len(host) > maxName || strings.ContainsFunc(host, isNotPrintable) {
		return "", None
	}
	// Without the clone, a host that is part of a request target would keep the target in memory.
	return strings.Clone(strings.ToLower(host)), Found
}

func isNotPrintable(r rune) bool { return r <= ' ' || r > '~' }
