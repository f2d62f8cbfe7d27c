package integration_test

import (
	"os"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-vnic/caddy-vnic"
)

// asCaddy in the environment makes this test binary the custom Caddy binary.
const asCaddy = "CADDY_VNIC_AS_CADDY=1"

func TestMain(m *testing.M) {
	if os.Getenv("CADDY_VNIC_AS_CADDY") != "" {
		if err := meetKernel(); err != nil {
			panic(err)
		}
		caddycmd.Main()
		return
	}
	os.Exit(m.Run())
}
