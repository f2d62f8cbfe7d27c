// Package elector talks with a program that decides which of several machines has an address: it
// reads what the program tells by a FIFO, and tells it by a file whether this machine is fit.
package elector
