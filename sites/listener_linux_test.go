package sites_test

import (
	"context"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/sites"
)

// TestKeepAliveIsTheListeners checks that each listener of a socket applies its own keep-alive
// settings. The listeners may come from different configurations.
func TestKeepAliveIsTheListeners(t *testing.T) {
	sockets, at := sites.NewSockets(new(planeStub)), freePort(t)
	listen(t, sockets, at) // keeps the one socket for all
	for _, test := range []struct {
		name    string
		cfg     net.ListenConfig
		enabled int
		idle    int // seconds
	}{
		{"default", net.ListenConfig{}, 1, 15},
		{"idle", net.ListenConfig{KeepAlive: 40 * time.Second}, 1, 40},
		{"config", net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 50 * time.Second}}, 1, 50},
		{"off", net.ListenConfig{KeepAlive: -1}, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := sockets.Listen(context.Background(), at, test.cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			dialFrom(t, alias, l)
			c := accept(t, l).(syscall.Conn)
			if got := option(t, c, unix.SOL_SOCKET, unix.SO_KEEPALIVE); got != test.enabled {
				t.Errorf("SO_KEEPALIVE is %d, want %d", got, test.enabled)
			}
			if got := option(t, c, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE); test.enabled == 1 && got != test.idle {
				t.Errorf("TCP_KEEPIDLE is %d, want %d", got, test.idle)
			}
		})
	}
}

func option(t *testing.T, c syscall.Conn, level, name int) (value int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) { value, failed = unix.GetsockoptInt(int(fd), level, name) })
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return value
}
