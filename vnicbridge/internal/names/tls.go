package names

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
)

// recordBeginning is the type and the major version of a TLS record with handshake messages
// (RFC 8446 §5.1).
const recordBeginning = "\x16\x03"

// ofTLS reads the server name of a ClientHello. A server of crypto/tls parses the hello, and ends
// the handshake when it has to choose a configuration, before any cryptography. If the hello is
// encrypted (ECH), the name is that of the outer hello.
func ofTLS(records []byte) (name string, reading Reading) {
	if isCut(records) {
		return "", More
	}
	err := tls.Server(&prefix{records}, &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			name = hello.ServerName
			return nil, errRead
		},
	}).Handshake()
	if errors.Is(err, errRead) {
		return found(name)
	}
	return "", unlessCut(err)
}

// isCut tells whether the first record is well-formed but not whole. Floods consist of such records,
// and a server takes longer to find that out.
func isCut(records []byte) bool {
	const header, most = 5, 1 << 14 // bytes (RFC 8446 §5.1)
	if len(records) < header {
		return true
	}
	length := int(binary.BigEndian.Uint16(records[header-2:]))
	return length <= most && len(records) < header+length
}

var errRead = errors.New("the ClientHello is read")
