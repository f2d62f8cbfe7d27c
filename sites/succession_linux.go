package sites

import (
	"net"
	"os"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// duplicate returns the listening socket under another descriptor; nil if there is none.
func (s *stream) duplicate() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.socket == nil {
		return nil, nil
	}
	return succession.Duplicate(s.socket.Listener.(*net.TCPListener), s.at.file())
}
