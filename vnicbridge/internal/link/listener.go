package link

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Timing of RFC 3810 §9.
const (
	robustness         = 2           // Robustness Variable: how often a change is reported
	unsolicitedReports = time.Second // Unsolicited Report Interval: the most between two reports of a change

	// oldQuerierTime is the Older Version Querier Present Timeout (§9.12) with the default
	// Query Interval and Query Response Interval.
	oldQuerierTime = (robustness*125 + 10) * time.Second

	// answerMargin is how much earlier an answer is sent than it must be. The next tick
	// after the time of an answer sends it, and two ticks fit into the margin.
	answerMargin = 500 * time.Millisecond
)

// membership is one multicast group that the NIC is in.
type membership struct {
	group   packet.Addr
	reports int   // reports of the membership that nobody has asked for, still to send
	report  int64 // when the next of them is due, in ns
	answer  int64 // when the answer to a query is due; 0: none is
}

// listener tells the routers and the snooping switches of the link in which groups the NIC is
// (A9): a host's part of MLDv2 (RFC 3810), and of MLDv1 (RFC 2710) if the link's querier
// knows only that. It has no lock.
type listener struct {
	memberships []membership
	oldUntil    int64 // until then, the querier counts as one of MLDv1; in ns
}

// set replaces the groups. It returns the records that report those that the NIC has left.
func (l *listener) set(groups []packet.Addr) (left []record) {
	l.memberships = slices.DeleteFunc(l.memberships, func(m membership) bool {
		gone := !slices.Contains(groups, m.group)
		if gone {
			left = append(left, record{parts, m.group})
		}
		return gone
	})
	for _, group := range groups {
		if !slices.ContainsFunc(l.memberships, func(m membership) bool { return m.group == group }) {
			l.memberships = append(l.memberships, membership{group: group})
		}
	}
	return left
}

// repeat makes the next ticks report all groups again.
func (l *listener) repeat() {
	for i := range l.memberships {
		l.memberships[i].reports, l.memberships[i].report = robustness, 0
	}
}

// joined returns the records that report all groups.
func (l *listener) joined() (records []record) {
	for _, m := range l.memberships {
		records = append(records, record{joins, m.group})
	}
	return records
}

// queried takes in a query. It returns false if the query is about none of the groups. One
// answer to several queries is enough (RFC 3810 §6.2).
func (l *listener) queried(q query, now int64) (concerned bool) {
	if q.old {
		l.oldUntil = now + int64(oldQuerierTime)
	}
	at := max(now, 1) + rand.Int64N(int64(max(q.delay-answerMargin, 0))+1)
	for i := range l.memberships {
		m := &l.memberships[i]
		if q.group != unspecified && q.group != m.group {
			continue
		}
		concerned = true
		if m.answer == 0 || at < m.answer {
			m.answer = at
		}
	}
	return concerned
}

// due returns the records that are due.
func (l *listener) due(now int64) (records []record) {
	for i := range l.memberships {
		m := &l.memberships[i]
		switch {
		case m.reports > 0 && now >= m.report:
			m.reports--
			m.report = now + 1 + rand.Int64N(int64(unsolicitedReports))
			records = append(records, record{joins, m.group})
		case m.answer != 0 && now >= m.answer:
			m.answer = 0
			records = append(records, record{isIn, m.group})
		}
	}
	return records
}

// frames returns the frames that carry records to the link's querier.
func (l *listener) frames(src config.MAC, from packet.Addr, records []record, now int64) (frames []packet.Frame) {
	if len(records) == 0 {
		return nil
	}
	if now >= l.oldUntil {
		return []packet.Frame{reportFrame(src, from, records)}
	}
	for _, r := range records {
		frames = append(frames, reportFrameV1(src, from, r))
	}
	return frames
}
