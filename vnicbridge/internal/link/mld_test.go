package link

import (
	"encoding/binary"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/gopacket"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

var (
	pseudoGroup = SolicitedNode(pseudo)
	localGroup  = SolicitedNode(ownLocal)
)

// report is a report of either version, or a message that a host leaves a group.
type report struct {
	kind     uint8
	from, to packet.Addr
	records  []record // of MLDv2; of MLDv1, only the group
}

// reports returns the messages of MLD that were sent since the last time.
func (l *testLink) reports(t *testing.T) []report {
	t.Helper()
	return reportsIn(t, l.take())
}

func reportsIn(t *testing.T, frames []packet.Frame) (all []report) {
	t.Helper()
	for _, f := range frames {
		m, err := parseICMPv6(&f)
		if err != nil {
			t.Fatal(err)
		}
		if m.isNDP() {
			continue
		}
		if m.hopLimit != 1 || !m.routerAlert || f.DstMAC() != GroupMAC(m.dst) || f.SrcMAC() != nicMAC {
			t.Errorf("sent to %s at %s, hop limit %d, router alert %v", m.dst.Netip(), f.DstMAC(), m.hopLimit, m.routerAlert)
		}
		r := report{kind: m.kind(), from: m.src, to: m.dst}
		if r.kind != packet.MLDv2Report {
			r.records = []record{{group: packet.Addr(m.body[8:])}}
			all = append(all, r)
			continue
		}
		const recordLen = 20 // without sources
		if count := int(binary.BigEndian.Uint16(m.body[6:])); len(m.body) != 8+count*recordLen {
			t.Errorf("%d records in %d bytes", count, len(m.body))
		}
		for rest := m.body[8:]; len(rest) >= recordLen; rest = rest[recordLen:] {
			if rest[1]|rest[2]|rest[3] != 0 {
				t.Errorf("a record begins with % x", rest[:4])
			}
			r.records = append(r.records, record{kind: recordKind(rest[0]), group: packet.Addr(rest[4:])})
		}
		all = append(all, r)
	}
	return all
}

// queryFrame returns a frame with a query. Of MLDv2 it has a number of sources.
func queryFrame(from, group packet.Addr, code uint16, old bool, sources int) packet.Frame {
	body := make([]byte, 4, 64)
	binary.BigEndian.PutUint16(body, code)
	body = append(body, group[:]...)
	if !old {
		body = append(body, robustness, 125, 0, byte(sources))
		body = append(body, make([]byte, 16*sources)...)
	}
	to := group
	if to == unspecified {
		to = allNodes
	}
	return icmpv6Frame(routerMAC, GroupMAC(to), mldHeader(from, to), packet.MLDQuery, gopacket.Payload(body))
}

func both(kind recordKind) []record { return []record{{kind, pseudoGroup}, {kind, localGroup}} }

// Row A9: the NIC takes the frames to three groups, and reports two of them: before it asks
// for other owners from ::, afterwards from the link-local address.
func TestGroupsAreReportedAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLink("fe80::b")
		go func() {
			if err := l.Acquire(true); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		sent := l.take()
		if len(sent) != 3 || len(reportsIn(t, sent[:1])) != 1 {
			t.Errorf("%d frames are sent, and the first is no report", len(sent))
		}
		time.Sleep(900 * time.Millisecond)
		reports := reportsIn(t, append(sent, l.take()...))
		if len(reports) != robustness {
			t.Errorf("%d reports", len(reports))
		}
		for _, r := range reports {
			if r.kind != packet.MLDv2Report || r.from != unspecified || r.to != addr("ff02::16") || !slices.Equal(r.records, both(joins)) {
				t.Errorf("reported %+v", r)
			}
		}
		time.Sleep(time.Second)
		l.pass(10 * time.Second)
		reports = l.reports(t)
		counts := make(map[record]int)
		for _, r := range reports {
			if r.from != ownLocal {
				t.Errorf("reported from %s", r.from.Netip())
			}
			for _, each := range r.records {
				counts[each]++
			}
		}
		for _, want := range both(joins) {
			if counts[want] != robustness {
				t.Errorf("%s is reported %d times", want.group.Netip(), counts[want])
			}
		}
		if len(counts) != 2 {
			t.Errorf("reported %v", counts)
		}
		if want := []config.MAC{GroupMAC(pseudoGroup), GroupMAC(localGroup), {0x33, 0x33, 0, 0, 0, 1}}; !slices.Equal(l.nic.groups, want) {
			t.Errorf("the NIC takes %v, want %v", l.nic.groups, want)
		}
	})
}

