// Package iface describes the places at which frames come and go. An iface has a number,
// counters, and a device that sends frames. NICs and VNICs are ifaces. A TCP or UDP port
// never is.
package iface
