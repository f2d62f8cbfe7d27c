// Package pcapfilter compiles capture filters, as tcpdump takes them
// (pcap-filter(7)), to classic BPF for Ethernet frames, without libpcap.
//
// It knows the part of the language that is about IPv4 and ARP:
//
//	[ip|arp|tcp|udp] [src|dst|src or dst|src and dst] host|net|port|portrange <id>
//	ether [src|dst] [host] <MAC>, ether proto <type>, ip proto <protocol>
//	ip, ip6, arp, tcp, udp, icmp
//	less <length>, greater <length>
//	<ether|ip|arp|tcp|udp|icmp>[<offset>:<size>] or len, with & | + << >> and a
//	number, compared by = == != < > <= >= with a number
//	and, or, not, &&, ||, !, parentheses
//
// As in tcpdump, `and` and `or` bind alike, from left to right, and a value alone
// takes the qualifiers of the one before: `port 80 or 443`. Other than in tcpdump,
// names are not resolved, and tcp, udp and ports mean IPv4 alone. What it does not
// know is an error, never a guess.
package pcapfilter
