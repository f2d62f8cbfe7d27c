package netlab

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Enter returns, as a host, a network namespace that something else has made, by
// the name that `ip netns` has for it. The caller leaves it.
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

// Leave gives back a host that [Enter] returned. The namespace stays.
func (h *Host) Leave() error {
	h.netlink.Close()
	return h.ns.Close()
}
