// Package paper builds the network of the paper that this plugin follows, and
// plays the paper's experiments in it, over IPv4 and once more over IPv6.
//
// `caddy vnic lab` calls [Play], which reports each result beside the paper's. The
// end-to-end tests run in the same network, which [NewNetwork] builds.
package paper
