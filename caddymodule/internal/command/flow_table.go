package command

import (
	"cmp"
	"fmt"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

// writeFlows writes a list of flows as a table.
func writeFlows(s screen, list flowlist.List) {
	fmt.Fprintf(s, "%d of %d flows, the most recent packet first.\n", len(list.Flows), list.Matched)
	g := newGrid("PROTOCOL", "STATE", "IDLE", "FROM", "CLIENT", "TO", "INTO", "NAME", "AS", "SERVER", "PACKETS", "BYTES")
	for _, f := range list.Flows {
		from, into := endsOf(f)
		g.row(f.Protocol, f.State, idleTime(f), from, f.Client, f.Destination, into, f.Name, f.Source, f.Server, bothWays(f.Packets), bothWays(f.Bytes))
	}
	if len(g.rows) > 0 {
		fmt.Fprintln(s)
		g.write(s)
	}
}

// endsOf names the bridge or segment that a flow comes from, and the one that it goes into.
func endsOf(f flowlist.Flow) (from, into string) {
	if f.Direction == flowlist.Egress {
		return f.Segment, f.Bridge
	}
	return cmp.Or(f.Bridge, f.Peer), f.Segment
}

func idleTime(f flowlist.Flow) time.Duration {
	return time.Duration(f.IdleSeconds * float64(time.Second)).Round(100 * time.Millisecond)
}

func bothWays(t flowlist.Traffic) string {
	return fmt.Sprintf("%d/%d", t.FromClient, t.FromServer)
}
