// Package rules compiles a configuration to rules for new flows, as plain data that both
// data paths execute: steer rules, policies, aliases, egress, reach and open ports.
package rules
