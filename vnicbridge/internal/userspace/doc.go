// Package userspace is the userspace data path. Its forwarder takes the frames that come
// in at ifaces, finds or opens their flows, rewrites them and sends them on. It is the
// reference for the kernel path, and carries what the eBPF programs leave to userspace.
package userspace
