package flow

import (
	"math/bits"
	"math/rand/v2"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
)

// survey counts the flows of a table by class and age, to find which of them must go
// when it is full. In a flood it is made some records at a time, beside the work that
// comes up anyway: what waits for room does not wait for a look at a million records.
type survey struct {
	began       int64                 // ages are those at that time
	at          int                   // the record to begin with
	looked      int                   // at so many
	flows       [flowClasses + 1]Ages // the last of superseded ones
	connections []victim              // some established ones
}

// surveyTime is how old a survey may become.
const surveyTime = SpareTime

// Ages counts flows by the ticks of the coarse clock since their last packet: each of
// the first half minute by itself, then within 1/64.
type Ages struct {
	flows   int
	buckets [AgeBuckets]int32
}

const (
	exactAges  = 1 << exactBits
	exactBits  = 9
	Shares     = 64
	AgeBuckets = exactAges + (32-exactBits)*Shares
)

func AgeBucket(age uint32) int {
	if age < exactAges {
		return int(age)
	}
	magnitude := bits.Len32(age) - 1
	return exactAges + (magnitude-exactBits)*Shares + int(age>>(magnitude-6)%Shares)
}

// Youngest is the least age in a bucket.
func Youngest(bucket int) uint32 {
	if bucket < exactAges {
		return uint32(bucket)
	}
	magnitude, share := (bucket-exactAges)/Shares+exactBits, (bucket-exactAges)%Shares
	return uint32(Shares+share) << (magnitude - 6)
}

func (a *Ages) Add(age int32) {
	a.flows++
	a.buckets[AgeBucket(uint32(max(age, 0)))]++
}

// Oldest tells from which age on there are enough flows, but none below another age;
// and how many they are.
func (a *Ages) Oldest(enough int, least uint32) (age uint32, n int) {
	for b := AgeBuckets - 1; b >= AgeBucket(least) && n < enough; b-- {
		if a.buckets[b] > 0 {
			age, n = Youngest(b), n+int(a.buckets[b])
		}
	}
	return age, n
}

// cohort is flows that may have to go: those of a class, living or superseded, that had
// their last packet by then. They go in the order of their records, which new flows
// are given in that order too.
type cohort struct {
	class  Class // or superseded
	before uint32
	left   int // that there were
}

// superseded stands for the flows of any class that are.
const superseded = flowClasses

// next finds the next flow of a cohort.
func (t *Table) next(c *cohort) (number uint32, ok bool) {
	hand, highest := &t.hands[c.class], t.highest()
	for range highest {
		if c.left == 0 {
			break
		}
		if *hand++; *hand >= highest {
			*hand = 0
		}
		if c.has(&t.Records[*hand]) {
			c.left--
			return uint32(*hand), true
		}
	}
	c.left = 0
	return 0, false
}

func (c *cohort) has(r *bpf.FlowRecord) bool {
	v, ok := victimOf(r, 0)
	return ok && v.class == c.class && int32(c.before-v.lastSeen) >= 0
}

// goOn looks at some more records, and chooses anew when all were looked at.
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

// lookAtAll makes a survey at once.
func (t *Table) lookAtAll(now int64) {
	t.survey.looked = 0
	t.goOn(now, max(t.highest(), 1))
}

func (s *survey) restart(now int64, records int) {
	*s = survey{began: now, at: rand.IntN(max(records, 1)), connections: s.connections[:0]}
}

func (s *survey) add(r *bpf.FlowRecord, number uint32) {
	v, ok := victimOf(r, number)
	if !ok {
		return
	}
	s.flows[v.class].Add(int32(Coarse(s.began) - v.lastSeen))
	if v.class == ClassEstablished && len(s.connections) < crowdSample {
		s.connections = append(s.connections, v)
	}
}

// choose chooses, by a survey of all records, which flows are to go, living and
// superseded ones: enough of them to last until there is the next survey.
func (t *Table) choose(now int64) {
	s := &t.survey
	enough := 1 + max(0, t.highest()-surveyPace*Room)/8
	t.over = s.oldest(superseded, min(enough, 1+s.flows[superseded].flows/2), 0)
	t.victims = t.victims[:0]
	if t.connections = t.idleConnections(now); len(t.connections) == 0 {
		t.victims = s.chooseVictims(t.victims, enough)
	}
}

// oldest is enough flows of a class that have at least some age.
func (s *survey) oldest(class Class, enough int, least uint32) cohort {
	age, n := s.flows[class].Oldest(enough, least)
	return cohort{class, Coarse(s.began) - age, n}
}

// chooseVictims is the rule of evictionOrder. A few idle flows in a large table are left
// alone when there are others: to find them would take longer than it is worth.
func (s *survey) chooseVictims(chosen []cohort, enough int) []cohort {
	total, most := 0, evictionOrder[0]
	for _, class := range evictionOrder {
		if c := s.oldest(class, enough-total, uint32(SpareTime>>ClockShift)); c.left > s.looked/512 {
			chosen, total = append(chosen, c), total+c.left
		}
		if s.flows[class].flows > s.flows[most].flows {
			most = class
		}
	}
	if c := s.oldest(most, enough, 0); total < enough && c.left > 0 {
		chosen = append(chosen, c)
	}
	return chosen
}

// idleConnections are established flows that make room when they take more than their
// share.
func (t *Table) idleConnections(now int64) []victim {
	s := &t.survey
	beyond := excess(s.flows[ClassEstablished].flows, int(t.Counts.Limit.Load()))
	if beyond == 0 || len(s.connections) == 0 {
		return nil
	}
	byCrowding(s.connections, func(v victim) uint32 { return t.Records[v.number].Orig.Src }, func(v victim) uint32 { return v.lastSeen })
	return idleOnes(s.connections[:min(1+len(s.connections)/64, beyond)], now)
}
