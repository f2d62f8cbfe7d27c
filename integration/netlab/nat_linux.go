package netlab

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// natTable is the nftables table that holds a router's NAT and nothing else.
var natTable = &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "lab_nat"}

// Masquerade makes the host, a router, replace the source address of packets that
// leave by a device with the device's own, as home routers do.
func (h *Host) Masquerade(device string) error {
	conn, err := nftables.New(nftables.WithNetNSFd(int(h.ns)))
	if err != nil {
		return fmt.Errorf("lab: nftables on %s: %w", h.name, err)
	}
	conn.AddTable(natTable)
	chain := conn.AddChain(&nftables.Chain{
		Name:     "postrouting",
		Table:    natTable,
		Type:     nftables.ChainTypeNAT,
		Hooknum:  nftables.ChainHookPostrouting,
		Priority: nftables.ChainPriorityNATSource,
	})
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, device)
	conn.AddRule(&nftables.Rule{Table: natTable, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
		&expr.Masq{},
	}})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("lab: NAT on %s: %w (the kernel needs nf_tables with NAT: try `modprobe -a nf_tables nft_masq`)", h.name, err)
	}
	return nil
}

// StopMasquerade ends what Masquerade began. Connections that the host translates
// already stay translated.
func (h *Host) StopMasquerade() error {
	conn, err := nftables.New(nftables.WithNetNSFd(int(h.ns)))
	if err != nil {
		return fmt.Errorf("lab: nftables on %s: %w", h.name, err)
	}
	conn.DelTable(natTable)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("lab: end the NAT on %s: %w", h.name, err)
	}
	return nil
}
