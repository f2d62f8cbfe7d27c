// Package pcapfilter compiles capture filters, as tcpdump takes them
// (pcap-filter(7)), to classic BPF for Ethernet frames, without libpcap.
//
// It knows the part of the language that concerns IPv4 and ARP:
//
//	[ip|arp|tcp|udp] [src|dst|src or dst|src and dst] host|net|port|portrange <id>
//	ether [src|dst] [host] <MAC>, ether proto <type>, ip proto <protocol>
//	ip, ip6, arp, tcp, udp, icmp
//	less <length>, greater <length>
//	<ether|ip|arp|tcp|udp|icmp>[<offset>:<size>] or len, with & | + << >> and a
//	number, compared by = == != < > <= >= with a number
//	and, or, not, &&, ||, !, parentheses
//
// As in tcpdump, `and` and `or` have the same precedence and associate to the left,
// and a value alone takes the qualifiers of the one before: `port 80 or 443`. Unlike
// tcpdump, the package does not resolve names, and tcp, udp and ports mean IPv4 only.
// An expression that it does not know is an error.
package pcapfilter
