package command

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// session is the address of this machine that the user's SSH session is connected
// to; none if there is no such session. Under sudo only the processes above know
// it.
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

// sshServer is the server's address in SSH_CONNECTION: the client's address and
// port, then the server's.
func sshServer(connection string) netip.Addr {
	fields := strings.Fields(connection)
	if len(fields) != 4 {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(fields[2])
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap()
}

func parent(pid int) (ppid int, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// pid (name) state ppid …, and the name may have spaces and parentheses.
	var state string
	_, err = fmt.Sscan(string(stat[bytes.LastIndexByte(stat, ')')+1:]), &state, &ppid)
	return ppid, err
}
