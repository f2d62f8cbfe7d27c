// SPDX-License-Identifier: Apache-2.0

// Values and headers in packets for which the kernel's headers have no name.
#pragma once

#define ETH_IPV4 bpf_htons(0x0800)
#define ETH_ARP bpf_htons(0x0806)
#define ETH_IPV6 bpf_htons(0x86dd)
#define ETH_VLAN bpf_htons(0x8100)
#define ETH_QINQ bpf_htons(0x88a8)
#define VLAN_ID 0x0fff	// bits of the tag control information; a priority tag has the id 0
#define IP_FRAGMENT bpf_htons(0xbfff)	// all bits except "don't fragment"
#define IP_MORE bpf_htons(0x2000)
#define IP_LATER bpf_htons(0x1fff)	// the offset, which is 0 only in a first fragment

#define TCP_FIN (1 << 0)
#define TCP_SYN (1 << 1)
#define TCP_RST (1 << 2)
#define TCP_ACK (1 << 4)

#define ICMP_ECHO_REPLY 0
#define ICMP_ECHO_REQUEST 8

#define IPPROTO_ICMPV6 58
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129

// The header of an ICMP echo (RFC 792), and of one of ICMPv6 (RFC 4443 §4).
struct echo {
	__u8 type, code;
	__be16 check, id, sequence;
};

// The rest of a VLAN tag, which follows the Ethernet header (IEEE 802.1Q §9.6).
struct tag {
	__be16 control, proto;
};

// An ARP message for IPv4 over Ethernet (RFC 826).
struct arp {
	__be16 hardware, protocol;
	__u8 hardware_length, protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__be32 sender;
	__u8 target_mac[6];
	__be32 target;
} __attribute__((packed));

#define ARP_ETHERNET bpf_htons(1)
#define ARP_REQUEST bpf_htons(1)
#define ARP_REPLY bpf_htons(2)

// Types of ICMPv6 messages between neighbours (RFC 4861 §4, RFC 3810 §5.1).
#define ICMPV6_MLD_QUERY 130
#define ICMPV6_NDP_FIRST 133	// router solicitation
#define ICMPV6_SOLICITATION 135	// of a neighbour
#define ICMPV6_ADVERTISEMENT 136
#define ICMPV6_NDP_LAST 137	// redirect

#define NDP_HOP_LIMIT 255	// no router has forwarded the message (RFC 4861 §3.1)

// A neighbour solicitation or advertisement, without options (RFC 4861 §4.3, §4.4).
struct ndp {
	__u8 type, code;
	__be16 check;
	__be32 flags;
	__u64 target[2];
};

// How an extension header of IPv6 begins, except the fragment header (RFC 8200 §4).
struct extension {
	__u8 next;
	__u8 length;		// in 8 bytes, without the first 8
};

// The fragment header of IPv6 (RFC 8200 §4.5).
struct fragment6 {
	__u8 next, zero;
	__be16 offset;		// in 8 bytes, << 3
	__be32 id;
};

#define IP6_MORE bpf_htons(1)
#define IP6_LATER bpf_htons(0xfff8)
