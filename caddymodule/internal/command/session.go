package command

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// sshSession has the addresses between which the user's SSH session is connected, or zero
// addresses.
type sshSession struct{ client, server netip.Addr }

// session returns the user's SSH session. sudo removes the variable that tells of it, so
// session also looks at the parent processes.
func session() sshSession {
	if s := parseSSH(os.Getenv("SSH_CONNECTION")); s.server.IsValid() {
		return s
	}
	for pid := os.Getppid(); pid > 1; {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			break
		}
		for _, variable := range bytes.Split(environ, []byte{0}) {
			if value, ok := strings.CutPrefix(string(variable), "SSH_CONNECTION="); ok {
				return parseSSH(value)
			}
		}
		if pid, err = parent(pid); err != nil {
			break
		}
	}
	return sshSession{}
}

// parseSSH parses SSH_CONNECTION, which has the client's address and port, then the server's
// (ssh(1)). A link-local address there has a zone.
func parseSSH(connection string) (s sshSession) {
	fields := strings.Fields(connection)
	if len(fields) != 4 {
		return sshSession{}
	}
	client, errClient := netip.ParseAddr(fields[0])
	server, errServer := netip.ParseAddr(fields[2])
	if errClient != nil || errServer != nil {
		return sshSession{}
	}
	return sshSession{client.Unmap().WithZone(""), server.Unmap().WithZone("")}
}

func parent(pid int) (ppid int, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The line is: pid (name) state ppid …; the name may contain spaces and parentheses.
	var state string
	_, err = fmt.Sscan(string(stat[bytes.LastIndexByte(stat, ')')+1:]), &state, &ppid)
	return ppid, err
}
