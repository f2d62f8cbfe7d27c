package rules

import (
	"maps"
	"slices"
)

// Labels number the labels of the steer rules with names, so that a flow's record can tell with a few
// bytes which rule has chosen its segment. A label keeps its number as long as a rule has it, and a
// number never gets another label, so a record outlives its rule without telling a wrong one. The
// zero value has no labels. Labels are immutable.
type Labels struct {
	last    uint32 // the largest number so far
	numbers map[string]uint32
	labels  map[uint32]string
}

// LabelsOf returns labels with their numbers.
func LabelsOf(numbers map[string]uint32) *Labels {
	l := &Labels{numbers: numbers, labels: make(map[uint32]string)}
	for label, number := range numbers {
		l.labels[number], l.last = label, max(l.last, number)
	}
	return l
}

// Of returns the labels of a ruleset that comes after the one of l.
func (l *Labels) Of(r *Ruleset) *Labels {
	next := &Labels{last: l.last, numbers: make(map[string]uint32), labels: make(map[uint32]string)}
	for _, bridge := range r.Bridges {
		for i := range bridge.Decisions.Rules {
			if rule := &bridge.Decisions.Rules[i]; rule.Names != nil {
				next.add(rule.Label, l)
			}
		}
	}
	return next
}

// add numbers a label, as before if it has had a number.
func (l *Labels) add(label string, before *Labels) {
	number, ok := before.numbers[label]
	if !ok {
		number, ok = l.numbers[label]
	}
	if !ok {
		l.last++
		number = l.last
	}
	l.numbers[label], l.labels[number] = number, label
}

// Number returns the number of a label: 0 if no rule has it.
func (l *Labels) Number(label string) uint32 { return l.numbers[label] }

// Label returns the label of a number: "" if no rule has it.
func (l *Labels) Label(number uint32) string { return l.labels[number] }

// Numbers returns the numbers of all labels. The caller does not change them.
func (l *Labels) Numbers() map[string]uint32 { return l.numbers }

// All returns all labels.
func (l *Labels) All() []string { return slices.Sorted(maps.Keys(l.numbers)) }
