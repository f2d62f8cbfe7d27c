package vnicbridge

import (
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/capture"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/elector"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/kernel"
)

// thisMachine is the Linux that the process runs on, with the kernel data path and the
// captures that it allows.
type thisMachine struct {
	*host.Machine
	places *kernel.Places
}

func newMachine() (machine, error) {
	m, err := host.Open()
	if err != nil {
		return nil, err
	}
	return &thisMachine{m, kernel.NewPlaces(m)}, nil
}

func (m *thisMachine) newKernelPath(o kernel.Options) (kernelPath, error) {
	return kernel.New(o, m.places.Hook)
}

func (m *thisMachine) capture(d iface.Device, o capture.SourceOptions) (capture.FrameSource, error) {
	return capture.OpenSource(m.places, d, o)
}

func (m *thisMachine) obstacles() []string {
	var families []config.Family
	for f := range config.Families {
		if m.HasRules(f) {
			families = append(families, f)
		}
	}
	all := append(m.RulesAhead(families...), m.places.ProgramsAhead()...)
	slices.Sort(all)
	return all
}

func (m *thisMachine) MakeFIFO(path string) error { return elector.MakeFIFO(path) }

func (m *thisMachine) Follow(path string, heard func(string), gone func(), stop <-chan struct{}) {
	elector.Follow(path, heard, gone, stop)
}

func (m *thisMachine) Track(path string, fit bool) error { return elector.Track(path, fit) }
