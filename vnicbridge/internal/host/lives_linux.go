package host

import (
	"errors"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// Lives tells whether a file of a process that has ended still belongs to its device. Somebody may have
// removed the device since, renamed it, or made another one of its name. Files that are not a device's
// live.
func Lives(name string, file *os.File) bool {
	fd, err := succession.Descriptor(file)
	if err != nil {
		return false
	}
	if device, ok := strings.CutPrefix(name, packetFile("")); ok {
		bound, err := unix.Getsockname(fd)
		link, absent := net.InterfaceByName(device)
		place, ok := bound.(*unix.SockaddrLinklayer)
		return err == nil && absent == nil && ok && place.Ifindex == link.Index
	}
	request, _ := unix.NewIfreq("") // fails only on a long name
	err = unix.IoctlIfreq(fd, unix.TUNGETIFF, request)
	vnic, named := strings.CutPrefix(name, TAPFile(""))
	return errors.Is(err, unix.ENOTTY) || err == nil && (!named || request.Name() == vnic)
}
