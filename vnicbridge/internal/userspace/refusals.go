package userspace

import (
	"maps"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// refusals are the TCP options that servers have refused. The bridge answers a client before it knows
// the server, and offers what every server has accepted (N5): an end that has agreed on timestamps may
// drop segments without them (RFC 7323 §3.2), and waits in vain for selective acknowledgments. MSS and
// scale are not learnt, because the path bounds the former, and windows are shifted.
type refusals struct {
	of map[serverAt]refused
	at map[*iface.Iface]refused // by the NIC's iface: what any server refuses
}

// serverAt is a server by its VNIC's iface, for clients at a NIC's iface.
type serverAt struct{ nic, vnic *iface.Iface }

type refused struct{ sack, times bool }

// heed takes from an offer to a client at a NIC what some server refuses.
func (r *refusals) heed(nic *iface.Iface, o packet.Offer) packet.Offer {
	no := r.at[nic]
	o.SACK, o.Timed = o.SACK && !no.sack, o.Timed && !no.times
	return o
}

// forwarded returns what a server gets of a client's offer to which the bridge has answered with an
// offer: what the bridge has accepted. A server that has refused an option gets the option as well,
// to tell when that changes.
func (r *refusals) forwarded(fl *flow.Flow, answer packet.Offer) packet.Offer {
	no := r.of[serverAt{fl.In, fl.Out}]
	answer.SACK, answer.Timed = answer.SACK || no.sack, answer.Timed || no.times
	return answer
}

// learn takes a server's answer to what it has got of a client's offer.
func (r *refusals) learn(fl *flow.Flow, asks, got, accepts packet.Offer) {
	server := serverAt{fl.In, fl.Out}
	before := r.of[server]
	now := before
	if asks.SACK && got.SACK {
		now.sack = !accepts.SACK
	}
	if asks.Timed && got.Timed {
		now.times = !accepts.Timed
	}
	if now == before {
		return
	}
	if r.of == nil {
		r.of = make(map[serverAt]refused)
	}
	r.of[server] = now
	r.sum()
}

// tick forgets the servers whose devices are gone.
func (r *refusals) tick() {
	if len(r.of) > 0 {
		r.sum()
	}
}

// sum forgets servers without refusals and those whose devices are gone, and finds what any of the
// others refuses.
func (r *refusals) sum() {
	maps.DeleteFunc(r.of, func(s serverAt, no refused) bool {
		return no == refused{} || s.nic.Closed.Load() || s.vnic.Closed.Load()
	})
	r.at = make(map[*iface.Iface]refused)
	for s, no := range r.of {
		all := r.at[s.nic]
		r.at[s.nic] = refused{all.sack || no.sack, all.times || no.times}
	}
}
