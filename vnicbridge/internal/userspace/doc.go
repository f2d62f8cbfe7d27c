// Package userspace is the userspace data path. Its forwarder receives frames at ifaces,
// finds or opens their flows, rewrites the frames and sends them on. It is the reference for
// the kernel path, and carries what the eBPF programs leave to userspace.
package userspace
