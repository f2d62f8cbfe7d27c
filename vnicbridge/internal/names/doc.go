// Package names reads the host name that a client asks for from the first bytes that the client
// sends, before the server answers: the server name of a TLS ClientHello over TCP or QUIC, or the
// host of an HTTP request. It keeps no state. A [Set] finds the pattern that a name matches.
package names
