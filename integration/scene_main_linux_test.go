package integration_test

import (
	"flag"
	"os"
	"runtime"
	"strconv"
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
	runMore()
	os.Exit(m.Run())
}

// runMore lets twice as many tests as there are CPUs run beside each other, because
// they mostly wait. The flag -parallel says otherwise.
func runMore() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
}
