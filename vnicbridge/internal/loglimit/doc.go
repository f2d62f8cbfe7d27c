// Package loglimit rate-limits log lines, because neighbours, segments and the machine can
// cause a line each time they do something.
package loglimit
