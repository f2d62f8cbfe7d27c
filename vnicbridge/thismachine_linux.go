package vnicbridge

import "slices"

// thisMachine is the Linux that the process runs on, with the kernel data path and the
// captures that it allows.
type thisMachine struct {
	*linuxMachine
	places *places
}

func newMachine() (machine, error) {
	m, err := openMachine()
	if err != nil {
		return nil, err
	}
	return &thisMachine{m, newPlaces(m)}, nil
}

func (m *thisMachine) newKernelPath(o pathOptions) (kernelPath, error) {
	return newPath(o, m.places.hook)
}

func (m *thisMachine) capture(d device, o sourceOptions) (frameSource, error) {
	return openSource(m.places, d, o)
}

func (m *thisMachine) obstacles() []string {
	all := append(m.rulesAhead(), m.places.programsAhead()...)
	slices.Sort(all)
	return all
}
