// Package capture copies packets of segments and bridges into pcapng, by eBPF programs or
// packet sockets that exist only while a capture runs. Packets never wait for a capture.
package capture
