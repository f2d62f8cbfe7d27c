package rolesocket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// defaultMode of a socket: whoever runs the role, and nobody else.
const defaultMode = 0o600

// Listen listens at a Unix socket, which is written as in Caddy's configuration: unix//path, or
// unix//path|0660 with the socket's mode.
func Listen(address string) (net.Listener, error) {
	path, mode, err := parseSocket(address)
	if err != nil {
		return nil, err
	}
	if err := removeDead(path); err != nil {
		return nil, err
	}
	listener, err := listenPrivately(path)
	if err != nil {
		return nil, fmt.Errorf("listening at %s: %w", path, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// parseSocket returns the path and the mode of a socket.
func parseSocket(address string) (path string, mode fs.FileMode, err error) {
	path, ok := strings.CutPrefix(address, "unix/")
	path, text, hasMode := strings.Cut(path, "|")
	if !ok || !strings.HasPrefix(path, "/") {
		return "", 0, fmt.Errorf("--listen %s: want a Unix socket, as in unix//run/vnic-role-a/admin.sock|0660: its owner, group and mode say who may use it", address)
	}
	if !hasMode {
		return path, defaultMode, nil
	}
	bits, err := strconv.ParseUint(text, 8, 32)
	if err != nil || bits > 0o777 {
		return "", 0, fmt.Errorf("--listen %s: the mode %q: want octal digits, as in 0660", address, text)
	}
	return path, fs.FileMode(bits), nil
}

// removeDead removes a socket at which nobody listens any more.
func removeDead(path string) error {
	found, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case found.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s exists, and is no socket: choose another path", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s is in use by another process: end that, or choose another path", path)
	}
	return os.Remove(path)
}

// Serve serves a role until a context is done.
func Serve(ctx context.Context, listener net.Listener, r *Role) error {
	server := &http.Server{
		Handler: r, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ConnContext: withCaller, DisableGeneralOptionsHandler: true,
	}
	stopped := context.AfterFunc(ctx, func() { server.Close() })
	defer stopped()
	if err := server.Serve(&crowd{listener, make(chan struct{}, maxConns)}); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// maxConns is how many connections a role serves at once. Others wait.
const maxConns = 64

// crowd is a listener that lets a number of connections in.
type crowd struct {
	net.Listener
	places chan struct{}
}

func (c *crowd) Accept() (net.Conn, error) {
	c.places <- struct{}{}
	conn, err := c.Listener.Accept()
	if err != nil {
		<-c.places
		return nil, err
	}
	return &guest{Conn: conn, leave: sync.OnceFunc(func() { <-c.places })}, nil
}

// guest is a connection that leaves a place when it is closed.
type guest struct {
	net.Conn
	leave func()
}

func (g *guest) Close() error {
	g.leave()
	return g.Conn.Close()
}

// caller is the key of a context's value that says who is at the other end of a connection.
type caller struct{}

func withCaller(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, caller{}, userAt(conn.(*guest).Conn))
}

// callerOf says who has made a request.
func callerOf(ctx context.Context) string {
	user, _ := ctx.Value(caller{}).(string)
	return user
}
