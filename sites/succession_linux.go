package sites

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

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

// stopListening ends a listening socket, whoever else has it open: a service manager may keep it.
func stopListening(l *net.TCPListener) {
	if raw, err := l.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RD) }) // fails only on a closed one
	}
}

// files adds the sockets to some files.
func (c *packetConn) files(to succession.Files) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, socket := range c.udp.all {
		if !socket.at.local.IsValid() {
			continue
		}
		name := fmt.Sprintf("udp/%d/%s/%s", len(to), socket.at.netns, socket.at.local) // several may be at one place
		file, err := succession.Duplicate(socket.UDPConn, name)
		if err != nil {
			return err
		}
		to[name] = file
	}
	return nil
}
