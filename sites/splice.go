package sites

import (
	"io"
	"net"
)

// Source is a TCP connection that is read to be sent to another one.
type Source struct {
	Conn *net.TCPConn
	// Sent is called whenever a part has been sent by [Conn.ReadFrom], which takes
	// what has come as a whole. It may set the other connection's deadline anew.
	Sent func()
}

// Read reads from the connection.
func (s *Source) Read(p []byte) (int, error) { return s.Conn.Read(p) }

// sendFrom sends up to n bytes of a source, by way of the kernel alone where that is
// possible.
func (c *Conn) sendFrom(s *Source, n int64) (sent int64, err error) {
	if sent, able, err := c.splice(s, n); able {
		return sent, err
	}
	return c.TCPConn.ReadFrom(io.LimitReader(s.Conn, n))
}
