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

// programs are what else the environment makes of this test binary.
var programs = map[string]func() error{}

func TestMain(m *testing.M) {
	if os.Getenv("CADDY_VNIC_AS_CADDY") != "" {
		if err := meetKernel(); err != nil {
			panic(err)
		}
		caddycmd.Main()
		return
	}
	for name, run := range programs {
		if os.Getenv(name) != "" {
			if err := run(); err != nil {
				panic(err)
			}
			return
		}
	}
	// A program with the race detector sleeps for a second before it ends, and each
	// command of Caddy's is one.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
