package elector

import "strings"

// State is what an elector says of an instance.
type State string

// The states of keepalived (keepalived.conf(5), vrrp_notify_fifo). It tells of others, such as
// BACKUP_PRIORITY, which change nothing.
const (
	Unheard State = "" // nothing was told yet, or the elector is gone
	Master  State = "MASTER"
	Backup  State = "BACKUP"
	Fault   State = "FAULT"
	Stop    State = "STOP"
	Deleted State = "DELETED" // a reload has taken the instance away

	// RivalLeft says that the instance stays MASTER, and that another one which was MASTER too has
	// a lower priority, and gives up.
	RivalLeft State = "MASTER_RX_LOWER_PRI"
)

// Notice is what an elector tells of an instance, or of a group of instances that change together.
type Notice struct {
	Name  string
	State State
}

// ParseNotice parses a line of keepalived, such as
//
//	INSTANCE "VI_lan" MASTER 100
//
// ok is false if the line tells of no state that matters here, or is something else.
func ParseNotice(line string) (n Notice, ok bool) {
	kind, rest, _ := strings.Cut(line, ` "`)
	end := strings.LastIndex(rest, `" `)
	if end < 1 || kind != "INSTANCE" && kind != "GROUP" {
		return Notice{}, false
	}
	fields := strings.Fields(rest[end+1:])
	if len(fields) == 0 {
		return Notice{}, false
	}
	n = Notice{rest[:end], State(fields[0])}
	switch n.State {
	case Master, Backup, Fault, Stop, Deleted, RivalLeft:
		return n, true
	}
	return Notice{}, false
}
