package names

import (
	"bytes"
	"net/url"
	"strings"
)

// A method of HTTP has at most maxMethod of these characters; the longest registered one has 17
// (IANA, Hypertext Transfer Protocol Method Registry). HTTP allows more, but a client of another
// protocol is recognized earlier this way.
const (
	methodCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ-"
	maxMethod        = 32
)

// ofHTTP1 reads the host of a request's target, or else that of the first Host field (RFC 9112
// §3.2). It does not wait for the end of the head, because cookies can make a head long.
func ofHTTP1(first []byte) (name string, reading Reading) {
	method := len(first) - len(bytes.TrimLeft(first, methodCharacters))
	switch {
	case method == len(first) && method <= maxMethod:
		return "", More
	case method == 0 || method > maxMethod || first[method] != ' ':
		return "", None
	}
	line, rest, whole := bytes.Cut(first[method+1:], newline)
	if !whole {
		return "", More
	}
	target, version, _ := strings.Cut(string(line), " ")
	if !strings.HasPrefix(version, "HTTP/1.") {
		return "", None
	}
	if u, err := url.ParseRequestURI(target); err == nil && u.Host != "" {
		return found(u.Hostname())
	}
	for {
		if line, rest, whole = bytes.Cut(rest, newline); !whole {
			return "", More
		}
		field, value, ok := bytes.Cut(line, colon)
		if !ok {
			return "", None // the empty line after the head, or a line of another protocol
		}
		if strings.EqualFold(string(field), "host") {
			return found(withoutPort(strings.TrimSpace(string(value))))
		}
	}
}

var (
	newline = []byte("\n") // the carriage return before it may be missing (RFC 9112 §2.2)
	colon   = []byte(":")
)
