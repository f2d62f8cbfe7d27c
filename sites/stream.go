package sites

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// stream is one listening TCP socket, shared by the listeners of all the living
// configurations. With a socket for each (SO_REUSEPORT) the connections in the
// accept queue of the one that closes would be reset.
type stream struct {
	socket net.Listener
	common chan accepted // for whichever listener accepts first
	done   chan struct{}

	mu        sync.Mutex
	listeners []*listener // the newest first
}

// accepted is what the socket's Accept returned.
type accepted struct {
	conn net.Conn
	err  error
}

func listenStream(ctx context.Context, local netip.AddrPort, cfg net.ListenConfig) (*stream, error) {
	// Each listener sets its own connections' keep-alive.
	cfg.KeepAlive, cfg.KeepAliveConfig = -1, net.KeepAliveConfig{}
	// Another subflow is another flow to the bridge, which may give it to
	// another segment.
	cfg.SetMultipathTCP(false)
	socket, err := cfg.Listen(ctx, "tcp", local.String())
	if err != nil {
		return nil, err
	}
	s := &stream{socket: socket, common: make(chan accepted), done: make(chan struct{})}
	go s.accept()
	return s, nil
}

// accept hands out what the socket accepts until it is closed. It takes no more
// than one connection in advance: the others wait in the kernel's queue.
func (s *stream) accept() {
	for {
		conn, err := s.socket.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if !s.hand(accepted{conn, err}) {
			if conn != nil {
				conn.Close()
			}
			return
		}
	}
}

// hand gives to the newest listener that is accepting, or waits for one. It
// tells whether somebody took.
func (s *stream) hand(a accepted) bool {
	for _, l := range s.newestFirst() {
		select {
		case l.handed <- a:
			return true
		default:
		}
	}
	select {
	case s.common <- a:
		return true
	case <-s.done:
		return false
	}
}

func (s *stream) newestFirst() []*listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listeners
}

// add and remove make new slices, because hand reads the old ones unlocked.
func (s *stream) add(l *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append([]*listener{l}, s.listeners...)
}

// remove tells whether the listener was the last.
func (s *stream) remove(l *listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = slices.DeleteFunc(slices.Clone(s.listeners), func(o *listener) bool { return o == l })
	return len(s.listeners) == 0
}

func (s *stream) close() error {
	close(s.done)
	return s.socket.Close()
}
