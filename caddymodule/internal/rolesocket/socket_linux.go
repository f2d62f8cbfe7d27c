package rolesocket

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// listenPrivately listens at a socket that nobody else can connect to before its mode is set.
func listenPrivately(path string) (net.Listener, error) {
	defer unix.Umask(unix.Umask(0o777))
	return net.Listen("unix", path)
}

// userAt says which user and process is at the other end of a connection.
func userAt(conn net.Conn) string {
	unknown := "unknown"
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return unknown
	}
	_ = raw.Control(func(fd uintptr) {
		if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			unknown = fmt.Sprintf("uid %d, pid %d", peer.Uid, peer.Pid)
		}
	})
	return unknown
}
