package vnicbridge

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// FuzzConfig: whatever JSON is loaded as a configuration, it is refused or valid,
// and a valid one says the same when it is written and read again.
func FuzzConfig(f *testing.F) {
	paper, err := json.Marshal(paperConfig())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(paper)
	f.Add([]byte(`{"segments": {"a": null}, "bridges": {"lan": {"steer": [{"segment": "a", "ports": ["udp/1-65535"], "clients": ["10.0.0.0/8"]}]}}}`))
	f.Add([]byte(`{"segments": {"front": {"addresses": ["192.168.40.1/24"], "reach": ["front"], "aliases": "192.168.40.2-192.168.40.1"}}, "max_flows": -1}`))
	f.Add([]byte(`{"segments": {"a": {"addresses": ["192.168.50.1/24", "fd00:50::1/64"]}, "b": {"addresses": ["fd00:60::1/120"], "aliases": "fd00:60::2-fd00:60::9", "reach": ["a"]}},
		"bridges": {"lan": {"nic": "eth1", "addresses": ["2001:db8:1::2/128"], "gateways": ["fe80::1"], "link_local": "fe80::2",
		"steer": [{"segment": "b", "clients": ["2001:db8::/32"]}, {"segment": "a", "names": ["*.Bücher.example."], "ports": ["tcp/8443"]}, {"sites": true}], "lb_policy": {"policy": "ip_hash", "segments": ["a"]}}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var cfg config.Config
		if json.Unmarshal(text, &cfg) != nil || cfg.Validate() != nil {
			return
		}
		written, err := json.Marshal(&cfg)
		if err != nil {
			t.Fatal(err)
		}
		var again config.Config
		if err := json.Unmarshal(written, &again); err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		if err := again.Validate(); err != nil {
			t.Fatalf("%s is valid once and then not: %v", written, err)
		}
		rewritten, err := json.Marshal(&again)
		if err != nil || !reflect.DeepEqual(written, rewritten) {
			t.Errorf("%s becomes %s (%v)", written, rewritten, err)
		}
	})
}
