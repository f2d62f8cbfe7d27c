package host

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/sys/unix"
)

// ownership distinguishes what this process made from what a killed process left. Everything
// that can outlive its process (nftables tables, veth pairs) carries a random token. While
// the process lives, it listens on a Unix socket whose abstract name (unix(7)) contains the
// token. Such a name belongs to the network namespace and vanishes with the process. A
// process id would not do: in containers that share a network namespace every process is
// number 1, and numbers are used again.
type ownership struct {
	token  string
	socket net.Listener
}

const ownerSocket = "@caddy-vnic/owner/"

func newOwnership(ns *Namespace) (o ownership, err error) {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	o.token = hex.EncodeToString(random[:])
	err = ns.Do(func() (err error) {
		o.socket, err = net.Listen("unix", ownerSocket+o.token)
		return err
	})
	if err != nil {
		return o, fmt.Errorf("making the socket that marks what is this process's: %w", err)
	}
	return o, nil
}

func (o ownership) release() error { return o.socket.Close() }

// isStale tells whether a name consists of a prefix of ours and the token of a process that
// has ended.
func isStale(ns *Namespace, name, prefix string) bool {
	token, ours := strings.CutPrefix(name, prefix)
	if !ours {
		return false
	}
	err := ns.Do(func() error {
		conn, err := net.Dial("unix", ownerSocket+token)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	return errors.Is(err, unix.ECONNREFUSED) // nobody listens
}
