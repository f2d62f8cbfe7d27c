package command

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// session returns the address of this machine to which the user's SSH session is
// connected. Without an SSH session it returns the zero address. sudo removes the variable,
// so session also looks at the parent processes.
func session() netip.Addr {
	if addr := sshServer(os.Getenv("SSH_CONNECTION")); addr.IsValid() {
		return addr
	}
	for pid := os.Getppid(); pid > 1; {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			break
		}
		for _, variable := range bytes.Split(environ, []byte{0}) {
			if value, ok := strings.CutPrefix(string(variable), "SSH_CONNECTION="); ok {
				return sshServer(value)
			}
		}
		if pid, err = parent(pid); err != nil {
			break
		}
	}
	return netip.Addr{}
}

// sshServer returns the server's address in SSH_CONNECTION, which has the client's address
// and port, then the server's. A link-local address there has a zone.
func sshServer(connection string) netip.Addr {
	fields := strings.Fields(connection)
	if len(fields) != 4 {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(fields[2])
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
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
