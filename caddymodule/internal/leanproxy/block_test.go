package leanproxy

import (
	"strings"
	"testing"
)

// TestPlainBlocks checks that the lean proxy leaves a block with any option that it does not
// know to reverse_proxy.
func TestPlainBlocks(t *testing.T) {
	for _, test := range []struct{ options, want string }{
		{``, ""},
		{`"load_balancing": {"selection_policy": {"policy": "least_conn"}, "retries": 1, "try_duration": "1s", "try_interval": "1ms"},`, ""},
		{`"health_checks": {"passive": {"fail_duration": "1s", "max_fails": 2, "unhealthy_status": [5], "unhealthy_request_count": 9}, "active": {"uri": "/", "interval": "1h"}},`, ""},
		{`"stream_timeout": "1s", "stream_close_delay": "1s", "stream_buffer_size": 4096, "proxy_status_name": "x",`, ""},
		{`"headers": {"request": {"set": {"X": ["y"]}}},`, "headers"},
		{`"rewrite": {"strip_path_prefix": "/x"},`, "rewrite"},
		{`"handle_response": [{"match": {"status_code": [404]}, "routes": []}],`, "handle_response"},
		{`"flush_interval": -1,`, "flush_interval"},
		{`"request_buffers": 1,`, "request_buffers"},
		{`"response_buffers": 1,`, "response_buffers"},
		{`"trusted_proxies": ["192.0.2.0/24"],`, "trusted_proxies"},
		{`"verbose_logs": true,`, "verbose_logs"},
		{`"load_balancing": {"retry_match": [{"method": ["POST"]}]},`, "retry_match"},
		{`"load_balancing": {"selection_policy": {"policy": "header", "field": "X"}},`, "selection_policy"},
		{`"load_balancing": {"selection_policy": {"policy": "cookie"}},`, "selection_policy"},
		{`"health_checks": {"passive": {"unhealthy_latency": "1s"}},`, "unhealthy_latency"},
		{`"transport": {"protocol": "http", "compression": true},`, "compression"},
		{`"transport": {"protocol": "http"},`, "compression"},
		{`"transport": {"protocol": "http", "compression": false, "tls": {}},`, "tls"},
		{`"transport": {"protocol": "http", "compression": false, "proxy_protocol": "v1"},`, "proxy_protocol"},
		{`"transport": {"protocol": "http", "compression": false, "max_conns_per_host": 1},`, "max_conns_per_host"},
		{`"transport": {"protocol": "http", "compression": false, "response_header_timeout": "1s"},`, "response_header_timeout"},
		{`"transport": {"protocol": "http", "compression": false, "read_timeout": "1s"},`, "read_timeout"},
		{`"transport": {"protocol": "http", "compression": false, "write_timeout": "1s"},`, "write_timeout"},
		{`"transport": {"protocol": "http", "compression": false, "max_response_header_size": 4095},`, "max_response_header_size"},
		{`"transport": {"protocol": "http", "compression": false, "versions": ["h2c", "2"]},`, "versions"},
		{`"transport": {"protocol": "http", "compression": false, "keep_alive": {"enabled": false}},`, "keep_alive"},
		{`"transport": {"protocol": "http", "compression": false, "keep_alive": {"max_idle_conns": 5}},`, "max_idle_conns"},
		{`"transport": {"protocol": "http", "compression": false, "keep_alive": {"max_idle_conns_per_host": -1}},`, "keep_alive"},
		{`"transport": {"protocol": "http", "compression": false, "dial_timeout": "1s", "versions": ["1.1"], "max_response_header_size": 4096, "keep_alive": {"max_idle_conns_per_host": 5, "idle_timeout": "1s", "probe_interval": "1s"}},`, ""},
	} {
		u := newScripted(t, ok)
		newRig(t, []string{u.address}, []string{u.address}, test.options)
		loaded, _ := layers.Load(false)
		h := &loaded.(*layer).Handler
		if h.unknown != test.want || (h.lean == nil) != (test.want != "") {
			t.Errorf("%s: the option is %q, want %q; a lean proxy: %v", strings.TrimSuffix(test.options, ","), h.unknown, test.want, h.lean != nil)
		}
	}
}
