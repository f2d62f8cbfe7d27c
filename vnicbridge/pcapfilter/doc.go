// Package pcapfilter compiles capture filters, as tcpdump takes them
// (pcap-filter(7)), to classic BPF for Ethernet frames, without libpcap.
//
// It knows the part of the language that concerns IPv4, IPv6 and ARP:
//
//	[ip|ip6|arp|tcp|udp] [src|dst|src or dst|src and dst] host|net|port|portrange <id>
//	ether [src|dst] [host] <MAC>, ether proto <type>, [ip|ip6] proto <protocol>
//	ip, ip6, arp, tcp, udp, icmp, icmp6
//	less <length>, greater <length>
//	<ether|ip|ip6|arp|tcp|udp|icmp|icmp6>[<offset>:<size>] or len, with & | + << >> and a
//	number, compared by = == != < > <= >= with a number
//	and, or, not, &&, ||, !, parentheses
//
// As in tcpdump, tcp and udp mean both families, and tcp[…] and udp[…] IPv4 alone. Of IPv6
// extension headers, only a fragment header is skipped, and not for ports and icmp6[…].
//
// As in tcpdump, `and` and `or` have the same precedence and associate to the left,
// and a value alone takes the qualifiers of the one before: `port 80 or 443`. Unlike
// tcpdump, the package does not resolve names, and a port is one of TCP or UDP, not of SCTP.
// An expression that it does not know is an error.
package pcapfilter
