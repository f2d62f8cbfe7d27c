package caddyfile

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

var atLine = regexp.MustCompile(`, at Testfile:\d+$`)

// FuzzCaddyfile checks that every vnic block becomes a valid configuration, or an error with a
// line.
func FuzzCaddyfile(f *testing.F) {
	paths, err := filepath.Glob("../../testdata/adapt/*.caddyfiletest")
	if err != nil || len(paths) == 0 {
		f.Fatal("no fixtures: ", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		caddyfile, _, _ := strings.Cut(string(text), "\n----------\n")
		if _, rest, ok := strings.Cut(caddyfile, "\tvnic"); ok {
			f.Add("vnic" + rest + "\n")
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		d := caddyfile.NewTestDispenser(text)
		if !d.Next() {
			return // there is no option
		}
		d.Reset()
		value, err := Parse(d, nil)
		if err != nil {
			if !atLine.MatchString(err.Error()) {
				t.Errorf("error without its line: %v", err)
			}
			return
		}
		var config config.Config
		if err := json.Unmarshal(value.(httpcaddyfile.App).Value, &config); err != nil {
			t.Fatal(err)
		}
		if err := config.Validate(); err != nil {
			t.Error(err)
		}
	})
}
