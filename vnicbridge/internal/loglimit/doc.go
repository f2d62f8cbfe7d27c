// Package loglimit bounds how often the log gets lines that somebody else can cause.
package loglimit
