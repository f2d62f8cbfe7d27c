// Package iface is a device in its place: its number, its counters, and a way to send
// frames. A NIC and a VNIC are ifaces; a TCP or UDP port never is.
package iface
