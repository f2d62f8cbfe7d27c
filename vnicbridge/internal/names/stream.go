package names

import (
	"errors"
	"net"
	"net/url"
	"time"

	"golang.org/x/net/http2"
)

// OfStream reads the name from the first bytes of a TCP connection: the server name of a TLS
// ClientHello (RFC 6066 §3), or the host of the first HTTP request (RFC 9112 §3.2, RFC 9113
// §8.3.1). If the reading is More, the caller asks again when more bytes have come, with all
// bytes since the first. With MaxBytes or more the reading is never More.
//
// The name is in lower case, without the final dot and without the port. It may be an IP address,
// without brackets.
func OfStream(first []byte) (name string, reading Reading) {
	first = first[:min(len(first), MaxBytes)]
	switch {
	case mayStartWith(first, recordBeginning):
		name, reading = ofTLS(first)
	case mayStartWith(first, http2.ClientPreface):
		name, reading = ofHTTP2(first)
	default:
		name, reading = ofHTTP1(first)
	}
	if reading == More && len(first) == MaxBytes {
		return "", None
	}
	return name, reading
}

// mayStartWith tells whether b starts with text, or will do so if the right bytes follow.
func mayStartWith(b []byte, text string) bool {
	n := min(len(b), len(text))
	return string(b[:n]) == text[:n]
}

// withoutPort returns the host of an authority (RFC 3986 §3.2), without the brackets of an IPv6
// address.
func withoutPort(authority string) string {
	u := url.URL{Host: authority}
	return u.Hostname()
}

// prefix is a connection of which only the first bytes have come. After them, Read fails with
// errCut instead of io.EOF, because parsers return io.EOF for other reasons too (an alert, a frame
// that is too short). Write discards the bytes, which are a TLS alert.
type prefix struct{ unread []byte }

var errCut = errors.New("further bytes have not come")

func (p *prefix) Read(b []byte) (int, error) {
	if len(p.unread) == 0 {
		return 0, errCut
	}
	n := copy(b, p.unread)
	p.unread = p.unread[n:]
	return n, nil
}

func (p *prefix) Write(b []byte) (int, error)      { return len(b), nil }
func (p *prefix) Close() error                     { return nil }
func (p *prefix) LocalAddr() net.Addr              { return nil }
func (p *prefix) RemoteAddr() net.Addr             { return nil }
func (p *prefix) SetDeadline(time.Time) error      { return nil }
func (p *prefix) SetReadDeadline(time.Time) error  { return nil }
func (p *prefix) SetWriteDeadline(time.Time) error { return nil }

// unlessCut returns the reading of bytes that a parser refuses: More if they only end too early.
func unlessCut(err error) Reading {
	if errors.Is(err, errCut) {
		return More
	}
	return None
}
