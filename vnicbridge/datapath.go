package vnicbridge

import "time"

// dataPath carries packets between ports, as a ruleset says. Its flows outlive
// changes of the rules.
type dataPath interface {
	// setRules replaces the rules for new flows.
	setRules(*ruleset)
	currentRules() *ruleset
	// setLimit bounds the number of flows.
	setLimit(flows int)
	// run carries what comes in at a port until its device fails or is closed.
	run(*port) error
	// lookup finds the flow of a key, and the direction that the key is of.
	lookup(flowKey) (*flow, direction)
	// end ends flows at once, and tells both sides.
	end(condition func(*flow) bool)
	flowCount() int
	// tick does what time asks for.
	tick(now int64, passed time.Duration)
}
