package caddyvnic

import (
	_ "github.com/google/gopacket"
	_ "github.com/google/gopacket/pcapgo"
	_ "github.com/google/nftables"
	_ "github.com/mdlayher/packet"
	_ "github.com/mdlayher/socket"
	_ "github.com/songgao/water"
	_ "github.com/spf13/cobra"
	_ "github.com/vishvananda/netlink"
	_ "github.com/vishvananda/netns"
	_ "go.uber.org/zap/exp/zapslog"
	_ "golang.org/x/net/bpf"
	_ "golang.org/x/net/http2"
	_ "golang.org/x/net/icmp"
	_ "golang.org/x/sys/unix"
)
