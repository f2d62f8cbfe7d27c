package command

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

// shownClients is the number of clients that a draining segment's line names.
const shownClients = "5"

// writeLeft writes which clients still have flows of a segment that gets no new ones.
func writeLeft(w io.Writer, admin *adminFlags, segment string, state config.State) error {
	query := url.Values{"segment": {segment}, "state": {string(flowlist.Established)}, "limit": {shownClients}}
	raw, err := admin.request(http.MethodGet, api.ClientsPath+"?"+query.Encode())
	if err != nil {
		return err
	}
	left, err := parseAnswer[flowlist.ClientList](raw)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "Segment %s is %s: %s.\n", segment, state, holders(left))
	return err
}

// holders says how many flows are left, and which clients have them.
func holders(l flowlist.ClientList) string {
	var clients []string
	others := l.Matched
	for _, c := range l.Clients {
		clients = append(clients, fmt.Sprintf("%d of %s", c.Flows, c.Address))
		others -= c.Flows
	}
	if others > 0 {
		clients = append(clients, fmt.Sprintf("%d of others", others))
	}
	switch l.Matched {
	case 0:
		return "no flow is left"
	case 1:
		return "1 flow is left, " + clients[0]
	}
	return fmt.Sprintf("%d flows are left, %s", l.Matched, strings.Join(clients, ", "))
}
