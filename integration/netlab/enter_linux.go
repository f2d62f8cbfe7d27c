package netlab

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Enter returns a host for a network namespace that somebody else has made and that
// `ip netns` lists by this name. The caller calls [Host.Leave].
func Enter(namespace string) (*Host, error) {
	h := &Host{name: namespace, namespace: namespace}
	var err error
	if h.ns, err = netns.GetFromName(namespace); err != nil {
		return nil, fmt.Errorf("lab: enter the network namespace %s: %w", namespace, err)
	}
	if h.netlink, err = netlink.NewHandleAt(h.ns, unix.NETLINK_ROUTE); err != nil {
		return nil, errors.Join(fmt.Errorf("lab: netlink in %s: %w", namespace, err), h.ns.Close())
	}
	return h, nil
}

// Leave releases a host that [Enter] returned. The namespace stays.
func (h *Host) Leave() error {
	h.netlink.Close()
	return h.ns.Close()
}
