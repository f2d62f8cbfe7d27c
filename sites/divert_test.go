package sites_test

import (
	"io"
	"net"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/sites"
)

// TestDivert checks that another server can take a listener's connections and give them back.
// The newest listener then accepts them, with what has been read already, even if the segment
// was stopped meanwhile.
func TestDivert(t *testing.T) {
	sockets, at := sites.NewSockets(new(planeStub)), freePort(t)
	older := listen(t, sockets, at)
	dialFrom(t, alias, older)
	diverted, begun := make(chan *sites.Conn), 0
	leave := make(chan bool)
	first := accept(t, older)
	for range 2 {
		sites.Divert(first, func() func(*sites.Conn) bool {
			begun++
			return func(c *sites.Conn) bool {
				read := make([]byte, len("ping"))
				if _, err := io.ReadFull(c, read); err != nil {
					t.Error(err)
				}
				diverted <- c
				c.Unread(read)
				return <-leave
			}
		})
	}
	if begun != 1 {
		t.Errorf("the listener was diverted %d times", begun)
	}
	for _, between := range []func(){func() {}, func() { sockets.Stop("a") }} {
		dialed := dialFrom(t, alias, older)
		io.WriteString(dialed, "ping")
		c := <-diverted
		if got := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); got != client {
			t.Errorf("the client is %s", got)
		}
		between()
		leave <- true
		io.WriteString(dialed, "pong")
		left := accept(t, older)
		text := make([]byte, len("pingpong"))
		if _, err := io.ReadFull(left, text); err != nil || string(text) != "pingpong" {
			t.Errorf("%q is read of what was left: %v", text, err)
		}
	}
}

// TestDivertDeclined checks that a server that declines a listener is asked once, and that the
// listener then keeps its connections: asking would cost each connection something.
func TestDivertDeclined(t *testing.T) {
	l := listen(t, sites.NewSockets(new(planeStub)), freePort(t))
	begun := 0
	for range 3 {
		dialFrom(t, alias, l)
		sites.Divert(accept(t, l), func() func(*sites.Conn) bool {
			begun++
			return nil
		})
	}
	if begun != 1 {
		t.Errorf("the server was asked %d times", begun)
	}
}
