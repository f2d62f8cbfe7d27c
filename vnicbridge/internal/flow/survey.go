package flow

import (
	"math/bits"
	"math/rand/v2"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// survey counts the flows of a table by class and age, to find those that a full table
// evicts. It is an incremental scan: each eviction scans some records for the next survey,
// so a new flow does not wait for a scan of a million records.
type survey struct {
	began       int64                 // ns of the plane's clock; ages are relative to it
	at          int                   // the first record to scan, which is random
	looked      int                   // how many records have been scanned
	flows       [flowClasses + 1]Ages // by class; the last is of superseded flows
	stride      uint32                // one record of so many is in the samples
	connections []victim              // a sample of the established flows
	others      []victim              // a sample of the other living flows
}

// surveyTime is the age at which an unfinished survey begins again.
const surveyTime = SpareTime

// Ages is a histogram of flows by the time since their last packet, in ticks of the coarse
// clock. Ages of up to 34 s have a bucket each; beyond that a bucket spans 1/64 of a power
// of two.
type Ages struct {
	flows   int
	buckets [AgeBuckets]int32
}

// The buckets of [Ages].
const (
	exactAges  = 1 << exactBits // ages with a bucket each
	exactBits  = 9
	Shares     = 64 // buckets for each power of two beyond exactAges
	AgeBuckets = exactAges + (32-exactBits)*Shares
)

// AgeBucket returns the bucket of an age in ticks.
func AgeBucket(age uint32) int {
	if age < exactAges {
		return int(age)
	}
	magnitude := bits.Len32(age) - 1
	return exactAges + (magnitude-exactBits)*Shares + int(age>>(magnitude-6)%Shares)
}

// Youngest returns the smallest age in a bucket, in ticks.
func Youngest(bucket int) uint32 {
	if bucket < exactAges {
		return uint32(bucket)
	}
	magnitude, share := (bucket-exactAges)/Shares+exactBits, (bucket-exactAges)%Shares
	return uint32(Shares+share) << (magnitude - 6)
}

// Add counts a flow. A negative age counts as 0: see [survey.since].
func (a *Ages) Add(age int32) {
	a.flows++
	a.buckets[AgeBucket(uint32(max(age, 0)))]++
}

// Oldest returns the age, in ticks, from which on there are `enough` flows, and how many
// they are. Flows younger than `least` do not count, so there may be too few.
func (a *Ages) Oldest(enough int, least uint32) (age uint32, n int) {
	for b := AgeBuckets - 1; b >= AgeBucket(least) && n < enough; b-- {
		if a.buckets[b] > 0 {
			age, n = Youngest(b), n+int(a.buckets[b])
		}
	}
	return age, n
}

// cohort is a set of flows to evict: those of one class whose last packet came no later
// than a certain time. They are evicted in the order of their records. New flows get the
// records in the same order.
type cohort struct {
	class  Class       // or superseded
	before uint32      // coarse time of the latest last packet
	left   int         // how many flows the cohort still had at the survey
	of     packet.Addr // the site whose flows they are; NoAddr: anybody's
}

// superseded is the class of all superseded flows.
const superseded = flowClasses

// next returns the record of the next flow of a cohort. ok is false if there are no more.
func (t *Table) next(c *cohort) (number uint32, ok bool) {
	hand, highest := &t.hands[c.class], t.highest()
	for range highest {
		if c.left == 0 {
			break
		}
		if *hand++; *hand >= highest {
			*hand = 0
		}
		if t.isIn(c, uint32(*hand)) {
			c.left--
			return uint32(*hand), true
		}
	}
	c.left = 0
	return 0, false
}

// isIn tells whether the flow of a record is in a cohort.
func (t *Table) isIn(c *cohort, number uint32) bool {
	v, ok := victimOf(&t.Records[number], number)
	return ok && v.class == c.class && int32(c.before-v.lastSeen) >= 0 && (c.of == packet.NoAddr || t.siteOf(v) == c.of)
}

// goOn scans some records for the next survey. When all records are scanned, it chooses
// which flows to evict next.
func (t *Table) goOn(now int64, records int) {
	if records == 0 {
		return
	}
	s := &t.survey
	if now-s.began > int64(surveyTime) || s.looked == 0 {
		s.restart(now, t.highest())
	}
	highest := t.highest()
	for range min(records, highest-s.looked) {
		s.add(&t.Records[(s.at+s.looked)%highest], uint32((s.at+s.looked)%highest))
		s.looked++
	}
	if s.looked >= highest {
		t.choose(now)
		s.looked = 0
	}
}

// lookAtAll scans all records at once.
func (t *Table) lookAtAll(now int64) {
	t.survey.looked = 0
	t.goOn(now, max(t.highest(), 1))
}

func (s *survey) restart(now int64, records int) {
	*s = survey{
		began: now, at: rand.IntN(max(records, 1)), stride: uint32(1 + records/sampleSize),
		connections: s.connections[:0], others: s.others[:0],
	}
}

func (s *survey) add(r *bpf.FlowRecord, number uint32) {
	v, ok := victimOf(r, number)
	if !ok {
		return
	}
	s.flows[v.class].Add(int32(Coarse(s.began) - v.lastSeen))
	switch {
	case number%s.stride != 0 || v.class == superseded:
	case v.class == ClassEstablished:
		s.connections = append(s.connections, v)
	default:
		s.others = append(s.others, v)
	}
}

// choose selects the flows to evict after a survey, living and superseded ones: enough of
// them until the next survey is complete.
func (t *Table) choose(now int64) {
	s := &t.survey
	enough := 1 + max(0, t.highest()-surveyPace*Room)/8
	t.over = s.oldest(superseded, min(enough, 1+s.flows[superseded].flows/2), 0)
	t.victims, t.crowd = t.victims[:0], crowd{}
	if t.connections = t.idleConnections(now); len(t.connections) == 0 {
		t.victims = t.chooseVictims(t.victims, enough)
	}
}

// oldest returns the oldest flows of a class: `enough` of them, as far as there are as many
// of age `least`, in ticks.
func (s *survey) oldest(class Class, enough int, least uint32) cohort {
	age, n := s.flows[class].Oldest(enough, least)
	return cohort{class, s.since(age), n, packet.NoAddr}
}

// since returns the coarse time of the latest last packet of flows that had at least an age when
// the survey began. Flows of age 0 include those whose last packet is later than the survey:
// others may have had packets while the packet that needs room waited for the table.
func (s *survey) since(age uint32) uint32 {
	if age == 0 {
		return Coarse(s.began + int64(surveyTime))
	}
	return Coarse(s.began) - age
}

// chooseVictims applies the rule of evictionOrder. It ignores the idle flows of a class if
// they are less than 1/512 of the table, because finding them would take too long.
func (t *Table) chooseVictims(chosen []cohort, enough int) []cohort {
	s := &t.survey
	total, most := 0, evictionOrder[0]
	for _, class := range evictionOrder {
		if c := s.oldest(class, enough-total, uint32(SpareTime>>ClockShift)); c.left > s.looked/512 {
			chosen, total = append(chosen, c), total+c.left
		}
		if s.flows[class].flows > s.flows[most].flows {
			most = class
		}
	}
	if total >= enough || s.flows[most].flows == 0 {
		return chosen
	}
	if c := t.floodOf(most); c.left > 0 {
		chosen = append(chosen, c)
	}
	return append(chosen, s.oldest(most, enough, 0))
}

// floodOf returns the flows of a class of the client or segment that has more than half of them,
// if there is one: a flood that comes from one sender makes room before the flows of others.
func (t *Table) floodOf(class Class) (c cohort) {
	const enough = 512 // to tell who has more than half
	of, sample := make(map[packet.Addr]int), 0
	most, others := packet.NoAddr, t.survey.others
	for i := 0; i < len(others); i += 1 + len(others)/enough {
		if others[i].class != class {
			continue
		}
		site := t.siteOf(others[i])
		of[site]++
		sample++
		if of[site] > of[most] {
			most = site
		}
	}
	if 2*of[most] <= sample {
		return c
	}
	flows := t.survey.flows[class].flows
	return cohort{class, t.survey.since(0), flows * of[most] / sample, most}
}

// idleConnections returns established flows to evict, if there are more of them than their
// share.
func (t *Table) idleConnections(now int64) []victim {
	s := &t.survey
	beyond := excess(s.flows[ClassEstablished].flows, int(t.Counts.Limit.Load()))
	if beyond == 0 || len(s.connections) == 0 {
		return nil
	}
	of := byCrowding(s.connections, t.siteOf, func(v victim) uint32 { return v.lastSeen })
	t.crowd = t.crowdOf(s.connections, of)
	return idleOnes(s.connections[:min(1+len(s.connections)/64, beyond)], now)
}

// siteOf returns the site of the client that opened a flow.
func (t *Table) siteOf(v victim) packet.Addr { return packet.SiteOf(t.clientOf(v.number)) }
