package integration_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row F1: 2,000 connections, one for each request, by way of the
// router's NAT and to both segments in turn, without one error.
func TestShortConnections(t *testing.T) {
	const connections, clients = 2000, 32
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{NAT: true})
		s.start(caddyfile{datapath: datapath, policy: "lb_policy round_robin a b", sites: `
http:// {
	bind vnic/a
	respond "a serves {http.request.uri}"
}
http:// {
	bind vnic/b
	respond "b serves {http.request.uri}"
}
`})
		client := s.PC1.HTTPClient()
		var servedByA atomic.Int64
		var work errgroup.Group
		work.SetLimit(clients)
		for i := range connections {
			work.Go(func() error {
				path := fmt.Sprintf("/%d", i)
				body, err := fetch(client, "http://192.168.1.2"+path)
				switch {
				case err != nil:
					return err
				case body == "a serves "+path:
					servedByA.Add(1)
				case body != "b serves "+path:
					return fmt.Errorf("%s: got %q", path, body)
				}
				return nil
			})
		}
		if err := work.Wait(); err != nil {
			t.Fatal(err)
		}
		if got := servedByA.Load(); got != connections/2 {
			t.Errorf("a served %d of %d", got, connections)
		}
		status := s.status()
		if got := status.Bridges["lan"].NewFlows; got != connections {
			t.Errorf("%d flows for %d connections", got, connections)
		}
		if drops := status.Bridges["lan"].Drops; len(drops) > 0 {
			t.Errorf("dropped on the NIC: %v", drops)
		}
	})
}
