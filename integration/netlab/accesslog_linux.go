package netlab

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// Access is a request in an access log of Caddy, as the directive `log` of a site
// makes it in Caddy's own log.
type Access struct {
	Logger  string // "http.log.access" and the site's log, as in http.log.access.log0
	Status  int
	Segment string // by log_append
	Request struct {
		RemoteIP string `json:"remote_ip"`
		ClientIP string `json:"client_ip"`
		Proto    string
		URI      string
	}
}

// Accesses returns the requests that Caddy has logged so far. A request is logged
// when it has been answered.
func (c *Caddy) Accesses() (accesses []Access, err error) {
	log, err := os.ReadFile(c.opts.Log)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	for line := range strings.Lines(string(log)) {
		var a Access
		// The log has lines of programs that are not Caddy, too.
		if json.Unmarshal([]byte(line), &a) == nil && strings.HasPrefix(a.Logger, "http.log.access") {
			accesses = append(accesses, a)
		}
	}
	return accesses, nil
}
