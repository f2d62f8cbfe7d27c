package vnicbridge

import (
	"fmt"
	"slices"
)

func (m *linuxMachine) obstacles() []string {
	all := append(m.rulesAhead(), m.programsAhead()...)
	slices.Sort(all)
	return all
}

// rulesAhead tells of routing rules that come before ours.
func (m *linuxMachine) rulesAhead() (told []string) {
	rules, err := listRules(m.ns)
	if err != nil {
		return nil // which keeping the rules tells
	}
	_, ahead := placeOfOurs(rules)
	for _, r := range ahead {
		told = append(told, fmt.Sprintf("a routing rule of priority %d comes before the segments' own, and nothing can stand before it: the answers that it matches are lost; give it a higher number (ip rule)", r.Priority))
	}
	return told
}
