package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	// MaxNames is the most names that all steer rules of a bridge have together. It bounds the
	// memory of the compiled rules, and the time of a reload.
	MaxNames = 10000
	// maxHostName is the length of the longest host name in bytes, without a dot at the end
	// (RFC 1035, section 2.3.4).
	maxHostName = 253
)

// hostForm is the form of a host name in lower case. It allows underscores, because sites
// have such names too.
var hostForm = regexp.MustCompile(`^[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*$`)

// HostPattern returns the normal form of a pattern of host names: in lower case, with A-labels
// (IDNA), and without a dot at the end. A pattern is a host name, or "*." and a host name.
// The asterisk stands for any one label.
func HostPattern(text string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(text, "."))
	tooLong := fmt.Errorf("name %.20q…: a host name has at most %d bytes", text, maxHostName)
	// The conversion takes quadratic time, and its result has at least one byte for each letter.
	if utf8.RuneCountInString(name) > maxHostName {
		return "", tooLong
	}
	// Caddy and CertMagic convert with the same function. It does not change the case of
	// letters beyond ASCII, which clients send in lower case.
	pattern, err := idna.ToASCII(name)
	if err != nil {
		return "", fmt.Errorf("name %q: this is no international host name (%w)", text, err)
	}
	host := strings.TrimPrefix(pattern, "*.")
	_, notAddress := netip.ParseAddr(strings.Trim(host, "[]"))
	switch {
	case strings.Contains(host, "/"):
		return "", fmt.Errorf("name %q: want a host name without scheme and path, as in a.example.com", text)
	case notAddress == nil:
		return "", fmt.Errorf("name %q: want a host name; a flow to an address has none, so later rules and lb_policy decide about it", text)
	case strings.Contains(host, ":"):
		return "", fmt.Errorf("name %q: want a host name without a port; the matcher port names ports", text)
	case strings.Contains(host, "*"):
		return "", fmt.Errorf("name %q: * stands for the first label only, as in *.example.com; without a name matcher every name matches", text)
	case len(pattern) > maxHostName:
		return "", tooLong
	case !hostForm.MatchString(host):
		return "", fmt.Errorf("name %q: want a host name, as in a.example.com or *.example.com: labels of 1 to 63 letters, digits, - and _, with a dot between two", text)
	}
	return pattern, nil
}

// normalNames returns the rule's names in the form of [HostPattern]. The rule must be valid.
func (r *Rule) normalNames() (names []string) {
	for _, name := range r.Names {
		if pattern, err := HostPattern(name); err == nil {
			names = append(names, pattern)
		}
	}
	return names
}

// validateNames checks the names, and that the rule's flows can have a name.
func (r *Rule) validateNames() error {
	if len(r.Names) == 0 {
		return nil
	}
	seen := make(map[string]bool, len(r.Names))
	for _, name := range r.Names {
		pattern, err := HostPattern(name)
		if err != nil {
			return err
		}
		if seen[pattern] {
			return fmt.Errorf("name %s is given twice: remove one, because case and a dot at the end do not count", pattern)
		}
		seen[pattern] = true
	}
	if slices.Contains(r.Protocols, ICMP) {
		return errors.New("protocol icmp: pings have no host name: write a rule without name for them")
	}
	return nil
}
