package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// oursConfig makes Caddy the data plane only. The servers on the segment are those of every
// variant.
const oursConfig = `{
	vnic {
		segment a {
			interface vnic-A
			address %[3]s
			ports tcp/80 tcp/5201 tcp/7 udp/7 udp/9%[6]s
		}
		bridge lan {
			nic nic0
			address %[4]s
			gateway %[5]s
			lb_policy first a
			on_no_segment %[2]s
		}
		datapath %[1]s
	}
}
`

func startBridge(datapath string) func(context.Context, *site) error {
	return func(ctx context.Context, s *site) error { return s.startBridge(ctx, datapath) }
}

func (s *site) startBridge(ctx context.Context, datapath string) error {
	if err := s.startCaddy(ctx, s.oursConfig(datapath, "reject")); err != nil {
		return err
	}
	policies := [2]string{"drop", "reject"} // alternating, so that each reload changes something
	s.reload = func(ctx context.Context) error {
		if _, err := s.write("Caddyfile", s.oursConfig(datapath, policies[0])); err != nil {
			return err
		}
		policies[0], policies[1] = policies[1], policies[0]
		return s.caddy.Reload(ctx)
	}
	return s.checkDatapath(ctx, datapath)
}

func (s *site) oursConfig(datapath, onNoSegment string) string {
	option := ""
	switch {
	case s.netns:
		option = "\n\t\t\tnetns " + s.inside.Namespace()
	case s.limits:
		option = "\n\t\t\tlimit rate 1Tbit/s\n\t\t\tlimit flows 1000000\n\t\t\tlimit flows_per_client 1000000\n\t\t\tlimit new 10000000/s"
	}
	return fmt.Sprintf(oursConfig, datapath, onNoSegment, s.inner, s.public, s.gateway.Addr(), option)
}

// startCaddy starts Caddy, ours or stock, as the variant's data plane.
func (s *site) startCaddy(ctx context.Context, config string) error {
	path, err := s.write("Caddyfile", config)
	if err != nil {
		return err
	}
	s.caddy, err = s.server.StartCaddy(ctx, netlab.CaddyOptions{
		Program: s.bench.caddy, Config: path, Log: s.path("caddy.log"), State: s.dir,
	})
	if err != nil {
		return err
	}
	s.pid = s.caddy.Process().PID()
	return nil
}

// checkDatapath returns an error unless Caddy uses the wanted data path.
func (s *site) checkDatapath(ctx context.Context, want string) error {
	status, err := s.status(ctx)
	if err != nil {
		return err
	}
	if string(status.Datapath) != want {
		return fmt.Errorf("the data path in use is %s, want %s", status.Datapath, want)
	}
	return nil
}

// status asks Caddy for the data plane's status.
func (s *site) status(ctx context.Context) (status vnicbridge.Status, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost:2019/vnic/status", nil)
	if err != nil {
		return status, err
	}
	answer, err := s.server.HTTPClient().Do(request)
	if err != nil {
		return status, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return status, fmt.Errorf("GET /vnic/status: %s", answer.Status)
	}
	return status, json.NewDecoder(answer.Body).Decode(&status)
}