// Row A9: groups are reported again when the NIC is up again. A NIC that was opened again
// takes their frames again, and no other NIC takes them twice.
func TestGroupsAreReportedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		l.Announce()
		l.pass(5 * time.Second)
		records := 0
		for _, r := range l.reports(t) {
			records += len(r.records)
		}
		if records != 2*robustness {
			t.Errorf("%d records", records)
		}
		if len(l.nic.groups) != 3 {
			t.Errorf("the NIC takes %v", l.nic.groups)
		}
		again := new(testNIC)
		l.iface.SetDevice(again)
		l.Announce()
		if !slices.Equal(again.groups, l.nic.groups) {
			t.Errorf("the new NIC takes %v", again.groups)
		}
	})
}

// Row A9: queries are answered within their Maximum Response Delay.
func TestQueriesAreAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		group   packet.Addr
		code    uint16
		old     bool
		sources int
		within  time.Duration
		want    []record
	}{
		"general":                {unspecified, 10000, false, 0, 10 * time.Second, both(isIn)},
		"general, long":          {unspecified, 0x8000 | 1<<12, false, 0, 65536 * time.Millisecond, both(isIn)},
		"general, at once":       {unspecified, 0, false, 0, 0, both(isIn)},
		"general, soon":          {unspecified, 400, false, 0, 400 * time.Millisecond, both(isIn)},
		"one group":              {pseudoGroup, 1000, false, 0, time.Second, []record{{isIn, pseudoGroup}}},
		"sources of one group":   {localGroup, 1000, false, 2, time.Second, []record{{isIn, localGroup}}},
		"another group":          {addr("ff02::fb"), 1000, false, 0, time.Second, nil},
		"all nodes":              {allNodes, 1000, false, 0, time.Second, nil},
		"general, MLDv1":         {unspecified, 10000, true, 0, 10 * time.Second, []record{{0, pseudoGroup}, {0, localGroup}}},
		"general, MLDv1, longer": {unspecified, 0xffff, true, 0, 65535 * time.Millisecond, []record{{0, pseudoGroup}, {0, localGroup}}},
		"one group, MLDv1":       {localGroup, 1000, true, 0, time.Second, []record{{0, localGroup}}},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := acquiredLink(t)
			for range 5 {
				reason := l.put(queryFrame(hostLocal, c.group, c.code, c.old, c.sources))
				if concerned := reason == packet.Keep; concerned != (c.want != nil) {
					t.Errorf("%s: handled as %s", name, reason)
				}
				var records []record
				reports := l.reports(t)
				for passed := time.Duration(0); passed < c.within; passed += 250 * time.Millisecond {
					l.pass(250 * time.Millisecond)
					reports = append(reports, l.reports(t)...)
				}
				for _, r := range reports {
					if r.from != ownLocal || (r.kind == packet.MLDv1Report) != c.old || c.old && r.to != r.records[0].group {
						t.Errorf("%s: answered by %+v", name, r)
					}
					records = append(records, r.records...)
				}
				if !slices.Equal(records, c.want) {
					t.Errorf("%s: answered %v in %s, want %v", name, records, c.within, c.want)
				}
				l.pass(time.Minute)
				if late := l.reports(t); len(late) > 0 {
					t.Errorf("%s: late answers: %+v", name, late)
				}
			}
		})
	}
}

// Row A9: one answer to several queries is enough, and comes as early as the first must.
func TestSeveralQueriesHaveOneAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		for range 20 {
			l.put(queryFrame(hostLocal, pseudoGroup, 1000, false, 0))
			l.put(queryFrame(hostLocal, unspecified, 30000, false, 0))
			l.pass(time.Second)
			if first := l.reports(t); len(first) == 0 || first[0].records[0] != (record{isIn, pseudoGroup}) {
				t.Errorf("answered %+v", first)
			}
			l.pass(30 * time.Second)
			l.take()
		}
	})
}

