package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Bans is the body of the answer to GET /vnic/bans.
type Bans struct {
	Total int              `json:"total"` // also those beyond the limit
	Bans  []vnicbridge.Ban `json:"bans"`
}

// listedBans says which bans are listed.
type listedBans struct {
	limit   int    // 0: all
	segment string // not "": only those of this segment
}

// banParameters are the query parameters of GET /vnic/bans.
var banParameters = Parameters[listedBans]{
	"limit": {"The most bans that are listed (default all)", func(l *listedBans, text string) (err error) {
		if l.limit, err = strconv.Atoi(text); err != nil || l.limit < 1 {
			return fmt.Errorf("limit %q: want a number from 1", text)
		}
		return nil
	}},
	"segment": {"Only bans of this segment", func(l *listedBans, text string) error {
		l.segment = text
		return nil
	}},
}

func (a *API) listBans(w http.ResponseWriter, r *http.Request) error {
	wanted, err := banParameters.parse(r.URL.Query())
	if err != nil {
		return badRequest(err)
	}
	all := a.shared.Plane.Bans()
	if wanted.segment != "" {
		all = slices.DeleteFunc(all, func(b vnicbridge.Ban) bool { return b.Segment != wanted.segment })
	}
	listed := Bans{len(all), all}
	if wanted.limit > 0 && wanted.limit < len(all) {
		listed.Bans = all[:wanted.limit]
	}
	return answer(w, listed)
}

// BanRequest is the body of POST and DELETE /vnic/bans.
type BanRequest struct {
	Networks []string `json:"networks"`          // addresses and networks
	Bridge   string   `json:"bridge,omitempty"`  // empty: all
	Segment  string   `json:"segment,omitempty"` // in place of a bridge: they are banned from this segment

	// Only for POST.
	For   caddy.Duration `json:"for,omitempty"`   // 0: until DELETE
	Own   []netip.Addr   `json:"own,omitempty"`   // of who asks: they are not banned by accident
	Force bool           `json:"force,omitempty"` // ban own addresses and gateways too
}

// serveBans serves /vnic/bans.
func (a *API) serveBans(w http.ResponseWriter, r *http.Request) error {
	if err := a.require(w, r, http.MethodGet, http.MethodPost, http.MethodDelete); err != nil {
		return err
	}
	if r.Method == http.MethodGet {
		return a.listBans(w, r)
	}
	var want BanRequest
	if err := decode(r, &want, `{"networks": ["203.0.113.7"], "for": "1h"}`); err != nil {
		return err
	}
	networks, err := want.parse()
	if err != nil {
		return badRequest(err)
	}
	a.operating.Lock()
	defer a.operating.Unlock()
	switch {
	case r.Method == http.MethodDelete && want.Segment != "" && want.Bridge != "":
		err = errors.New("both a bridge and a segment: want one of them")
	case r.Method == http.MethodDelete && want.Segment != "":
		err = a.shared.Plane.UnbanFrom(want.Segment, networks...)
	case r.Method == http.MethodDelete:
		err = a.shared.Plane.Unban(want.Bridge, networks...)
	default:
		err = a.shared.Plane.Ban(vnicbridge.BanRequest{
			Networks: networks, Bridge: want.Bridge, Segment: want.Segment, For: time.Duration(want.For),
			Protected: append(want.Own, remoteOf(r)...), Force: want.Force,
		})
	}
	a.shared.Keep()
	switch {
	case errors.Is(err, vnicbridge.ErrProtected):
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: err}
	case err != nil:
		return badRequest(err)
	}
	return nil
}

// parse returns the networks of a request.
func (r *BanRequest) parse() (networks []netip.Prefix, err error) {
	if len(r.Networks) == 0 {
		return nil, errors.New("networks are missing: want addresses or networks, as in 203.0.113.7 or 2001:db8::/64")
	}
	for _, text := range r.Networks {
		network, err := config.ParseClient(text)
		if err != nil {
			return nil, fmt.Errorf("networks: %w", err)
		}
		networks = append(networks, network)
	}
	return networks, nil
}

// remoteOf returns the address from which a request came, unless it came from this machine.
func remoteOf(r *http.Request) []netip.Addr {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || remote.Addr().IsLoopback() {
		return nil
	}
	return []netip.Addr{remote.Addr().Unmap()}
}
