package caddymodule_test

import (
	"encoding/json"
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-vnic/caddy-vnic/caddymodule"
)

// ExampleApp shows how the global option vnic of a Caddyfile becomes the app apps.vnic.
func ExampleApp() {
	const caddyfile = `{
	vnic {
		segment a {
			address 192.168.50.1/24 fd00:50::1/64
		}
		bridge lan {
			nic eth1
			address 192.168.1.2/24 2001:db8:1::2/64
			gateway 192.168.1.1 fe80::1
			lb_policy first a
		}
	}
}
http:// {
	bind vnic/a
	respond "hello, {remote_host}"
}
`
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	var config struct {
		Apps struct {
			VNIC caddymodule.App `json:"vnic"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(adapted, &config); err != nil {
		fmt.Println(err)
		return
	}
	app := &config.Apps.VNIC
	text, err := json.MarshalIndent(app, "", "  ")
	fmt.Println(string(text), err, app.Validate())
	// Output:
	// {
	//   "segments": {
	//     "a": {
	//       "addresses": [
	//         "192.168.50.1/24",
	//         "fd00:50::1/64"
	//       ]
	//     }
	//   },
	//   "bridges": {
	//     "lan": {
	//       "nic": "eth1",
	//       "addresses": [
	//         "192.168.1.2/24",
	//         "2001:db8:1::2/64"
	//       ],
	//       "gateways": [
	//         "192.168.1.1",
	//         "fe80::1"
	//       ],
	//       "lb_policy": {
	//         "policy": "first",
	//         "segments": [
	//           "a"
	//         ]
	//       }
	//     }
	//   }
	// } <nil> <nil>
}
