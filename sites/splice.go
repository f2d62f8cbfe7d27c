package sites

import (
	"io"
	"net"
	"sync"
)

// Source is a TCP connection whose bytes go to another connection.
type Source struct {
	Conn *net.TCPConn
	// Sent is called whenever [Conn.ReadFrom] has sent a part. It may set the other
	// connection's deadline anew.
	Sent func()
}

// Read reads from the connection.
func (s *Source) Read(p []byte) (int, error) { return s.Conn.Read(p) }

// sendFrom sends up to n bytes of a source, if possible inside the kernel.
func (c *Conn) sendFrom(s *Source, n int64) (sent int64, err error) {
	if sent, able, err := c.splice(s, n); able {
		return sent, err
	}
	return c.copyFrom(s, n)
}

var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// copyFrom sends up to n bytes of a source through this process. It does not use package
// net's copy, which would splice through pipes that may be too small.
func (c *Conn) copyFrom(s *Source, n int64) (sent int64, err error) {
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	for sent < n {
		got, end := s.Conn.Read(buf[:min(n-sent, int64(len(buf)))])
		if got > 0 {
			written, err := c.Write(buf[:got])
			sent += int64(written)
			if err != nil {
				return sent, err
			}
			s.Sent()
		}
		if end == io.EOF {
			return sent, nil
		}
		if end != nil {
			return sent, end
		}
	}
	return sent, nil
}
