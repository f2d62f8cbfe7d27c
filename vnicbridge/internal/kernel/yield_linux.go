package kernel

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// FilesAt returns the open files of the slow path of an iface for a successor.
func (k *Path) FilesAt(p *iface.Iface) (succession.Files, error) {
	if a := k.attached(p.Index); a != nil {
		return a.Files()
	}
	return nil, nil
}

// GiveWay lets the programs of a successor come before this path's, or no longer does. To put a
// program first again would leave its device without one for a moment.
func (k *Path) GiveWay(on bool) { k.givesWay.Store(on) }

// Yield makes the programs leave every packet to userspace, and stops reading the slow path, so
// that the packets wait there for a successor.
func (k *Path) Yield() {
	k.Drain()
	k.pause(true)
	k.carriers.Wait()
}

// Resume ends what Yield began.
func (k *Path) Resume() {
	k.pause(false)
	k.Each(k.carrySlow)
	k.Plane.mode.Store(bpf.Fast)
}

func (k *Path) pause(on bool) {
	k.Each(func(a *Attachment) {
		if slow, _ := a.Slow(); slow != nil {
			if err := slow.(iface.Pauser).Pause(on); err != nil {
				k.Log.Error("pausing the slow path", "device", a.Iface.Name, "error", err)
			}
		}
	})
}
