package names

import (
	"crypto/tls"
	"errors"
)

// recordBeginning is the type and the major version of a TLS record with handshake messages
// (RFC 8446 §5.1).
const recordBeginning = "\x16\x03"

// ofTLS reads the server name of a ClientHello. A server of crypto/tls parses the hello, and ends
// the handshake when it has to choose a configuration, before any cryptography. If the hello is
// encrypted (ECH), the name is that of the outer hello.
func ofTLS(records []byte) (name string, reading Reading) {
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

var errRead = errors.New("the ClientHello is read")