// Row A9: while a querier of MLDv1 is on the link, it is told in its version that the NIC
// leaves the groups.
func TestGroupsAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		l.put(queryFrame(hostLocal, unspecified, 0, true, 0))
		l.take()
		l.Close()
		left := l.reports(t)
		for i, want := range []packet.Addr{pseudoGroup, localGroup} {
			if len(left) != 2 || left[i].kind != packet.MLDv1Done || left[i].to != addr("ff02::2") || left[i].records[0].group != want || left[i].from != ownLocal {
				t.Fatalf("sent %+v", left)
			}
		}
		l.Close()
		l.solicits(NDPMessage{From: host, Target: pseudo}, hostMAC, true)
		if sent := l.take(); len(sent) > 0 {
			t.Errorf("after its end the link sends %d frames", len(sent))
		}

		l = acquiredLink(t)
		l.put(queryFrame(hostLocal, unspecified, 0, true, 0))
		l.pass(oldQuerierTime + time.Second)
		l.take()
		l.Close()
		if left = l.reports(t); len(left) != 1 || left[0].kind != packet.MLDv2Report || !slices.Equal(left[0].records, both(parts)) || left[0].from != ownLocal {
			t.Errorf("sent %+v", left)
		}
	})
}

// Row A9: RFC 3810 §5.1.14, §6.2 and §8.1.
func TestInvalidQueriesAreIgnored(t *testing.T) {
	const ip = packet.EthHeaderLen
	const hopByHop = ip + packet.IPv6HeaderLen
	for name, spoil := range map[string]func(f packet.Frame) packet.Frame{
		"hop limit":        func(f packet.Frame) packet.Frame { f.Eth()[ip+7] = 255; return f },
		"no router alert":  func(f packet.Frame) packet.Frame { f.Eth()[hopByHop+2] = optionPadN; return f },
		"another value":    func(f packet.Frame) packet.Frame { f.Eth()[hopByHop+5] = 1; return f },
		"option too long":  func(f packet.Frame) packet.Frame { f.Eth()[hopByHop+3] = 5; return f },
		"header too long":  func(f packet.Frame) packet.Frame { f.Eth()[hopByHop+1] = 200; return f },
		"checksum":         func(f packet.Frame) packet.Frame { f.Eth()[hopByHop+10]++; return f },
		"source":           func(packet.Frame) packet.Frame { return queryFrame(host, unspecified, 0, false, 0) },
		"source ::":        func(packet.Frame) packet.Frame { return queryFrame(unspecified, unspecified, 0, false, 0) },
		"group is none":    func(packet.Frame) packet.Frame { return queryFrame(hostLocal, host, 0, false, 0) },
		"too few sources":  func(packet.Frame) packet.Frame { return queryWith(28, 1) },
		"between versions": func(packet.Frame) packet.Frame { return queryWith(26, 0) },
		"too short":        func(packet.Frame) packet.Frame { return queryWith(23, 0) },
		"empty":            func(packet.Frame) packet.Frame { return queryWith(8, 0) },
	} {
		synctest.Test(t, func(t *testing.T) {
			l := acquiredLink(t)
			if reason := l.put(spoil(queryFrame(hostLocal, unspecified, 0, false, 0))); reason != packet.DropMalformed {
				t.Errorf("%s: handled as %s", name, reason)
			}
			l.pass(time.Second)
			if sent := l.take(); len(sent) > 0 {
				t.Errorf("%s: %d frames were sent", name, len(sent))
			}
		})
	}
}

// Row A9: RFC 3810 §5.1.3.
func TestResponseDelays(t *testing.T) {
	for code, want := range map[uint16]time.Duration{0: 0, 1: 1, 0x7fff: 0x7fff, 0x8000: 0x1000 << 3, 0x8001: 0x1001 << 3, 0xffff: 0x1fff << 10} {
		if got := responseDelay(code); got != want*time.Millisecond {
			t.Errorf("%#x is %s, want %s", code, got, want*time.Millisecond)
		}
	}
}

// queryWith returns a frame with a query of a length in bytes that says it has a number of
// sources.
func queryWith(length int, sources byte) packet.Frame {
	body := make([]byte, 28-4)
	body[23] = sources
	return icmpv6Frame(routerMAC, GroupMAC(allNodes), mldHeader(hostLocal, allNodes), packet.MLDQuery, gopacket.Payload(body[:length-4]))
}

// Row A9: what other hosts report is theirs.
func TestReportsOfOthersAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		for _, f := range []packet.Frame{
			reportFrame(hostMAC, hostLocal, both(joins)),
			reportFrameV1(hostMAC, hostLocal, record{joins, pseudoGroup}),
			reportFrameV1(hostMAC, hostLocal, record{parts, pseudoGroup}),
		} {
			if reason := l.put(f); reason != packet.DropARP {
				t.Errorf("handled as %s", reason)
			}
		}
		if sent := l.take(); len(sent) > 0 {
			t.Errorf("%d frames were sent", len(sent))
		}
	})
}
