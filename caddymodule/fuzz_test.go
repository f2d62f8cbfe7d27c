package caddymodule

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

var atLine = regexp.MustCompile(`, at Testfile:\d+$`)

// FuzzCaddyfile: whatever stands in a vnic block, it becomes a valid
// configuration or an error with its line.
func FuzzCaddyfile(f *testing.F) {
	for _, fixture := range fixtures(f) {
		if _, rest, ok := strings.Cut(fixture.caddyfile, "\tvnic"); ok {
			f.Add("vnic" + rest)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		d := caddyfile.NewTestDispenser(text)
		if !d.Next() {
			return // no option at all
		}
		d.Reset()
		value, err := parseVNIC(d, nil)
		if err != nil {
			if !atLine.MatchString(err.Error()) {
				t.Errorf("error without its line: %v", err)
			}
			return
		}
		var config vnicbridge.Config
		if err := json.Unmarshal(value.(httpcaddyfile.App).Value, &config); err != nil {
			t.Fatal(err)
		}
		if err := config.Validate(); err != nil {
			t.Error(err)
		}
	})
}
