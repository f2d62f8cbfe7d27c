package host

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// tableOwner is NFT_TABLE_F_OWNER (Linux 5.12): the table belongs to the netlink socket that
// made it, and ends with the socket, however this process ends. Package nftables cannot send
// flags of tables.
const tableOwner = 1 << 1

// createOwnedTable makes a table that ends with the socket. On a kernel without owners it
// makes an ordinary table. If this process is killed, the next start removes that table.
func createOwnedTable(conn *netlink.Conn, table *nftables.Table) error {
	err := createTable(conn, table, tableOwner)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		err = createTable(conn, table, 0)
	}
	if err != nil {
		return fmt.Errorf("making the nftables table %s (is the nf_tables module there? modprobe nf_tables): %w", table.Name, err)
	}
	return nil
}

// createTable sends NFT_MSG_NEWTABLE in a batch of its own
// (include/uapi/linux/netfilter/nf_tables.h, include/uapi/linux/netfilter/nfnetlink.h).
func createTable(conn *netlink.Conn, table *nftables.Table, flags uint32) error {
	attributes, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: append([]byte(table.Name), 0)},
		{Type: unix.NFTA_TABLE_FLAGS, Data: binary.BigEndian.AppendUint32(nil, flags)},
	})
	if err != nil {
		return err
	}
	batch := func(kind netlink.HeaderType) netlink.Message {
		return netlink.Message{
			Header: netlink.Header{Type: kind, Flags: netlink.Request},
			Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES},
		}
	}
	_, err = conn.SendMessages([]netlink.Message{
		batch(unix.NFNL_MSG_BATCH_BEGIN),
		{
			Header: netlink.Header{
				Type:  unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE,
				Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Excl,
			},
			Data: append([]byte{byte(table.Family), unix.NFNETLINK_V0, 0, 0}, attributes...),
		},
		batch(unix.NFNL_MSG_BATCH_END),
	})
	if err != nil {
		return err
	}
	_, err = conn.Receive()
	return err
}

// isOwned tells whether a table belongs to a socket that is open. Package nftables does not turn the
// flags from the network's byte order.
func isOwned(t *nftables.Table) bool {
	return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, t.Flags))&tableOwner != 0
}
