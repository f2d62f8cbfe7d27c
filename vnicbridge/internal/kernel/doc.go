// Package kernel is the kernel data path: it loads the eBPF programs, fills their maps,
// attaches them to devices by tcx or clsact, and keeps them first. It reaches the
// forwarder through an interface of its own.
package kernel
